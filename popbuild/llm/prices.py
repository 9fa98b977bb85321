"""What models cost, from litellm's price list, read as the JSON file that it is: importing litellm
takes seconds, and only a command that calls may pay for it."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.llm.endpoint import is_local

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
def _list() -> Mapping[str, Mapping[str, Any]]:
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        try:
            found: Mapping[str, Mapping[str, Any]] = json.loads((Path(folder) / _FILE).read_bytes())
        except (OSError, ValueError):
            continue
        return found
    return {}
