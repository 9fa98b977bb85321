"""The gate: a document and a schema give problems. Reads no files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from popbuild.base.errors import nearest
from popbuild.base.paths import FILE_NAME_RULE, NAME_RULE
from popbuild.model.problem import Problem, pointer_of
from popbuild.model.schema.schemas import Schema

MAX_PROBLEMS = 100
_MAX_ERRORS = 100 * MAX_PROBLEMS
_MAX_VALUE_CHARS = 120
_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
# What the patterns of our own formats mean, for people.
_RULES = {
    "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$": NAME_RULE,
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": FILE_NAME_RULE,
}


def judge(document: object, schema: Schema) -> tuple[Problem, ...]:
    """Every violation, each with the JSON Pointer where it stands. Empty means it passes.

    At most MAX_PROBLEMS, in the order of their places: a model learns no more from a thousand.
    """
    errors = []
    try:
        for error in schema.validator.iter_errors(document):
            errors.append(error)
            if isinstance(error.cause, TimeoutError):
                break  # a pattern that is too slow for one text is too slow for the next thousand
            if len(errors) >= _MAX_ERRORS:
                break  # millions of wrong items would fill the memory
    except RecursionError:
        return (Problem("the document is nested too deeply to be judged"),)
    found = (
        Problem(
            _message(leaf),
            pointer_of(list(leaf.absolute_path)),
            pointer_of(list(leaf.absolute_schema_path)),
        )
        for error in errors
        for leaf in _leaves(error)
    )
    unique = sorted(dict.fromkeys(found), key=lambda problem: problem.pointer)
    if len(unique) > MAX_PROBLEMS:
        rest = f"{len(unique) - MAX_PROBLEMS}" + (" or more" if len(errors) >= _MAX_ERRORS else "")
        unique = [*unique[:MAX_PROBLEMS], Problem(f"and {rest} further problems")]
    return tuple(unique)


def judge_main(document: object, schema: Schema | None, *, of_items: bool) -> tuple[Problem, ...]:
    """The problems of a task's main artifact; `of_items`, where it holds the outputs of items, each
    of which the schema is for."""
    if not of_items:
        return () if schema is None else judge(document, schema)
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(_is_entry(each) for each in items):
        return (Problem('not the outputs of items: {"items": [{"key", "output"}], "failed": []}'),)
    if schema is None:
        return ()
    found = (
        replace(problem, pointer=f"/items/{place}/output{problem.pointer}")
        for place, each in enumerate(items)
        for problem in judge(each["output"], schema)
    )
    return tuple(itertools.islice(found, MAX_PROBLEMS))


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("key"), str) and "output" in value


def _leaves(error: Any) -> list[Any]:
    """The errors of the branch of a failed oneOf or anyOf that came closest, which say more."""
    if error.validator not in ("oneOf", "anyOf") or not error.context:
        return [error]
    branches: dict[int, list[Any]] = {}
    for child in error.context:
        # A branch that is `false` has no place of its own.
        branch = child.schema_path[0] if child.schema_path else -1
        branches.setdefault(branch, []).append(child)
    # The branch with the deepest errors got the furthest; a wrong type at the top says the least.
    best = max(
        branches.values(), key=lambda each: (min(len(e.absolute_path) for e in each), -len(each))
    )
    if any(child.validator == "type" and not child.path for child in best):
        return [error]
    return [leaf for child in best for leaf in _leaves(child)]


def _message(error: Any) -> str:
    """What was found and what is allowed, in a line or two."""
    rule = error.validator
    told = _TELLING.get(rule, lambda error: None)(error)
    if told is not None:
        return told
    if rule is None or (error.validator_value is False and not rule.startswith("unevaluated")):
        return "not allowed here"
    return str(error.message)[: 2 * _MAX_VALUE_CHARS]


def _limit(error: Any) -> str:
    # In draft-04 a keyword beside it says whether the limit itself is allowed.
    rule = error.validator
    exclusive = "exclusive" + rule[0].upper() + rule[1:]
    limit = exclusive if error.schema.get(exclusive) is True else rule
    return f"{error.instance} is outside the limit: {_LIMITS[limit]} {error.validator_value}"


def _wrong_pattern(error: Any) -> str | None:
    if error.cause is not None:
        return None  # it took too long: the message is ours already
    allowed = error.validator_value
    if allowed in _RULES:
        return f"{_shown(error.instance)} is not a valid name: {_RULES[allowed]}"
    return f"{_shown(error.instance)} does not match {allowed}"


def _no_alternative(error: Any) -> str:
    branches, value = error.validator_value, _shown(error.instance)
    if error.validator == "oneOf" and not error.context:
        return f"fits more than one of {len(branches)} alternatives: {value}"
    known = [each for each in branches if isinstance(each, dict)]
    titles = " or ".join(str(each.get("title") or each.get("type")) for each in known)
    return f"must be {titles or 'nothing'}, found {value}"


def _forbidden(error: Any) -> str | None:
    if error.validator_value != {}:
        return None
    # Our own formats forbid a key this way: for `false`, jsonschema does not name the key.
    reason = error.schema.get("description")
    return f"not allowed here: {reason}" if reason else "not allowed here"


def _unknown_keys(error: Any) -> str | None:
    if error.validator_value is not False:
        return None
    if "patternProperties" in error.schema:
        return str(error.message)
    known = list(error.schema.get("properties", {}))
    found = []
    for key in error.instance:
        if key not in known:
            close = nearest(key, known)
            hint = f", did you mean {close!r}?" if close else f"; known are {', '.join(known)}"
            found.append(f"unknown key {key!r}{hint}")
    return "; ".join(found)


def _size(complaint: str, unit: str, limit: str) -> Callable[[Any], str]:
    return lambda e: f"{complaint}: {len(e.instance)}{unit}, {limit} {e.validator_value}"


def _missing(error: Any) -> str:
    return "missing " + ", ".join(
        repr(key) for key in error.validator_value if key not in error.instance
    )


def _missing_beside(error: Any) -> str:
    value, found = error.instance, []
    for key, needs in error.validator_value.items():
        if isinstance(needs, list) and key in value:
            found += [f"{need!r}, which {key!r} needs" for need in needs if need not in value]
    return "missing " + "; ".join(found)


def _wrong_type(error: Any) -> str:
    allowed = error.validator_value
    wanted = allowed if isinstance(allowed, str) else " or ".join(allowed)
    article = "an" if wanted[0] in "aeio" else "a"
    return f"must be {article} {wanted}, found {_shown(error.instance)}"


def _shown(value: object) -> str:
    text = repr(value)
    if isinstance(value, dict | list) and len(text) > _MAX_VALUE_CHARS:
        return "an object" if isinstance(value, dict) else "an array"
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…"


# The message for an error of each keyword; None leaves jsonschema's.
_TELLING: dict[str | None, Callable[[Any], str | None]] = {
    "required": _missing,
    "dependencies": _missing_beside,
    "dependentRequired": _missing_beside,
    "additionalProperties": _unknown_keys,
    "type": _wrong_type,
    "enum": lambda error: (
        f"must be one of {', '.join(map(repr, error.validator_value))}, "
        f"found {_shown(error.instance)}"
    ),
    "const": lambda error: f"must be {error.validator_value!r}, found {_shown(error.instance)}",
    "minLength": _size("too short", " characters", "at least"),
    "maxLength": _size("too long", " characters", "at most"),
    "minItems": _size("too few items", "", "at least"),
    "maxItems": _size("too many items", "", "at most"),
    **dict.fromkeys(_LIMITS, _limit),
    "format": lambda error: f"{_shown(error.instance)} {error.message}",
    "pattern": _wrong_pattern,
    "oneOf": _no_alternative,
    "anyOf": _no_alternative,
    "not": _forbidden,
}
