"""An answer as it is kept: litellm's form of it, corrected by the provider's body."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from popbuild.base.redact import Variables, redact_value, without_secrets
from popbuild.llm import ends, failures, native
from popbuild.llm.faults import Fault
from popbuild.llm.native import Said
from popbuild.llm.request import HALF_A_PAIR, Answer, writable
from popbuild.llm.wire import HttpExchange


def read_answer(
    model: str, dumped: dict[str, Any] | None, exchange: HttpExchange
) -> dict[str, Any] | None:
    """The response of a call in OpenAI's form: `dumped` is litellm's, None where litellm raised.
    None without an answer: litellm's exception then says more. Raises TransportError where the
    provider says that it failed, or sent something unreadable."""
    if exchange.status is None:  # it came another way: from the embedded model, say
        return None if dumped is None else _keepable(dumped)
    if exchange.error is not None or exchange.status >= failures.NO_ANSWER or not exchange.is_whole:
        return None
    said = _said(model, dumped, exchange)
    if said is None:
        assert dumped is not None
        return _keepable(dumped)
    meaning = ends.end_of(said.reason)
    if said.fault is not None:
        raise failures.from_fault(said.fault, model, exchange)
    if meaning == ends.PROVIDER_FAILED:
        fault = Fault(f"the answer ended with {said.reason}")
        raise failures.from_fault(fault, model, exchange)
    if meaning == ends.MODEL_LOADING:
        raise failures.loading(model)
    if dumped is None and said.text is None:
        raise failures.unread(model, exchange)
    return _keepable(_set_right(dumped or {"model": model, "choices": []}, said))


def _said(model: str, dumped: dict[str, Any] | None, exchange: HttpExchange) -> Said | None:
    """What the body says; None where litellm alone could read it. Raises TransportError."""
    try:
        said = native.read_native(exchange.document())
    except ValueError:
        kind = exchange.headers.get("content-type", "")
        if dumped is not None and ("event-stream" in kind or "eventstream" in kind):
            return None  # it was streamed, and litellm joined the pieces
        raise failures.unread(model, exchange) from None
    if said is None and not Answer(dumped or {}, None, 0.0).text:
        raise failures.unread(model, exchange)
    return said


def _set_right(response: dict[str, Any], said: Said) -> dict[str, Any]:
    choice, *_ = response.get("choices") or [{"index": 0}]
    message = dict(choice.get("message") or {"role": "assistant"})
    if said.text is not None:
        message["content"] = said.text
    if said.refusal:
        message["refusal"] = said.refusal
    if said.tools and not said.is_json_tool and not message.get("tool_calls"):
        message["tool_calls"] = [{"function": {"name": name}} for name in said.tools]
    # A call of litellm's own tool is the document, and a clean end.
    is_document = said.is_json_tool and ends.end_of(said.reason) == ends.TOOL
    own = "stop" if is_document else said.reason
    reason = "content_filter" if said.is_blocked else ends.common_name(own)
    right = {**choice, "message": message, "finish_reason": reason}
    if own and own != reason:
        right["native_finish_reason"] = own
    return {**response, "choices": [right], "usage": _usage(response.get("usage"), said)}


def _usage(usage: Mapping[str, Any] | None, said: Said) -> dict[str, Any] | None:
    """litellm's usage without what it made up: where the provider gave no counts, litellm puts
    zeros or counts itself."""
    if said.counts is None:
        return None
    names = ("prompt_tokens", "completion_tokens")
    known = dict(usage or dict(zip(names, said.counts, strict=True)))
    return known | {
        name: None for name, count in zip(names, said.counts, strict=True) if count is None
    }


def odd_end(model: str, response: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning where the provider does not say clearly why the answer ended."""
    choice, *_ = response.get("choices") or [{}]
    word = choice.get("native_finish_reason") or choice.get("finish_reason")
    if not response.get("choices") or ends.end_of(word) != ends.UNKNOWN_END:
        return ()
    if not word:
        return (f"{model} does not say why the answer ended",)
    return (f"{model} ended the answer for a reason that is not known here: {word}",)


def _keepable(response: dict[str, Any]) -> dict[str, Any]:
    """The response as it may be kept: JSON on the wire may hold half a surrogate pair, which no
    file can, and a provider may repeat the key that it was called with."""
    environment = Variables(os.environ)
    kept = redact_value(response, environment, lambda text, _: writable(text))
    if kept is not response:
        kept = {**kept, HALF_A_PAIR: True}
    kept = redact_value(kept, environment, without_secrets)
    return {name: value for name, value in kept.items() if value is not None}
