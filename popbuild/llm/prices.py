"""What models cost and which provider has them, from litellm's price list. It is read as a JSON
file: importing litellm takes seconds, which only commands that call should pay."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.llm.request import is_local
from popbuild.llm.usage import Tokens

_VALUE = re.compile(rb"\s*:\s*(?=\{)")  # what follows a key that has an object
_MAX_PART_BYTES = 50_000  # of that object
_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True)
class Price:
    """US dollars for a token of input and of output; the most tokens of an answer and of a prompt,
    None where unknown. `cached`, `written` and `reasoning` are prices of parts of them, None where
    a part costs the same as the rest. `can_reason` says that an answer may hide reasoning."""

    input: float
    output: float
    max_output: int | None = None
    max_input: int | None = None
    cached: float | None = None
    written: float | None = None
    reasoning: float | None = None
    can_reason: bool = False

    @property
    def most_input(self) -> float:
        """The most that a token of input costs: writing it to the cache costs more."""
        return max(self.input, self.written or 0.0)

    @property
    def most_output(self) -> float:
        """The most that a token of output costs."""
        return max(self.output, self.reasoning or 0.0)

    def cost_of(self, used: Tokens) -> float | None:
        """US dollars for the tokens of a call; None where they are unknown and not free."""
        if not (self.most_input or self.most_output):
            return 0.0
        if used.input is None or used.output is None:
            return None
        cached, written, reasoning = (
            each or 0 for each in (used.cached, used.written, used.reasoning)
        )
        return (
            (used.input - cached - written) * self.input
            + cached * (self.input if self.cached is None else self.cached)
            + written * (self.input if self.written is None else self.written)
            + (used.output - reasoning) * self.output
            + reasoning * (self.output if self.reasoning is None else self.reasoning)
        )


@functools.cache
def price_of(model: str) -> Price | None:
    """The price of a model; 0 for a local one, None where it is unknown."""
    if is_local(model):
        return Price(0.0, 0.0)
    found = _list().get(model) or _list().get(model.partition("/")[2])
    if not found:
        return None
    asked, answered = found.get("input_cost_per_token"), found.get("output_cost_per_token")
    if asked is None or answered is None:
        return None
    most_output, most_input = (
        most if isinstance(most := found.get(f"max_{what}_tokens"), int) else None
        for what in ("output", "input")
    )
    return Price(
        float(asked),
        float(answered),
        most_output,
        most_input,
        cached=found.get("cache_read_input_token_cost"),
        written=found.get("cache_creation_input_token_cost"),
        reasoning=found.get("output_cost_per_reasoning_token"),
        can_reason=bool(found.get("supports_reasoning")),
    )


_ABILITIES = {
    "image": "supports_vision",
    "pdf": "supports_pdf_input",
    "audio": "supports_audio_input",
}


def abilities_of(model: str) -> frozenset[str]:
    """The kinds of files that a model is known to take: image, pdf, audio."""
    found = _list().get(model) or _list().get(model.partition("/")[2]) or {}
    return frozenset(kind for kind, name in _ABILITIES.items() if found.get(name))


@functools.cache
def provider_of(model: str) -> str | None:
    """The provider of a model without `<provider>/` in its name, in litellm's words: `anthropic`,
    `vertex_ai`; None for one that is not in the list. A command with nothing to do asks this too.
    It must not parse three megabytes of JSON for it, so the model's entry is found in the text."""
    data, key = _bytes(), json.dumps(model).encode()
    place = data.find(key)
    while place >= 0:
        value = _VALUE.match(data, place + len(key))
        place = data.find(key, place + 1)
        if value is None:
            continue
        part = data[value.end() : value.end() + _MAX_PART_BYTES].decode(errors="replace")
        try:
            found, _ = json.JSONDecoder().raw_decode(part)
        except ValueError:
            continue
        if isinstance(found.get("litellm_provider"), str):
            # `vertex_ai-language-models`, `text-completion-openai`, `cohere_chat`
            name = found["litellm_provider"].removeprefix("text-completion-").partition("-")[0]
            return str(name).removesuffix("_chat").removesuffix("_converse")
    return None


@functools.cache
def _list() -> Mapping[str, Mapping[str, Any]]:
    try:
        found: Mapping[str, Mapping[str, Any]] = json.loads(_bytes())
    except ValueError:
        return {}
    return found


def _bytes() -> bytes:
    """litellm's price list; empty where there is none."""
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        with contextlib.suppress(OSError):
            return (Path(folder) / _FILE).read_bytes()
    return b""
