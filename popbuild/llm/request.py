"""A request to a model and its answer, as data. The request's digest names the answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popbuild.base import jsonio
from popbuild.llm import ends
from popbuild.llm.usage import Tokens, reported_tokens
from popbuild.model.config.settings import FORMAT, STRICT
from popbuild.model.place import NOWHERE, Place

Message = dict[str, Any]  # {"role": …, "content": …}, as in OpenAI's API

LOCAL_PREFIX = "local/"
HALF_A_PAIR = "half_surrogate_pair"  # in a response: a text had one, now shown by its number

# Settings that have another name in the storage format. All others go to litellm as they are.
_LITELLM_NAMES = {"maxTokens": "max_tokens"}


def is_local(model: str) -> bool:
    """Whether a model runs in this process."""
    return model.startswith(LOCAL_PREFIX)


def message_text(message: Message) -> str:
    """The text of a message, without pictures."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def writable(text: str) -> str:
    """A text as UTF-8 can hold it: half a surrogate pair is shown by its number."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Request:
    """Everything that may change an answer. `settings` are as configured, before litellm drops what
    a model does not know. `sample` counts draws from 0. `place` is where the model answers.
    `timeout_s` is how long an answer may take, None for the command's default: it changes no
    answer, and no digest. `files` are those that parts of messages stand for, by their digests."""

    model: str
    messages: tuple[Message, ...]
    settings: Mapping[str, Any]
    schema: Any = None
    sample: int = 0
    place: Place = NOWHERE
    timeout_s: float | None = None
    files: Mapping[str, Path] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        # A model writes the members of an object in the order in which its schema has them.
        order = {} if self.schema is None else {"schemaOrder": jsonio.digest_in_order(self.schema)}
        return {
            **order,
            "model": self.model,
            "messages": list(self.messages),
            "settings": dict(self.settings),
            "schema": self.schema,
            "sample": self.sample,
            "endpoint": self.place.endpoint,
            "weights": self.place.weights,
        }

    @functools.cached_property
    def digest(self) -> str:
        return jsonio.digest(self.as_json())

    @functools.cached_property
    def digests(self) -> tuple[str, ...]:
        """The digests under which the store may have the answer: today's, then those that older
        versions gave the request."""
        before = (self.as_json() | {"endpoint": each} for each in self.place.before)
        return (self.digest, *map(jsonio.digest, before))

    @property
    def max_tokens(self) -> int | None:
        """The most tokens that the answer may have; None where the settings do not say it."""
        given = self.parameters()
        most = given.get("max_tokens") or given.get("max_completion_tokens")
        return most if isinstance(most, int) else None

    def parameters(self) -> dict[str, Any]:
        """The settings by litellm's names. A sampler's seed moves with the sample, or it would draw
        the same answer again."""
        found = {
            _LITELLM_NAMES.get(key, key): value
            for key, value in self.settings.items()
            if key not in ("model", STRICT)
        }
        if isinstance(found.get("seed"), int):
            found["seed"] += self.sample
        if self.schema is not None:
            strict = {STRICT: True} if self.settings.get(STRICT) else {}
            found[FORMAT] = {
                "type": "json_schema",
                "json_schema": {"name": "artifact", "schema": self.schema, **strict},
            }
        return found


@dataclass(frozen=True)
class Answer:
    """A complete answer. `response` is the provider's, in OpenAI's shape; `cost` is in US dollars,
    None where price or usage is unknown. `stored` says that it came from the store, `kept_as` under
    which digest, if not the request's. `counted` are tokens that we counted ourselves, where the
    provider gave none."""

    response: Mapping[str, Any]
    cost: float | None
    duration_ms: float
    warnings: tuple[str, ...] = ()
    stored: bool = False
    counted: Tokens | None = None
    kept_as: str | None = None

    @property
    def text(self) -> str:
        content = self._message.get("content")
        return content if isinstance(content, str) else ""

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, in OpenAI's word if it has one."""
        return str(self._choice.get("finish_reason") or "unknown")

    @property
    def ended_by(self) -> str:
        """Why the answer ended, in the provider's word."""
        return str(self._choice.get("native_finish_reason") or self.finish_reason)

    @property
    def end(self) -> str:
        """What that means: one of the words of ends.py."""
        own = ends.end_of(self.ended_by)
        return ends.end_of(self.finish_reason) if own == ends.UNKNOWN_END else own

    @property
    def refusal(self) -> str:
        """The words with which the model or its provider refuses; mostly empty."""
        refusal = self._message.get("refusal")
        return refusal if isinstance(refusal, str) else ""

    @property
    def is_declined(self) -> bool:
        """Whether the same request would be refused again."""
        return self.end == ends.DECLINED or bool(self.refusal and not self.text.strip())

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model calls."""
        calls = self._message.get("tool_calls") or []
        return tuple(str((each.get("function") or {}).get("name") or "?") for each in calls)

    @property
    def has_half_a_pair(self) -> bool:
        return bool(self.response.get(HALF_A_PAIR))

    @property
    def used(self) -> Tokens:
        """Its tokens, from the provider or else as we counted them; None where unknown."""
        return reported_tokens(self.response) if self.counted is None else self.counted

    @property
    def usage(self) -> dict[str, int | None]:
        """Its tokens, for code in `stages.py`."""
        used = self.used
        return {
            "input_tokens": used.input,
            "output_tokens": used.output,
            "cached_tokens": used.cached,
            "cache_write_tokens": used.written,
            "reasoning_tokens": used.reasoning,
        }

    @property
    def _choice(self) -> Mapping[str, Any]:
        choices = self.response.get("choices") or [{}]
        choice: Mapping[str, Any] = choices[0]
        return choice

    @property
    def _message(self) -> Mapping[str, Any]:
        return self._choice.get("message") or {}
