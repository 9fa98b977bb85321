"""The one importer of litellm: sends one request, once, and says what became of it.

litellm retries, streams and asks the network for prices by itself unless told not to. Here it
does none of that: retries and the store are in calls.py, limits in traffic.py, each call accounted
for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Before the import: otherwise it asks the network for prices and reads a `.env` of its own.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")

import litellm
import litellm.exceptions
import litellm.utils

from popbuild.errors import PopbuildError, ProviderError
from popbuild.llm import local
from popbuild.llm.endpoint import EMBEDDED_MODEL
from popbuild.llm.lanes import ANSWERED, DOWN, REFUSED
from popbuild.llm.request import Answer, Request, is_local
from popbuild.redact import redact, redact_value, without_secrets

litellm.suppress_debug_info = True
litellm.telemetry = False
logging.getLogger("LiteLLM").setLevel(logging.ERROR)

_RETRYABLE = (
    litellm.exceptions.RateLimitError,
    litellm.exceptions.InternalServerError,
    litellm.exceptions.ServiceUnavailableError,
    litellm.exceptions.BadGatewayError,
    litellm.exceptions.Timeout,
    litellm.exceptions.APIConnectionError,
)
_THIS_MODEL = (  # what another model may take: their status is that of a wrong request
    litellm.exceptions.ContextWindowExceededError,
    litellm.exceptions.ContentPolicyViolationError,
)
_WRONG_REQUEST = (400, 413, 422)  # a mistake of ours, which every model would refuse
_SERVER_ERROR = 500
_TOO_MANY = 429
_MAX_SHOWN = 400
_CARRIERS = ("httpx", "httpcore", "aiohttp")  # whose exceptions are those of a connection
_AGAIN = "run it again: nothing is bought twice; POPBUILD_TRIES says how often a call is tried"
_KEY_HINT = (
    "set the key in the environment or in .env at the root; or use the embedded model: "
    f"POPBUILD_MODEL={EMBEDDED_MODEL}"
)


@dataclass
class TransportError(Exception):
    """A try that gave no answer. `outcome` is one of lanes.py's; what is `ANSWERED` would be
    refused again. `spent` says that the provider may have worked on it."""

    error: ProviderError
    outcome: str = ANSWERED
    spent: bool = False
    retry_after_s: float | None = None


class _Local(litellm.CustomLLM):  # type: ignore[misc]  # litellm is untyped to us
    """litellm's `local/…`: the embedded model."""

    async def acompletion(self, *_args: Any, **given: Any) -> Any:
        parameters = dict(given["optional_params"])
        parameters.update(parameters.pop("extra_body", None) or {})
        result = await asyncio.to_thread(
            local.complete, given["messages"], parameters, dict(os.environ)
        )
        return litellm.ModelResponse(**{**result, "model": f"local/{given['model']}"})


def _register_local() -> None:
    litellm.custom_provider_map = [{"provider": "local", "custom_handler": _Local()}]
    litellm.utils.custom_llm_setup()
    free = {
        "litellm_provider": "local",
        "mode": "chat",
        "max_tokens": local.CONTEXT_TOKENS,
        "supports_response_schema": True,
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "cache_read_input_token_cost": 0.0,
        "cache_creation_input_token_cost": 0.0,
    }
    litellm.register_model({EMBEDDED_MODEL: free})


_register_local()

# litellm brings half a million objects that live as long as the command, and every call makes a
# thousand that do not: walking them again and again is a tenth of what a task costs.
gc.freeze()
gc.set_threshold(10_000)


async def send(request: Request, timeout_s: float) -> Answer:
    """One HTTP request, one complete answer. Raises TransportError; never retries."""
    parameters, warnings = _supported(request)
    started = time.monotonic()
    # litellm's own is for each byte: whoever sends one now and then would hold a call for ever. The
    # embedded model is in a thread, which goes on.
    whole = asyncio.timeout(None if is_local(request.model) else timeout_s)
    try:
        async with whole:
            response = await litellm.acompletion(
                model=request.model,
                messages=[dict(message) for message in request.messages],
                max_retries=0,
                num_retries=0,
                timeout=timeout_s,
                **parameters,
            )
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if whole.expired():
            raise _too_slow(request, timeout_s) from None
        raise _transport_error(error, request) from None
    return Answer(
        _keepable(response.model_dump(mode="json", exclude_none=True)),
        _cost(request.model, response),
        round((time.monotonic() - started) * 1000, 1),
        tuple(warnings),
    )


def _too_slow(request: Request, timeout_s: float) -> TransportError:
    values = {"model": request.model, "allowed": f"{timeout_s:g} s"}
    error = ProviderError("the provider did not answer in time", values, _AGAIN)
    error.elsewhere = True
    return TransportError(error, DOWN, spent=True)


def _keepable(response: dict[str, Any]) -> dict[str, Any]:
    """The response as it may be kept: JSON on the wire may hold half a surrogate pair, and a
    provider may repeat the key that it was called with."""
    text = json.dumps(response, ensure_ascii=False)
    whole = text.encode(errors="replace").decode()
    kept = response if whole == text else json.loads(whole)
    found: dict[str, Any] = redact_value(kept, os.environ, without_secrets)
    return found


def maximum_cost(request: Request) -> float | None:
    """The most that a request may cost: a token of input for each byte, output to its limit.

    None where the price is unknown.
    """
    if is_local(request.model):
        return 0.0
    prices = _prices(request.model)
    if prices is None:
        return None
    size = sum(len(str(message.get("content", "")).encode()) + 16 for message in request.messages)
    limit = request.parameters().get("max_tokens") or prices.get("max_output_tokens") or 0
    cost: float = size * (prices.get("input_cost_per_token") or 0.0) + int(limit) * (
        prices.get("output_cost_per_token") or 0.0
    )
    return cost


def names_of(model: str) -> tuple[str, str]:
    """A model without its provider, and the provider, as litellm sees them."""
    if model not in _names_cache:
        try:
            plain, provider, _, _ = litellm.get_llm_provider(model)
        except Exception:  # an unknown provider: the call itself will say so
            provider, _, plain = model.rpartition("/")
        _names_cache[model] = plain, provider
    return _names_cache[model]


def missing_keys(model: str) -> list[str]:
    """The environment variables that a model's provider wants and that are not set."""
    try:
        found = litellm.validate_environment(model=model)
    except Exception:  # an unknown provider: the call itself will say so
        return []
    return [str(key) for key in found.get("missing_keys", [])]


def known_settings(model: str | None) -> frozenset[str]:
    """The names of settings that litellm, or the provider of a model, takes; without a model, those
    that any provider takes."""
    from litellm.types.utils import all_litellm_params

    found = {*litellm.OPENAI_CHAT_COMPLETION_PARAMS, *all_litellm_params}
    for function in (litellm.completion, litellm.utils.get_optional_params):
        found.update(inspect.signature(function).parameters)
    plain, provider = (None, None) if model is None else names_of(model)
    for each in litellm.LlmProviders:
        if provider in (None, each.value):
            # Not for chat, or what it needs is not installed; some warn when they are imported.
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = litellm.ProviderConfigManager.get_provider_chat_config(plain or "x", each)
                found.update(config.get_supported_openai_params(plain or "x"))
                for kind in type(config).__mro__:
                    found.update(getattr(kind, "__annotations__", {}))
    return frozenset(name for name in found if not name.startswith("_") and name.islower())


async def close() -> None:
    """Close the connections of this event loop."""
    await litellm.close_litellm_async_clients()


def _prices(model: str) -> Mapping[str, Any] | None:
    try:
        info: Mapping[str, Any] = litellm.get_model_info(model)
    except Exception:  # litellm raises a bare Exception for a model that is not in its list
        return None
    if info.get("input_cost_per_token") is None or info.get("output_cost_per_token") is None:
        return None
    return info


def _cost(model: str, response: Any) -> float | None:
    """US dollars by litellm's price list; a local model costs 0, an unknown one None."""
    if is_local(model):
        return 0.0
    if _prices(model) is None:
        return None
    known = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    if isinstance(known, float):
        return known  # litellm has worked it out for this response already
    try:
        return float(litellm.completion_cost(completion_response=response, model=model))
    except Exception:  # litellm raises a bare Exception where a price is missing
        return None


_names_cache: dict[str, tuple[str, str]] = {}
_supported_cache: dict[tuple[str, str], str | None] = {}


def _supported(request: Request) -> tuple[dict[str, Any], list[str]]:
    """The parameters that the model takes, and a warning for each that was dropped.

    litellm refuses, before it sends anything, a whole request for one parameter that a model does
    not know: gpt-5-nano takes only temperature 1. Each is tried alone to learn which it is.
    """
    kept: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in request.parameters().items():
        key = (request.model, f"{name}={value!r}")
        if key not in _supported_cache:
            _supported_cache[key] = _refusal(request.model, name, value)
        refusal = _supported_cache[key]
        if refusal is None:
            kept[name] = value
        else:
            warnings.append(f"{request.model} does not support {name}={_short(value)}: dropped")
    return kept, warnings


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else "…"


def _refusal(model: str, name: str, value: Any) -> str | None:
    try:
        plain_model, provider, _, _ = litellm.get_llm_provider(model)
        litellm.utils.get_optional_params(
            model=plain_model, custom_llm_provider=provider, **{name: value}
        )
    except litellm.exceptions.UnsupportedParamsError as error:
        return str(error)
    except Exception:  # an unknown provider or a wrong value: the call itself will say so
        return None
    return None


def _transport_error(error: Exception, request: Request) -> TransportError:
    """What an exception of litellm's means: may it be tried again, was something spent?"""
    cause = error if isinstance(error, PopbuildError) else _popbuild_cause(error)
    if isinstance(cause, ProviderError):
        cause.elsewhere = True
        return TransportError(cause)
    missing = missing_keys(request.model)
    if missing and not _was_sent(error):
        # litellm calls this an internal server error of the provider's.
        problem = ProviderError(
            "the key of the model's provider is missing",
            {"model": request.model, "missing": ", ".join(missing)},
            _KEY_HINT,
        )
        problem.elsewhere = True
        return TransportError(problem)
    status = getattr(error, "status_code", None)
    retryable = isinstance(error, _RETRYABLE) or (
        isinstance(status, int) and (status >= _SERVER_ERROR or status == _TOO_MANY)
    )
    # A provider that refused has not worked; one that fell silent may have.
    spent = isinstance(
        error, litellm.exceptions.Timeout | litellm.exceptions.APIConnectionError
    ) or (isinstance(status, int) and status >= _SERVER_ERROR)
    values: dict[str, object] = {"model": request.model}
    unsaid = _unsaid(error)
    if isinstance(status, int) and unsaid is None:
        values["status"] = status
    values["found"] = _first_line(error)
    if unsaid is not None:
        values["found"] = _first_line(error).removeprefix("InternalServerError: OpenAIException - ")
    hint = _AGAIN if retryable else None
    if isinstance(error, litellm.exceptions.AuthenticationError):
        if missing:
            values["missing"] = ", ".join(missing)
        hint = _KEY_HINT
    elif isinstance(error, litellm.exceptions.APIConnectionError):
        hint = f"is the provider's address right, and does it answer? {_AGAIN}"
    elif "LLM Provider NOT provided" in str(error):
        values["found"] = "a name that litellm knows no provider for"
        hint = "name the provider too: openai/gpt-5-nano, anthropic/…, ollama/…"
    problem = ProviderError(unsaid or _title(error), values, hint)
    problem.elsewhere = status not in _WRONG_REQUEST or (
        isinstance(error, _THIS_MODEL) or "LLM Provider NOT provided" in str(error)
    )
    outcome = ANSWERED
    if retryable:
        limited = status == _TOO_MANY or isinstance(error, litellm.exceptions.RateLimitError)
        outcome = REFUSED if limited else DOWN
    return TransportError(problem, outcome, spent, _retry_after(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made from: litellm wraps the provider's own several times."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _popbuild_cause(error: BaseException) -> PopbuildError | None:
    """Our own error, wherever litellm wrapped it."""
    return next((each for each in _chain(error) if isinstance(each, PopbuildError)), None)


def _headers(error: BaseException) -> Mapping[str, str]:
    """The headers of the provider's answer; litellm's own response objects have none."""
    for each in _chain(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        if headers:
            found: Mapping[str, str] = headers
            return found
    return {}


def _was_sent(error: BaseException) -> bool:
    """Whether a request went out, or was about to: an answer came, or the connection failed."""
    return bool(_headers(error)) or any(
        isinstance(each, OSError) or type(each).__module__.partition(".")[0] in _CARRIERS
        for each in _chain(error)
    )


def _unsaid(error: Exception) -> str | None:
    """What happened where litellm reports an internal error of a provider that reported none."""
    if not isinstance(error, litellm.exceptions.InternalServerError) or _headers(error):
        return None
    if _was_sent(error):
        return "the connection to the provider failed"
    return "the provider's answer cannot be read"


def _title(error: Exception) -> str:
    names = {
        "AuthenticationError": "the provider does not accept the key",
        "RateLimitError": "the provider's rate limit is reached",
        "NotFoundError": "the provider does not know the model",
        "Timeout": "the provider did not answer in time",
        "APIConnectionError": "the provider cannot be reached",
        "ContextWindowExceededError": "the prompt is too long for the model",
        "ContentPolicyViolationError": "the provider's content policy refuses the prompt",
    }
    return names.get(type(error).__name__, "the provider reports an error")


def _first_line(error: Exception) -> str:
    # Before it is cut: half a key would not be known for one.
    text = redact(" ".join(str(error).split()), os.environ)
    text = text.removeprefix(f"litellm.{type(error).__name__}: ")
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _retry_after(error: Exception) -> float | None:
    """`Retry-After` in seconds; it may also be a date."""
    value = _headers(error).get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
