"""Tokens of a text, counted offline with the tables that litellm carries, and an answer's cost.

Before a call this estimates a prompt's tokens, for any model. After it, it counts those of a call
whose provider did not say them, if the table is the model's own. Unknown is never $0.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from popbuild.base import jsonio
from popbuild.llm.prices import price_of
from popbuild.llm.request import Answer, Message, Request, is_local, message_text
from popbuild.llm.usage import Tokens, reported_tokens

_AROUND_A_MESSAGE = 4  # what a provider adds to each: its role and its ends
_BEFORE_AN_ANSWER = 3  # what it adds once: that the assistant speaks next
_ENCODING = "o200k_base"  # OpenAI's current models; other providers differ by some percent
# The tables that litellm carries; tiktoken would download any other.
_TABLES = ("o200k_base", "cl100k_base")
_WHOSE = ("openai", "azure", "text-completion-openai", "openrouter/openai", "")
# Models that hear, speak or search: their input is more than its text.
_MORE_THAN_TEXT = ("audio", "realtime", "search", "transcribe", "tts", "image")
# Settings that add no tokens to either side. With any other one nothing is counted.
_PLAIN_SETTINGS = frozenset(
    "temperature top_p max_tokens max_completion_tokens seed stop presence_penalty "
    "frequency_penalty logit_bias response_format user timeout".split()
)
_MAX_CHARS = 1_000_000  # of request and answer: to count more takes a second


def count_tokens(messages: Iterable[Message]) -> int:
    """Tokens of a conversation, as OpenAI's current models would count them."""
    encode = _encoder()
    return sum(_AROUND_A_MESSAGE + len(encode(message_text(message))) for message in messages)


def count_text(text: str) -> int:
    """Tokens of a text by one table for all models: it says how long a text is, at no price."""
    return len(_encoder()(text))


def count_usage(request: Request, text: str) -> Tokens | None:
    """The tokens of a call with this answer, as we count them. None where we cannot: without the
    model's table, for an answer that may hide reasoning, for more than text."""
    encoding = _table_of(request.model)
    settings = request.parameters()
    if encoding is None or not settings.keys() <= _PLAIN_SETTINGS:
        return None
    if not all(_is_text(message) for message in request.messages):
        return None
    said = [message_text(message) for message in request.messages]
    form = "" if request.schema is None else jsonio.compact(request.schema)
    if sum(map(len, (*said, form, text))) > _MAX_CHARS:
        return None
    encode = _encoder(encoding)
    asked = sum(_AROUND_A_MESSAGE + len(encode(each)) for each in said) + _BEFORE_AN_ANSWER
    return Tokens(asked + len(encode(form)), len(encode(text)), is_counted_by_us=True)


def billed(request: Request, answer: Answer) -> Answer:
    """The answer with its cost. Where the provider says what was used it is litellm's, which knows
    prices best. Where reasoning was counted beside the output, or we had to count ourselves, it
    comes from the price list; else it is None."""
    if is_local(request.model):
        return answer
    used = reported_tokens(answer.response)
    is_reported = used.both is not None and (
        used.output == answer.response["usage"]["completion_tokens"]
    )
    if is_reported and answer.cost is not None:
        return answer
    counted = count_usage(request, answer.text) if used.both is None else None
    price = price_of(request.model)
    return replace(
        answer, cost=price.cost_of(counted or used) if price is not None else None, counted=counted
    )


def _is_text(message: Message) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return isinstance(content, str | list) and all(
        isinstance(each, dict) and each.get("type") == "text" for each in parts
    )


def _table_of(model: str) -> str | None:
    provider, _, name = model.rpartition("/")
    price = price_of(model)
    if provider not in _WHOSE or price is None or price.can_reason:
        return None
    if any(each in name for each in _MORE_THAN_TEXT):
        return None
    from tiktoken.model import encoding_name_for_model

    try:
        found = encoding_name_for_model(name)
    except KeyError:
        return None
    return found if found in _TABLES else None


@functools.cache
def _encoder(encoding: str = _ENCODING) -> Any:
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        tables = Path(folder) / "litellm_core_utils" / "tokenizers"
        if tables.is_dir():
            # Without it tiktoken would download its tables.
            os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tables))
    import tiktoken

    return functools.partial(tiktoken.get_encoding(encoding).encode, disallowed_special=())
