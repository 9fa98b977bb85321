"""Strict JSON in, sorted and indented JSON out, digests tagged with their algorithm.

`json.loads` accepts NaN, keeps the last of duplicate keys, reads 1e999 as infinity and lets lone
surrogates in that crash on writing. None of that enters a job.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from popbuild.base.errors import InputError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 200
# Of files that we wrote: every two bytes may get a line and its indentation, 402 bytes at most.
MAX_OWN_BYTES = 256 * MAX_BYTES
# Of files in pending/, which others may have put there. Ours have no indentation if it would make
# them larger than this: then only numbers grow (`1e15`), and never by so much.
MAX_QUEUED_BYTES = 8 * MAX_BYTES

_HALF_A_PAIR = "text has half a surrogate pair"
_HALF = re.compile("[\ud800-\udfff]")
_MAX_DIGITS = 4_300  # Python's own limit for an integer
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[{}\[\],:]', re.DOTALL
)

_COMPACT = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode

ABSENT = "absent"  # stands in a fingerprint where a value or file is missing


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """The digest of a JSON value, whatever its formatting and the order of its keys."""
    return digest_bytes(compact(value).encode())


def digest_in_order(value: object) -> str:
    """The digest of a JSON value whose order of keys has a meaning, whatever its formatting."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def compact(value: object) -> str:
    """Canonical JSON on one line: sorted keys, no spaces."""
    return _COMPACT(value)


def in_order(value: object) -> Any:
    """A copy of a JSON value in which the keys of every object are sorted."""
    return json.loads(compact(value))


def dumps(value: object, *, sort: bool = True) -> bytes:
    """JSON as it stands on disk: indented, UTF-8, with a final newline. ValueError for NaN."""
    try:
        data = _indented(value, sort=sort)
    except TypeError:  # for orjson: an integer of more than 64 bits, or deeper than it goes
        text = json.dumps(value, indent=2, sort_keys=sort, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()
    if b"null" in data:  # which orjson writes for NaN, too
        json.dumps(value, allow_nan=False)
    return data


def _indented(value: object, *, sort: bool) -> bytes:
    # Python's encoder indents in Python, which was a tenth of what a task costs. Imported here,
    # since a command that writes nothing has no need of it.
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_SUBCLASS
    options |= orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    return orjson.dumps(value, option=options | orjson.OPT_SORT_KEYS if sort else options)


def loads(data: bytes, where: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """A JSON value from bytes, or an InputError that says what is wrong in `where`."""
    if len(data) > max_bytes:
        raise too_large(where, f"{len(data):,}", max_bytes)
    return parse(utf8(data, where), where)


def too_large(where: object, found: str, max_bytes: int) -> InputError:
    values = {"file": where, "found": f"{found} bytes", "allowed": f"{max_bytes:,} bytes"}
    return InputError("file is too large", values)


def utf8(data: bytes, where: str) -> str:
    """The text of a file, without a byte order mark; InputError if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        values = {"file": where, "at": f"byte {error.start}"}
        raise InputError("file is not UTF-8", values) from None


def parse(text: str, where: str, *, controls: bool = False) -> Any:
    """A JSON value from text, under the same rules as `loads`; with `controls`, strings may have
    control characters."""
    try:
        value = (_decode_with_controls if controls else _decode)(text)
    except RecursionError:
        raise _too_deep(where) from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        found = error.msg if text.strip() else "nothing: it is empty"
        raise InputError("not valid JSON", {"file": where, "at": at, "found": found}) from None
    except ValueError as error:
        # Of our hooks, or of Python's limit on the digits of an integer: neither knows the place.
        place = _forbidden(text) or {"found": str(error)}
        raise InputError("not valid JSON", {"file": where, **place}) from None
    try:
        _check_tree(value, where)
    except InputError as error:
        known = _forbidden(text) if error.message == _HALF_A_PAIR else None
        if known is not None:
            error.values["at"] = known["at"]
        raise
    return value


def normal(value: object, where: str) -> Any:
    """A copy of the value as JSON has it: tuples become lists, and nothing is shared. InputError
    for other types, NaN, lone surrogates and too deep a nesting."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError("not a JSON value", {"where": where, "found": str(error)}) from None
    return parse(text, where)


def _forbidden(text: str) -> dict[str, str] | None:
    """Where a text that can be parsed breaks our rules, and how; None if nowhere. Slow, and only
    for the message: the parser does not tell its hooks the place."""
    scopes: list[set[str] | None] = []  # the keys of each open object; None for an array
    is_key = False
    for match in _TOKEN.finditer(text):
        part = match.group()
        found = None
        if part in "{[":
            scopes.append(set() if part == "{" else None)
        elif part in "}]" and scopes:
            scopes.pop()
        elif part[0] == '"':
            value = str(json.loads(part, strict=False))
            found = _HALF_A_PAIR if _HALF.search(value) else None
            keys = scopes[-1] if scopes else None
            if is_key and keys is not None:
                found = f"duplicate key {value!r}" if value in keys else found
                keys.add(value)
        elif part in ("NaN", "Infinity", "-Infinity"):
            found = f"{part}, which is not JSON"
        elif part.lstrip("-").isdecimal():
            found = f"a number of {len(part):,} digits" if len(part) > _MAX_DIGITS else None
        elif part[0] not in "}],:" and not math.isfinite(float(part)):
            found = f"{part[:40]}, which is too large a number"
        if found is not None:
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            return {"at": f"line {line}, column {column}", "found": found}
        is_key = part == "{" or (part == "," and bool(scopes) and scopes[-1] is not None)
    return None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):  # `_forbidden` finds which, and the constants and numbers below
        raise ValueError
    return result


def _no_constant(name: str) -> Any:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


_HOOKS: dict[str, Any] = {
    "object_pairs_hook": _without_duplicates,
    "parse_constant": _no_constant,
    "parse_float": _finite,
}
_decode = json.JSONDecoder(**_HOOKS).decode
_decode_with_controls = json.JSONDecoder(**_HOOKS, strict=False).decode


def _check_tree(root: object, where: str) -> None:
    """Bound the depth and refuse lone surrogates, without recursion."""
    level = [root]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep(where)
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for key in value:
                    _check_text(key, where)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(value, where)
        level = below


def _too_deep(where: str) -> InputError:
    values = {"file": where, "allowed": f"{MAX_DEPTH} levels"}
    return InputError("JSON is nested too deeply", values)


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = ascii(text[max(0, error.start - 10) : error.end + 10])
        raise InputError(_HALF_A_PAIR, {"file": where, "found": found}) from None
