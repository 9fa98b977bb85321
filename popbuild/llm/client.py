"""The one importer of litellm: sends one request, once, and gives the answer or the failure.

litellm retries, streams and asks the network for prices by itself unless it is configured not to.
Here it does none of that: retries are in sending.py, limits in admission.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

# Before the import: otherwise it asks the network for prices and reads a `.env` file.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
# Its other transports are made elsewhere: there, wire.py could not read what providers send.
os.environ["DISABLE_AIOHTTP_TRANSPORT"] = os.environ["LITELLM_HTTP2"] = "False"

import httpx
import litellm
import litellm.exceptions
import litellm.utils
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from popbuild.base.errors import ProviderError
from popbuild.llm import embedded, failures, reading
from popbuild.llm.attachments import size_bytes, with_bytes
from popbuild.llm.endpoint import EMBEDDED_MODEL
from popbuild.llm.request import Answer, Request, is_local
from popbuild.llm.wire import HttpExchange, Recorder, recorded

try:
    from litellm._internal_context import is_internal_call as _is_internal_call
except ImportError:
    _is_internal_call = None

litellm.suppress_debug_info = True
# About bodies that differ a little from OpenAI's: we read them as they came.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydantic\.")
litellm.telemetry = False
logging.getLogger("LiteLLM").setLevel(logging.ERROR)

# Prices of a token; each token has one of them.
_OF_INPUT = ("input_cost_per_token", "cache_creation_input_token_cost")
_OF_OUTPUT = ("output_cost_per_token", "output_cost_per_reasoning_token")


class _Local(litellm.CustomLLM):  # type: ignore[misc]  # litellm is untyped to us
    """litellm's `local/…`: the embedded model."""

    async def acompletion(self, *_args: Any, **given: Any) -> Any:
        parameters = dict(given["optional_params"])
        parameters.update(parameters.pop("extra_body", None) or {})
        result = await asyncio.to_thread(
            embedded.complete, given["messages"], parameters, dict(os.environ)
        )
        return litellm.ModelResponse(**{**result, "model": f"local/{given['model']}"})


def _record_what_is_sent() -> None:
    """Put our transport around each that litellm makes, for OpenAI's clients and for its own."""
    make = AsyncHTTPHandler.create_async_transport

    def make_recorder(*args: Any, **options: Any) -> httpx.AsyncBaseTransport:
        return Recorder(make(*args, **options))

    AsyncHTTPHandler.create_async_transport = staticmethod(make_recorder)


def _register_local() -> None:
    litellm.custom_provider_map = [{"provider": "local", "custom_handler": _Local()}]
    litellm.utils.custom_llm_setup()
    free = {
        "litellm_provider": "local",
        "mode": "chat",
        "max_tokens": embedded.CONTEXT_TOKENS,
        "supports_response_schema": True,
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "cache_read_input_token_cost": 0.0,
        "cache_creation_input_token_cost": 0.0,
    }
    litellm.register_model({EMBEDDED_MODEL: free})


_register_local()
_record_what_is_sent()

# litellm brings half a million objects that live as long as the command, and each call makes a
# thousand short-lived ones: collecting garbage among all of them was a tenth of a task's time.
gc.freeze()
gc.set_threshold(10_000)


async def send(request: Request, timeout_s: float, limit_bytes: int) -> Answer:
    """One HTTP request, one complete answer of at most so many bytes. Raises TransportError; never
    retries."""
    parameters, warnings = _supported(request)
    messages = await _messages(request)
    started = time.monotonic()
    # litellm's own timeout starts anew with each byte, so a slow sender could hold a call for ever.
    # The embedded model runs in a thread, which no timeout stops.
    whole = asyncio.timeout(None if is_local(request.model) else timeout_s)
    response, failed = None, None
    with recorded(limit_bytes) as exchange, _without_callbacks():
        try:
            async with whole:
                response = await litellm.acompletion(
                    model=request.model,
                    messages=messages,
                    max_retries=0,
                    num_retries=0,
                    timeout=timeout_s,
                    **parameters,
                )
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if whole.expired():
                raise failures.too_slow(request.model, timeout_s) from None
            failed = error
    found = _read(request, response, failed, exchange)
    return Answer(
        found,
        None if response is None else _cost(request.model, response),
        round((time.monotonic() - started) * 1000, 1),
        (*warnings, *reading.odd_end(request.model, found)),
    )


@contextlib.contextmanager
def _without_callbacks() -> Iterator[None]:
    """Inside, litellm prepares nothing for callbacks, of which it has none here: an eighth of what
    a call costs. A version of it that lacks this variable only takes longer."""
    if _is_internal_call is None:
        yield
        return
    token = _is_internal_call.set(True)
    try:
        yield
    finally:
        _is_internal_call.reset(token)


async def _messages(request: Request) -> list[dict[str, Any]]:
    """The messages with the bytes of their files."""
    if not request.files:
        return [dict(message) for message in request.messages]
    try:
        return await asyncio.to_thread(with_bytes, request.messages, request.files)
    except ProviderError as error:
        raise failures.TransportError(error) from None


def _read(
    request: Request, response: Any, failed: Exception | None, exchange: HttpExchange
) -> dict[str, Any]:
    """The answer in the provider's body: litellm may fail on a whole one."""
    dumped = None if response is None else response.model_dump(mode="json", exclude_none=True)
    found = reading.read_answer(request.model, dumped, exchange)
    if found is not None:
        return found
    assert failed is not None  # there is litellm's answer, or its error
    raise failures.from_exception(
        failed, request.model, missing_keys(request.model), exchange
    ) from None


def maximum_cost(request: Request) -> float | None:
    """The most that a request may cost: a token of input for each byte, all of it written to the
    provider's cache where that costs more, and output to its limit. None where the price is
    unknown, or the limit."""
    if is_local(request.model):
        return 0.0
    prices = _prices(request.model)
    if prices is None:
        return None
    size = sum(len(str(message.get("content", "")).encode()) + 16 for message in request.messages)
    size += size_bytes(request.files.values())
    given = request.parameters()
    own = given.get("max_tokens") or given.get("max_completion_tokens")
    limit = own or prices.get("max_output_tokens") or prices.get("max_tokens")
    asked, answered = (
        max(prices.get(name) or 0.0 for name in names) for names in (_OF_INPUT, _OF_OUTPUT)
    )
    if not limit and answered:
        return None
    return float(size * asked + int(limit or 0) * answered)


@functools.cache
def split_model(model: str) -> tuple[str, str]:
    """A model without its provider, and the provider, as litellm sees them."""
    try:
        plain, provider, _, _ = litellm.get_llm_provider(model)
    except Exception:  # an unknown provider: the call itself will say so
        provider, _, plain = model.rpartition("/")
    return plain, provider


def missing_keys(model: str) -> list[str]:
    """The environment variables that a model's provider needs and that are not set."""
    try:
        found = litellm.validate_environment(model=model)
    except Exception:  # an unknown provider: the call itself will say so
        return []
    return [str(key) for key in found.get("missing_keys", [])]


def known_settings(model: str | None) -> frozenset[str]:
    """The names of settings that litellm, or a model's provider, takes; without a model, those that
    any provider takes."""
    from litellm.types.utils import all_litellm_params

    found = {*litellm.OPENAI_CHAT_COMPLETION_PARAMS, *all_litellm_params}
    for function in (litellm.completion, litellm.utils.get_optional_params):
        found.update(inspect.signature(function).parameters)
    plain, provider = (None, None) if model is None else split_model(model)
    for each in litellm.LlmProviders:
        if provider in (None, each.value):
            # Some are not for chat, lack a package, or warn when they are imported.
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = litellm.ProviderConfigManager.get_provider_chat_config(plain or "x", each)
                found.update(config.get_supported_openai_params(plain or "x"))
                for kind in type(config).__mro__:
                    found.update(getattr(kind, "__annotations__", {}))
    return frozenset(name for name in found if not name.startswith("_") and name.islower())


async def close() -> None:
    await litellm.close_litellm_async_clients()


def _prices(model: str) -> Mapping[str, Any] | None:
    try:
        info: Mapping[str, Any] = litellm.get_model_info(model)
    except Exception:  # litellm raises a bare Exception for a model that is not in its list
        return None
    if info.get("input_cost_per_token") is None or info.get("output_cost_per_token") is None:
        return None
    return info


def _cost(model: str, response: object) -> float | None:
    """US dollars by litellm's price list; a local model costs 0, an unknown one None."""
    if is_local(model):
        return 0.0
    if _prices(model) is None:
        return None
    known = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    if isinstance(known, float):
        return known  # litellm has already computed it for this response
    try:
        return float(litellm.completion_cost(completion_response=response, model=model))
    except Exception:  # litellm raises a bare Exception where a price is missing
        return None


def _supported(request: Request) -> tuple[dict[str, Any], list[str]]:
    """The parameters that the model takes, and a warning for each that was dropped. For one
    parameter that a model does not know, litellm refuses the whole request before it sends
    anything: gpt-5-nano takes only temperature 1. Each is tried alone to find it."""
    kept: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in request.parameters().items():
        if _takes(request.model, name, json.dumps(value)):
            kept[name] = value
        else:
            shown = repr(value) if len(repr(value)) < 40 else "…"
            warnings.append(f"{request.model} does not support {name}={shown}: dropped")
    return kept, warnings


@functools.cache
def _takes(model: str, name: str, value: str) -> bool:
    try:
        plain_model, provider, _, _ = litellm.get_llm_provider(model)
        litellm.utils.get_optional_params(
            model=plain_model, custom_llm_provider=provider, **{name: json.loads(value)}
        )
    except litellm.exceptions.UnsupportedParamsError:
        return False
    except Exception:  # an unknown provider or a wrong value: the call itself will say so
        return True
    return True
