"""Values from untrusted files: one of the wrong type counts as absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from popbuild.model.foreign_status import is_amount
from popbuild.model.letter import KINDS, Usage
from popbuild.model.problem import Problem

_MAX_ENTRIES = 2_000  # of one list


def number_in(value: Any) -> float:
    """A number, else 0."""
    return float(value) if is_amount(value) else 0.0


def known(body: Mapping[str, Any], name: str) -> float | None:
    """An amount; None, and not 0, if it is absent."""
    found = body.get(name)
    return found if is_amount(found) else None


def token_count(body: Mapping[str, Any], name: str) -> int | None:
    """The tokens of this name; None if unknown."""
    found = known(body, name)
    return None if found is None else int(found)


def kinds(body: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """The tokens of each kind, in the order of KINDS; None if absent."""
    cached, written, reasoning = (
        int(number_in(body[name])) if name in body else None for name in KINDS
    )
    return cached, written, reasoning


def text_in(body: Mapping[str, Any], name: str) -> str | None:
    """The text of this name, else None."""
    found = body.get(name)
    return found if isinstance(found, str) else None


def list_in(body: Mapping[str, Any], name: str) -> list[Any]:
    """A list in an object; empty for anything else."""
    value = body.get(name)
    return value if isinstance(value, list) else []


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, as many as a page can show; none of any other value."""
    found = value[:_MAX_ENTRIES] if isinstance(value, list | tuple) else ()
    return [each for each in found if isinstance(each, dict)]


def problems(value: object) -> tuple[Problem, ...]:
    """The problems of a list that have a message."""
    return tuple(
        Problem(each["message"], text_in(each, "pointer") or "", text_in(each, "schemaPath"))
        for each in objects(value)
        if isinstance(each.get("message"), str)
    )


def usage(value: object) -> Usage:
    """A usage; an empty one for any other value."""
    if not isinstance(value, dict):
        return Usage()
    return Usage(
        int(number_in(value.get("calls"))),
        int(number_in(value.get("storedCalls"))),
        token_count(value, "inputTokens"),
        token_count(value, "outputTokens"),
        known(value, "cost"),
        *kinds(value),
        int(number_in(value.get("countedCalls"))),
    )


def usage_of_all(values: Iterable[Any]) -> Usage:
    """The sum over several tasks."""
    return sum(map(usage, values), Usage())


def log_entries(value: object) -> list[dict[str, Any]]:
    """The valid entries of an execution log."""
    return [
        each
        for each in objects(value)
        if all(isinstance(each.get(name), str) for name in ("timestamp", "level", "message"))
        and isinstance(each.get("stage", ""), str)
        and isinstance(each.get("cycle", 0), int)
        and ("outcome" not in each or {"stage", "cycle"} <= each.keys())
    ]
