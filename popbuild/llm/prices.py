"""What models cost and who has them, from litellm's price list, read as the JSON file that it is:
importing litellm takes seconds, and only a command that calls may pay for it."""

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

_VALUE = re.compile(rb"\s*:\s*(?=\{)")  # what follows a key that has an object
_MAX_PART_BYTES = 50_000  # of that object
_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True)
class Price:
    """US dollars for a token of input and of output; the most tokens that an answer and a prompt
    of the model have, None where that is not known."""

    input: float
    output: float
    max_output: int | None = None
    max_input: int | None = None


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
    most = (found.get(f"max_{what}_tokens") for what in ("output", "input"))
    limits = (each if isinstance(each, int) else None for each in most)
    return Price(float(asked), float(answered), *limits)


@functools.cache
def provider_of(model: str) -> str | None:
    """Who answers for a model without `<provider>/` in its name, as litellm has it: `anthropic`,
    `vertex_ai`; None for one that is not in the list.

    A command with nothing to do asks this, and does not read three megabytes of JSON for it: the
    model's own part is found in the text.
    """
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
    """litellm's price list; nothing where there is none."""
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        with contextlib.suppress(OSError):
            return (Path(folder) / _FILE).read_bytes()
    return b""
