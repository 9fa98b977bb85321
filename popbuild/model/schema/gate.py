"""The gate: a document and a schema give problems. Reads no files."""

from __future__ import annotations

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


def judge(document: Any, schema: Schema) -> tuple[Problem, ...]:
    """Every violation, each with the JSON Pointer where it stands. Empty means it passes.

    At most MAX_PROBLEMS are listed, in the order of their places; what a model gets wrong a
    hundred times is not better understood at the thousandth.
    """
    errors = []
    try:
        for error in schema.validator.iter_errors(document):
            errors.append(error)
            if isinstance(error.cause, TimeoutError):
                break  # a pattern that is too slow for one text is so for the next thousand
            if len(errors) >= _MAX_ERRORS:
                break  # eight million wrong items would take more memory than there is
    except RecursionError:
        return (Problem("the document is nested too deeply to be judged"),)
    found = [_problem(leaf) for error in errors for leaf in _leaves(error)]
    unique = list(dict.fromkeys(found))
    unique.sort(key=lambda problem: problem.pointer)
    if len(unique) > MAX_PROBLEMS:
        rest = f"{len(unique) - MAX_PROBLEMS}" + (" or more" if len(errors) >= _MAX_ERRORS else "")
        unique = [*unique[:MAX_PROBLEMS], Problem(f"and {rest} further problems")]
    return tuple(unique)


def _leaves(error: Any) -> list[Any]:
    """Of a failed oneOf or anyOf, the branch that came closest: its errors say more."""
    if error.validator not in ("oneOf", "anyOf") or not error.context:
        return [error]
    branches: dict[int, list[Any]] = {}
    for child in error.context:
        # A branch that is `false` says no by itself, and not where.
        branch = child.schema_path[0] if child.schema_path else -1
        branches.setdefault(branch, []).append(child)
    # The branch whose errors lie deepest got the furthest; a wrong type at the top says the least.
    best = max(
        branches.values(), key=lambda each: (min(len(e.absolute_path) for e in each), -len(each))
    )
    if any(child.validator == "type" and not child.path for child in best):
        return [error]
    return [leaf for child in best for leaf in _leaves(child)]


def _problem(error: Any) -> Problem:
    return Problem(
        _message(error),
        pointer_of(list(error.absolute_path)),
        pointer_of(list(error.absolute_schema_path)),
    )


def _message(error: Any) -> str:  # noqa: PLR0911, PLR0912 - a table, a return a row
    """What was found and what is allowed, short enough for a line or two."""
    rule, value, allowed = error.validator, error.instance, error.validator_value
    match rule:
        case "required":
            missing = [key for key in allowed if key not in value]
            return "missing " + ", ".join(repr(key) for key in missing)
        case "additionalProperties" if allowed is False and "patternProperties" in error.schema:
            return str(error.message)
        case "unevaluatedProperties" | "unevaluatedItems" if allowed is False:
            return str(error.message)[: 2 * _MAX_VALUE_CHARS]
        case "dependencies" | "dependentRequired":
            asked = {key: needs for key, needs in allowed.items() if isinstance(needs, list)}
            return _missing_beside(value, asked)
        case "additionalProperties" if allowed is False:
            known = list(error.schema.get("properties", {}))
            return "; ".join(_unknown_key(key, known) for key in value if key not in known)
        case "type":
            wanted = allowed if isinstance(allowed, str) else " or ".join(allowed)
            return f"must be {_article(wanted)}, found {_shown(value)}"
        case "enum":
            return f"must be one of {', '.join(map(repr, allowed))}, found {_shown(value)}"
        case "const":
            return f"must be {allowed!r}, found {_shown(value)}"
        case "minLength":
            return f"too short: {len(value)} characters, at least {allowed}"
        case "maxLength":
            return f"too long: {len(value)} characters, at most {allowed}"
        case "minItems":
            return f"too few items: {len(value)}, at least {allowed}"
        case "maxItems":
            return f"too many items: {len(value)}, at most {allowed}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            # In draft-04 the limit itself is allowed or not by a keyword beside it.
            exclusive = "exclusive" + rule[0].upper() + rule[1:]
            limit = exclusive if error.schema.get(exclusive) is True else rule
            return f"{value} is outside the limit: {_LIMITS[limit]} {allowed}"
        case "format":
            return f"{_shown(value)} {error.message}"
        case "pattern" if error.cause is None:
            if allowed in _RULES:
                return f"{_shown(value)} is not a valid name: {_RULES[allowed]}"
            return f"{_shown(value)} does not match {allowed}"
        case "oneOf" if not error.context:
            return f"fits more than one of {len(allowed)} alternatives: {_shown(value)}"
        case "oneOf" | "anyOf":
            return f"must be {_titles(allowed)}, found {_shown(value)}"
        case "not" if allowed == {}:
            # Our own formats forbid a key this way: after `false` jsonschema does not say which.
            reason = error.schema.get("description")
            return f"not allowed here: {reason}" if reason else "not allowed here"
        case _ if allowed is False or rule is None:
            return "not allowed here"
        case _:
            return str(error.message)[: 2 * _MAX_VALUE_CHARS]


def _missing_beside(value: dict[str, Any], asked: dict[str, list[str]]) -> str:
    """What is missing because something else is there."""
    found = [
        f"{need!r}, which {key!r} needs"
        for key, needs in asked.items()
        for need in needs
        if key in value and need not in value
    ]
    return "missing " + "; ".join(found)


def _titles(branches: list[Any]) -> str:
    """What the branches of a oneOf or anyOf call themselves."""
    known = [each for each in branches if isinstance(each, dict)]
    return " or ".join(str(each.get("title") or each.get("type")) for each in known) or "nothing"


def _unknown_key(key: str, known: list[str]) -> str:
    close = nearest(key, known)
    hint = f", did you mean {close!r}?" if close else f"; known are {', '.join(known)}"
    return f"unknown key {key!r}{hint}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _shown(value: Any) -> str:
    text = repr(value)
    if isinstance(value, dict | list) and len(text) > _MAX_VALUE_CHARS:
        return "an object" if isinstance(value, dict) else "an array"
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…"
