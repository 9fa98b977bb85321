"""Which variants of a root a command is about: by --variant, else POPBUILD_VARIANT, and --set; and
how many draws of each, by --samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, PopbuildError, UsageError
from popbuild.base.paths import Root
from popbuild.base.roots import seen_in_error
from popbuild.base.units import whole_number

if TYPE_CHECKING:
    from popbuild.base.arguments import Given

_VARS, _MODEL = "vars", "model"
_MOST_PARTS = 16
_FORMS = "model=NAME, vars.NAME=VALUE or TASK.SETTING=VALUE"


def variant_of(root: Root, given: Given) -> Root:
    """The root as the variant that a command's words name sees it."""
    words = vars(given)
    if "variant" not in words:
        return root  # a command that has nothing to do with variants
    chosen = seen_by(root, words["variant"], words.get("changes"))
    given.chosen = chosen
    return chosen


def seen_by_command(error: PopbuildError, given: Given) -> None:
    """Let an error name files and commands as the variant has them that the command was about."""
    if (root := getattr(given, "chosen", None)) is not None:
        seen_in_error(root, error)


def variants_of(root: Root, given: Given) -> list[Root]:
    """The root as each of the variants sees it that the words of a command name, which may be
    several, and as each of the draws that `--samples` wants."""
    named = _named(root, given.variant)
    names = [None] if named is None else dict.fromkeys(named.split(","))
    found = [seen_by(root, name, given.changes) for name in names]
    given.chosen = found[0] if len(found) == 1 else root
    if given.samples is None:
        return found
    from popbuild.model.config import variants

    count, most = whole_number("--samples", given.samples) or 1, variants.MOST_DRAWS
    if count > most:
        raise UsageError(f"--samples is at most {most:,}", {"found": f"{count:,}"})
    for each in found:
        if each.variant.draw:
            hint = f"--variant {variants.drawn(each, 0).variant.label} --samples {count}"
            raise UsageError("a draw has no draws", {"variant": each.variant.label}, hint)
    return [variants.drawn(each, number) for each in found for number in range(count)]


def is_named(root: Root, given: Given) -> bool:
    """Whether the words of a command, or the environment, name a variant."""
    return _named(root, given.variant) is not None or bool(given.changes)


def _named(root: Root, given: str | None) -> str | None:
    if given is not None:
        return given
    from popbuild.model.config.config import environment_of

    return environment_of(root, os.environ).get("POPBUILD_VARIANT") or None


def seen_by(root: Root, name: str | None, changes: Sequence[str] | None) -> Root:
    """The root as the variant of this name sees it, or the one that changes of it make. UsageError
    for a name or a change that means nothing."""
    chosen = _named(root, name)
    if chosen is None and not changes:
        return root
    # Imported here: most commands have nothing to do with variants.
    from popbuild.model.config import variants

    if chosen is not None and "," in chosen:
        values = {"--variant": chosen}
        hint = "run, plan and list take several"
        raise UsageError("this command is about one variant", values, hint)
    variant = root if chosen is None else variants.choose(root, chosen)
    return variants.made_by(variant, _said(changes)) if changes else variant


def _said(changes: Sequence[str]) -> dict[str, Any]:
    """What several `--set` say, as variant.yaml would. The last of one place wins."""
    from popbuild.model.config import variants

    said: dict[str, Any] = {}
    for change in changes:
        place, equals, text = change.partition("=")
        said = variants.merged(said, _one(change, place.split("."), text if equals else None))
    return said


def _one(change: str, path: list[str], text: str | None) -> dict[str, Any]:
    if text is None or not all(path) or (path != [_MODEL] and len(path) == 1):
        raise UsageError("not a setting of a variant", {"--set": change, "allowed": _FORMS})
    if path == [_MODEL]:
        return {_MODEL: text}
    if len(path) > _MOST_PARTS:
        raise UsageError("a setting of a variant is too deep", {"allowed": f"{_MOST_PARTS} names"})
    value = _value(text)
    if path[0] == _VARS:
        return {_VARS: _nested(path[1:], value)}
    from popbuild.llm import known

    name = path[1]
    if known.doubtful([name]):
        close, is_certain = known.meant(name, known.OURS | known.COMMON | known.OF_SERVERS)
        if is_certain:
            values = {"--set": change, "setting": name, "did you mean": close}
            raise UsageError("no such setting", values)
    return {"taskConfig": _nested(path, value)}


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _value(text: str) -> Any:
    """A value as JSON has it, or else the text itself."""
    try:
        return jsonio.loads(text.encode(errors="surrogateescape"), "--set")
    except InputError:
        return text
