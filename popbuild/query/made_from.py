"""What a letter says that its task was made from, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.model.letter import Letter
from popbuild.model.place import OWN
from popbuild.model.problem import MISSING, column_items, value_read
from popbuild.model.values import value_digest


@dataclass(frozen=True)
class MadeFrom:
    """The dependencies in a fingerprint by kind, as `trace --json` shows them."""

    files: list[dict[str, Any]] = field(default_factory=list)
    seed: list[dict[str, Any]] = field(default_factory=list)
    vars: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    rest: dict[str, str] = field(default_factory=dict)


def made_from_of(letter: Letter, seed: object, now: Mapping[str, str]) -> MadeFrom:
    """A fingerprint by kind, with the values of the job's seed as far as they are the same. `now`
    has the digests of the configuration as it is."""
    found = MadeFrom()
    for dependency, digest in sorted(letter.fingerprint.items()):
        kind, _, name = dependency.partition(":")
        if kind == "file":
            same = now.get(name, jsonio.ABSENT) == digest
            today = "same" if same else "changed" if name in now else "removed"
            found.files.append({"path": name, "digest": digest, "today": today})
        elif kind.partition("-")[0] == "seed":
            entry: dict[str, Any] = {"pointer": name, "digest": digest}
            value = value_read(seed, name)
            if kind == "seed" and digest != jsonio.ABSENT and value_digest(value) == digest:
                entry["value"] = column_items(name, value)
            found.seed.append(entry)
        elif kind.partition("-")[0] == "vars":
            known = letter.body.get("vars", {}).get(name, MISSING)
            value = {} if known is MISSING else {"value": known}
            found.vars.append({"pointer": name, "digest": digest, **value})
        elif kind.partition("-")[0] == "input":
            file, _, pointer = name.partition(":")
            found.inputs.append({"file": file, "pointer": pointer, "digest": digest})
        elif kind.partition("-")[0] == "artifact":
            upstream, _, pointer = name.partition(":")
            found.artifacts.append({"task": upstream, "pointer": pointer, "digest": digest})
        elif kind in ("command", "endpoint", "weights") and digest != OWN:
            found.rest[kind] = digest
    return found
