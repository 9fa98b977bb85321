"""Strict YAML in: no aliases, no duplicate keys, only JSON's types, with line numbers."""

from __future__ import annotations

import re
from typing import Any

import yaml

from popbuild.base import jsonio
from popbuild.base.errors import ConfigError, InputError
from popbuild.model.problem import parts_of

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _not_json(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


class _Loader(_SafeLoader):  # type: ignore[misc]  # the C loader is chosen at run time
    """YAML's JSON subset: keys are text, and none repeats."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _not_json(f"a key must be text, found {key!r}", key_node)
            if key in seen:
                raise _not_json(f"duplicate key {key!r}", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: Any) -> Any:
        """A scalar tagged as a number or a boolean, which it may not be."""
        kind = node.tag.removeprefix(_YAML)
        try:
            if ":" in node.value:
                raise ValueError
            return _SafeLoader.yaml_constructors[node.tag](self, node)
        except (ValueError, LookupError):
            raise _not_json(f"{node.value[:40]!r}, which is not a valid {kind}", node) from None


_YAML = "tag:yaml.org,2002:"
_NUMBERS = {f"{_YAML}{kind}": _Loader.construct_number for kind in ("int", "float", "bool")}
# No set, no pairs, no bytes, no date: JSON has none of them.
_Loader.yaml_constructors = _NUMBERS | {
    tag: _SafeLoader.yaml_constructors[tag]
    for tag in (*(f"{_YAML}{kind}" for kind in ("null", "str", "seq", "map")), None)
}
# YAML reads `2024-01-01` as a date and `12:30` as the number 750: here they stay texts.
_PLAIN = {
    f"{_YAML}int": r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$",
    f"{_YAML}float": r"([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_PLAIN[tag]) if tag in _PLAIN else pattern)
        for tag, pattern in resolvers
        if tag != f"{_YAML}timestamp"
    ]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


def _check_events(text: str) -> None:
    """Refuse what must not even be composed: 306 bytes of aliases make a million nodes, and deep
    nesting kills the C loader without an exception."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.events.AliasEvent):
            problem = f"the alias *{event.anchor}; write its value out instead"
        elif isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
            problem = f"more than {jsonio.MAX_DEPTH} levels" if depth > jsonio.MAX_DEPTH else ""
        else:
            depth -= isinstance(event, yaml.events.CollectionEndEvent)
            continue
        if problem:
            raise _not_json(problem, event)


def yaml_value(data: bytes, where: str) -> Any:
    """A JSON value from YAML, or a ConfigError with file and line."""
    if len(data) > jsonio.MAX_BYTES:
        values = {"file": where, "allowed": f"{jsonio.MAX_BYTES:,} bytes"}
        raise ConfigError("file is too large", values)
    try:
        text = jsonio.utf8(data, where)
        _check_events(text)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except InputError as error:
        raise ConfigError.of(error) from None
    except RecursionError:
        raise ConfigError("YAML is nested too deeply", {"file": where}) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown"
        found = str(error.problem or error.context)
        found = found.replace("could not determine a constructor for the tag", "the unknown tag")
        raise ConfigError("not valid YAML", {"file": where, "at": place, "found": found}) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError("not valid YAML", {"file": where, "found": error}) from None
    try:
        jsonio.normal(value, where)
    except InputError as error:
        values = {"file": where, "found": error.values.get("found", error.message)}
        raise ConfigError("YAML says what JSON cannot", values, error.hint) from None
    return value


def yaml_line(data: bytes, pointer: str) -> int | None:
    """The line, from 1, where a JSON Pointer's value (or its nearest parent) begins."""
    try:
        node = yaml.compose(data.decode("utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        node = None
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for part in parts_of(pointer):
        if isinstance(node, yaml.MappingNode):
            below = [(key, value) for key, value in node.value if key.value == part]
            if not below:
                break
            line, node = below[0][0].start_mark.line + 1, below[0][1]
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal():
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return line
