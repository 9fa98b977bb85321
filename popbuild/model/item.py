"""An item of a list over which a task runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """Its key, its value, its place in the list from 0."""

    key: str
    value: Any
    position: int
