"""A call that gave no answer: why, what was spent, and whether to try it again.

The provider's body decides (`wire.py`, `native.py`, `refusals.py`). Without a body, litellm's
exception does, by its name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from popbuild.base.errors import PopbuildError, ProviderError
from popbuild.base.redact import redact
from popbuild.llm import refusals
from popbuild.llm.endpoint import EMBEDDED_MODEL
from popbuild.llm.faults import Fault, fault_of, retry_after_s
from popbuild.llm.lanes import ANSWERED, DOWN, REFUSED
from popbuild.llm.wire import HttpExchange, elsewhere, unreadable

_RETRIED = (
    "RateLimitError",
    "InternalServerError",
    "ServiceUnavailableError",
    "BadGatewayError",
    "Timeout",
    "APIConnectionError",
)
_WRONG_REQUEST = (400, 413, 422)  # our mistake: every model would refuse it
_SERVER_ERROR = 500
_TOO_MANY = 429
_PASSING = (408, 425)  # wrong requests that may succeed the next time
NO_ANSWER = 300  # a status from here on says that there is no answer
_MAX_SHOWN = 400
_CARRIERS = ("httpx", "httpcore", "aiohttp")  # their exceptions come from a connection
AGAIN = "run it again: nothing is bought twice; POPBUILD_TRIES says how often a call is tried"
_KEY_HINT = (
    "set the key in the environment or in .env at the root; or use the embedded model: "
    f"POPBUILD_MODEL={EMBEDDED_MODEL}"
)
_NO_PROVIDER = "LLM Provider NOT provided"
_NO_KEY = 401
_ERROR = "the provider reports an error"
_TOO_SLOW = "the provider did not answer in time"
_CUT_CONNECTION = "the connection to the provider failed"
_TITLES_BY_STATUS = {
    _NO_KEY: "the provider does not accept the key",
    404: "the provider does not know the model",
    _TOO_MANY: "the provider's rate limit is reached",
}
_TITLES_BY_NAME = {
    "AuthenticationError": _TITLES_BY_STATUS[_NO_KEY],
    "RateLimitError": _TITLES_BY_STATUS[_TOO_MANY],
    "NotFoundError": _TITLES_BY_STATUS[404],
    "Timeout": _TOO_SLOW,
    "APIConnectionError": "the provider cannot be reached",
}
_BY_MEANING = {  # the title, and the hint
    refusals.FILTERED: (
        "the provider's content policy refuses the prompt",
        "change the prompt or the seed, or name another model in `fallbacks`",
    ),
    refusals.TOO_LONG: (
        "the prompt is too long for the model",
        "shorten the prompt, or name a model with a larger context in `fallbacks`",
    ),
    refusals.NO_QUOTA: (
        "the provider's quota is used up",
        "raise it at the provider, or name another model in `fallbacks`; "
        "for five minutes this command asks the model nothing more",
    ),
    refusals.TOO_LARGE: (
        "the request is larger than the provider ever takes",
        "shorten the prompt, lower maxTokens or raise the limit at the provider",
    ),
    refusals.LOADING: ("the provider is still loading the model", AGAIN),
}
_DECLINED = (refusals.FILTERED, refusals.TOO_LONG)  # the same request is declined again


@dataclass
class TransportError(Exception):
    """A try that gave no answer. `outcome` is one of lanes.py's; with `ANSWERED` the same request
    would be refused again. `spent` says that the provider may have worked on it. `closes` says that
    the model will refuse everything that this command may send."""

    error: ProviderError
    outcome: str = ANSWERED
    spent: bool = False
    retry_after_s: float | None = None
    closes: bool = False


def too_slow(model: str, timeout_s: float) -> TransportError:
    """The error of a call that took longer than it may."""
    values = {"model": model, "allowed": f"{timeout_s:g} s"}
    return TransportError(elsewhere(_TOO_SLOW, values, AGAIN), DOWN, spent=True)


def from_exception(
    error: Exception, model: str, missing_keys: Sequence[str], exchange: HttpExchange
) -> TransportError:
    """The failure behind litellm's exception. `missing_keys` are variables that are not set."""
    # litellm wraps our error several times.
    own = (each for each in _chain(error) if isinstance(each, PopbuildError))
    ours = exchange.error or next(own, None)
    if isinstance(ours, ProviderError):
        ours.elsewhere = True
        ours.values = {"model": model, **ours.values}
        return TransportError(ours, spent=exchange.status is not None)
    if exchange.status is None and missing_keys and not _was_sent(error):
        # litellm calls this an internal server error of the provider's.
        values = {"model": model, "missing": ", ".join(missing_keys)}
        title = "the key of the model's provider is missing"
        return TransportError(elsewhere(title, values, _KEY_HINT))
    if exchange.status is None:
        return _unanswered(error, model, missing_keys)
    if exchange.status >= NO_ANSWER:
        return _refused(model, missing_keys, exchange, exchange.status)
    if exchange.is_whole:
        return unread(model, exchange)
    values = {"model": model, "found": _first_line(error)}
    return TransportError(elsewhere(_CUT_CONNECTION, values, AGAIN), DOWN, spent=True)


def from_fault(fault: Fault, model: str, exchange: HttpExchange) -> TransportError:
    """An error that came with a success status: its code says what it is."""
    status = fault.status
    if status is None or status < NO_ANSWER:
        passing = "rate_limit_exceeded" in fault.codes or "rate_limit_error" in fault.codes
        status = _TOO_MANY if passing else _SERVER_ERROR
    return _by_status(model, status, fault, exchange)


def loading(model: str) -> TransportError:
    """The model was still loading, so it did nothing."""
    title, hint = _BY_MEANING[refusals.LOADING]
    return TransportError(elsewhere(title, {"model": model}, hint), DOWN)


def unread(model: str, exchange: HttpExchange) -> TransportError:
    """A success status without an answer that can be read. The same request would get the same:
    most likely a proxy in between asks for a password."""
    problem = unreadable(exchange)
    problem.values = {"model": model, **problem.values}
    return TransportError(problem, spent=True)


def _refused(
    model: str, missing_keys: Sequence[str], exchange: HttpExchange, status: int
) -> TransportError:
    try:
        fault = fault_of(exchange.document())
    except ValueError:
        fault = None
    failure = _by_status(model, status, fault, exchange)
    problem = failure.error
    if fault is None or not fault.message:
        problem.values.update({name: str(value) for name, value in exchange.shown().items()})
    if status == _NO_KEY:
        if missing_keys:
            problem.values["missing"] = ", ".join(missing_keys)
        problem.hint = _KEY_HINT
    return failure


def _by_status(
    model: str, status: int, fault: Fault | None, exchange: HttpExchange
) -> TransportError:
    wait_s = retry_after_s(exchange.headers, time.time(), fault.retry_after if fault else None)
    meaning = refusals.meaning_of(status, fault, wait_s)
    # A provider that refused has not worked; one that failed may have.
    failed = meaning is None and (status >= _SERVER_ERROR or status in _PASSING)
    retried = failed or meaning == refusals.LOADING or (meaning is None and status == _TOO_MANY)
    values: dict[str, object] = {"model": model, "status": status}
    if fault is not None and fault.message:
        values["found"] = _line(fault.message)
    title, hint = _TITLES_BY_STATUS.get(status, _ERROR), AGAIN if retried else None
    if meaning is not None:
        title, hint = _BY_MEANING[meaning]
    problem = ProviderError(title, values, hint)
    problem.elsewhere = meaning is not None or status not in _WRONG_REQUEST
    problem.declined = meaning in _DECLINED
    outcome = _outcome(retried, status == _TOO_MANY)
    return TransportError(problem, outcome, failed, wait_s, closes=meaning == refusals.NO_QUOTA)


def _outcome(retried: bool, limited: bool) -> str:
    return (REFUSED if limited else DOWN) if retried else ANSWERED


def _unanswered(error: Exception, model: str, missing_keys: Sequence[str]) -> TransportError:
    """No answer came, or it came past our transport: litellm's exception is all there is."""
    name, status = type(error).__name__, getattr(error, "status_code", None)
    status = status if isinstance(status, int) else None
    failed = (status or 0) >= _SERVER_ERROR
    retried = name in _RETRIED or failed or status == _TOO_MANY
    values: dict[str, object] = {"model": model}
    unsaid = _unsaid(error)
    if status is not None and unsaid is None:
        values["status"] = status
    values["found"] = _first_line(error)
    if unsaid is not None:
        values["found"] = _first_line(error).removeprefix("InternalServerError: OpenAIException - ")
    hint = AGAIN if retried else None
    if name == "AuthenticationError":
        if missing_keys:
            values["missing"] = ", ".join(missing_keys)
        hint = _KEY_HINT
    elif name == "APIConnectionError":
        hint = f"is the provider's address right, and does it answer? {AGAIN}"
    elif _NO_PROVIDER in str(error):
        values["found"] = "a name that litellm knows no provider for"
        hint = "name the provider too: openai/gpt-5-nano, anthropic/…, ollama/…"
    problem = ProviderError(unsaid or _TITLES_BY_NAME.get(name, _ERROR), values, hint)
    problem.elsewhere = status not in _WRONG_REQUEST or _NO_PROVIDER in str(error)
    outcome = _outcome(retried, status == _TOO_MANY or name == "RateLimitError")
    return TransportError(problem, outcome, failed or name in ("Timeout", "APIConnectionError"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes: litellm wraps the provider's several times."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _has_headers(error: BaseException) -> bool:
    """Whether an answer came; the responses that litellm makes up have no headers."""
    found = (getattr(each, "response", None) for each in _chain(error))
    return any(bool(getattr(each, "headers", None)) for each in found)


def _was_sent(error: BaseException) -> bool:
    """Whether a request was sent, or about to be: an answer came, or the connection failed."""
    return _has_headers(error) or any(
        isinstance(each, OSError) or type(each).__module__.partition(".")[0] in _CARRIERS
        for each in _chain(error)
    )


def _unsaid(error: Exception) -> str | None:
    """What really happened where litellm makes up an internal error of the provider; else None."""
    if type(error).__name__ != "InternalServerError" or _has_headers(error):
        return None
    return _CUT_CONNECTION if _was_sent(error) else "the provider's answer cannot be read"


def _first_line(error: Exception) -> str:
    return _line(str(error)).removeprefix(f"litellm.{type(error).__name__}: ")


def _line(text: str) -> str:
    # Before it is cut: half a key would not be recognized.
    text = redact(" ".join(text.split()), os.environ)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
