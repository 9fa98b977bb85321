"""A request to a model and the answer to it, as data. The request's digest names the answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild import jsonio
from popbuild.settings import FORMAT, STRICT

Message = dict[str, Any]  # {"role": …, "content": …}, as in OpenAI's API

LOCAL = "local/"

# Our names for the settings that the storage format names; every other goes to litellm as it is.
_LITELLM_NAMES = {"maxTokens": "max_tokens"}


def is_local(model: str) -> bool:
    """Whether a model runs in this process."""
    return model.startswith(LOCAL)


def text_of(message: Message) -> str:
    """What a message says, without pictures."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


@dataclass(frozen=True)
class Request:
    """Everything that may change an answer.

    `settings` are as configured, before litellm drops what a model does not know. `sample` says
    which draw this is: 0, then 1, … `endpoint` and `weights` are digests. `timeout_s` is how long
    an answer may take, None for as long as all: it changes no answer, and no digest.
    """

    model: str
    messages: tuple[Message, ...]
    settings: Mapping[str, Any]
    schema: Any = None
    sample: int = 0
    endpoint: str | None = None
    weights: str | None = None
    timeout_s: float | None = None

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
            "endpoint": self.endpoint,
            "weights": self.weights,
        }

    @functools.cached_property
    def digest(self) -> str:
        return jsonio.digest(self.as_json())

    def parameters(self) -> dict[str, Any]:
        """The settings by litellm's names. A sampler's seed moves with the sample: the same seed
        would draw the same answer again."""
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
    """A complete answer. `response` is the provider's, in OpenAI's shape; `cost` US dollars or
    None for an unknown price; `stored` says that it came from the store."""

    response: Mapping[str, Any]
    cost: float | None
    duration_ms: float
    warnings: tuple[str, ...] = ()
    stored: bool = False

    @property
    def text(self) -> str:
        """What the model wrote; empty where it wrote nothing."""
        content = self._choice.get("message", {}).get("content")
        return content if isinstance(content, str) else ""

    @property
    def finish_reason(self) -> str:
        return str(self._choice.get("finish_reason") or "unknown")

    @property
    def input_tokens(self) -> int:
        return int(self._usage.get("prompt_tokens") or 0)

    @property
    def output_tokens(self) -> int:
        return int(self._usage.get("completion_tokens") or 0)

    @property
    def tokens(self) -> tuple[int, int]:
        """Of input and of output."""
        return self.input_tokens, self.output_tokens

    @property
    def reasoning_tokens(self) -> int:
        details = self._usage.get("completion_tokens_details") or {}
        return int(details.get("reasoning_tokens") or 0)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }

    @property
    def _choice(self) -> Mapping[str, Any]:
        choices = self.response.get("choices") or [{}]
        choice: Mapping[str, Any] = choices[0]
        return choice

    @property
    def _usage(self) -> Mapping[str, Any]:
        return self.response.get("usage") or {}
