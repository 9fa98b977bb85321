"""A task registry in JavaScript, `tasks/index.js`, if it is a plain map of names to modules.

It is never run. The reader knows only comments and one object of strings after `export default` or
`module.exports =`; anything else is not a plain map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:[^"\\\n]|\\["'`\\/])*"|'(?:[^'\\\n]|\\["'`\\/])*'|`(?:[^`\\$]|\\["'`\\/])*`)
    |(?P<word>[A-Za-z_$][\w$]*)
    |(?P<sign>[{}:,;=.])""",
    re.DOTALL | re.VERBOSE,
)
_HEADS = (("export", "default"), ("module", ".", "exports", "="))
_STRICT = "use strict"
_MODULES = (".js", ".mjs", ".cjs", ".ts")


def plain_map(text: str) -> dict[str, str] | None:
    """The names and modules of a registry; None unless it is a plain map. Of entries with the same
    name the last one counts, as in JavaScript."""
    tokens = list(_tokens(text))
    if tokens[:1] == [("string", _STRICT)]:
        tokens = tokens[1:]
        tokens = tokens[1:] if tokens[:1] == [("sign", ";")] else tokens
    words = [value for _, value in tokens]
    head = next((each for each in _HEADS if tuple(words[: len(each)]) == each), None)
    if head is None:
        return None
    tokens = tokens[len(head) :]
    if tokens[-1:] == [("sign", ";")]:
        tokens = tokens[:-1]
    if tokens[:1] != [("sign", "{")] or tokens[-1:] != [("sign", "}")]:
        return None
    return _entries(tokens[1:-1])


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The kind and the value of each token, without comments; `other` ends them."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            yield "other", text[at]
            return
        at = found.end()
        if found.lastgroup == "string":
            yield "string", re.sub(r"\\(.)", r"\1", found[0][1:-1])
        elif found.lastgroup != "skip":
            yield found.lastgroup, found[0]


def _entries(tokens: list[tuple[str, str]]) -> dict[str, str] | None:
    """`name: "module"`, with commas between and after; None for anything else."""
    if tokens[-1:] != [("sign", ",")] and tokens:
        tokens = [*tokens, ("sign", ",")]
    found = {}
    for start in range(0, len(tokens), 4):
        entry = tokens[start : start + 4]
        kinds = [kind for kind, _ in entry]
        if [value for _, value in entry[1::2]] != [":", ","] or kinds[2] != "string":
            return None
        if kinds[0] not in ("word", "string"):
            return None
        found[entry[0][1]] = entry[2][1]
    return found


def task_folder(module: str) -> str:
    """The folder of a module: `./research` for both `./research/index.js` and `./research.js`."""
    path = PurePosixPath(module)
    if path.suffix not in _MODULES:
        return module
    folder = path.parent if path.parent != PurePosixPath() else path.with_suffix("")
    return f"./{folder}" if not folder.is_absolute() else str(folder)
