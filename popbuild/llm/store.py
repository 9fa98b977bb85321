"""The store: every complete answer by its request's digest, kept before anything else happens.

An answer that is empty, cut off or fails its gate is served again too, so that a crash between
refinements buys nothing twice and a replay goes the same way. A new draw is a new sample number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio, tree
from popbuild.base.errors import UsageError, no_such
from popbuild.llm.request import Answer, Request, is_local
from popbuild.llm.usage import Tokens, has_invented_zeros
from popbuild.model.letter import is_sealed, seal

STORE_VERSION = 1
SET_ASIDE = ".damaged"

# How a command uses the store.
USE = "use"  # serve hits; send and keep the rest
REFRESH = "refresh"  # send everything once a command, and replace what is there
ONLY = "only"  # a miss is an error: nothing is sent
OFF = "off"  # neither read nor written
MODES = (USE, REFRESH, ONLY, OFF)


def choose_mode(given: str | None, environment: Mapping[str, str]) -> str:
    """The mode of `--store`, else of POPBUILD_STORE, else `use`. UsageError for any other."""
    name = "POPBUILD_STORE" if given is None else "--store"
    mode = environment.get("POPBUILD_STORE") or USE if given is None else given
    if mode not in MODES:
        raise UsageError("no such mode of the store", no_such(name, mode or "nothing", MODES))
    return mode


@dataclass(frozen=True)
class Damaged:
    """An entry that is not what was stored. `aside` is where it was moved; None where it could not
    be."""

    path: Path
    aside: Path | None


class Store:
    """Answers in a folder, one file each: `<first two digits>/<the rest>.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / f"{name[2:]}.json"

    def get(self, digest: str) -> Answer | Damaged | None:
        """The answer to a request, or None. A damaged entry is moved aside, if the store can be
        written. Raises OSError where the store cannot be read."""
        path = self.path(digest)
        try:
            body = open_entry(path.read_bytes(), digest)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            body = None
        return Damaged(path, _set_aside(path)) if body is None else _answer_in(body)

    def peek(self, digest: str) -> Answer | None:
        """What `get` would serve, None also for what cannot be read. Moves nothing."""
        try:
            body = open_entry(self.path(digest).read_bytes(), digest)
        except OSError:
            return None
        return None if body is None else _answer_in(body)

    def has_room(self, request: Request) -> bool:
        return self.path(request.digest).parent.is_dir()

    def make_room(self, request: Request) -> None:
        """Make the answer's folder, durably."""
        disk.make_folder(self.path(request.digest).parent)
        disk.sync_folder(self._folder)

    def prepare(self, request: Request, answer: Answer) -> disk.Prepared:
        """An answer's entry, durable once it is committed. Its folder must exist."""
        own = answer.counted
        counted = {"counted": {"input": own.input, "output": own.output}} if own else {}
        body = seal(
            {
                "formatVersion": STORE_VERSION,
                "digestOfRequest": request.digest,
                "request": request.as_json(),
                "response": dict(answer.response),
                "cost": answer.cost,
                "durationMs": answer.duration_ms,
                "warnings": list(answer.warnings),
                **counted,
            }
        )
        return disk.prepare(self.path(request.digest), jsonio.compact(body).encode())

    def stands(self, digest: str) -> bool:
        """Whether there is an entry. Raises OSError where the store cannot be read."""
        try:
            os.stat(self.path(digest))  # noqa: PTH116 - called for thousands of digests
        except FileNotFoundError:
            return False
        return True


def open_entry(data: bytes, digest: str) -> dict[str, Any] | None:
    """The document of an entry, or None where it is damaged, foreign or of another version."""
    try:
        body = json.loads(data)
        intact = (
            isinstance(body, dict)
            and body.get("formatVersion") == STORE_VERSION
            and body.get("digestOfRequest") == digest == jsonio.digest(body.get("request"))
            and is_sealed(body)
            and _has_its_parts(body)
        )
    # A flipped bit may break the text, a number or the nesting.
    except (ValueError, RecursionError):
        return None
    return body if intact else None


def _answer_in(body: Mapping[str, Any]) -> Answer:
    counted = body.get("counted")
    return Answer(
        body["response"],
        cost_in(body),
        body["durationMs"],
        tuple(body["warnings"]),
        stored=True,
        counted=Tokens(counted["input"], counted["output"], is_counted_by_us=True)
        if counted
        else None,
    )


def cost_in(body: Mapping[str, Any]) -> float | None:
    """The cost of the answer in an entry, None where unknown. Old entries have 0 where the provider
    did not say what it used."""
    cost: float | None = body["cost"]
    invented = has_invented_zeros(body["response"]) and not is_local(body["request"]["model"])
    return None if not cost and invented else cost


def _has_its_parts(body: dict[str, Any]) -> bool:
    """Whether an entry is complete: one that was made elsewhere may be sealed and still lack
    parts."""
    counted = {"input": 0, "output": 0} if body.get("counted") is None else body["counted"]
    return (
        isinstance(body["request"], dict)
        and isinstance(body["request"].get("model"), str)
        and isinstance(body.get("response"), dict)
        and isinstance(body.get("cost", ""), int | float | None)
        and isinstance(body.get("durationMs"), int | float)
        and isinstance(body.get("warnings"), list)
        and all(isinstance(each, str) for each in body["warnings"])
        and isinstance(counted, dict)
        and all(isinstance(counted.get(each), int) for each in ("input", "output"))
    )


def _set_aside(path: Path) -> Path | None:
    aside = path.with_suffix(SET_ASIDE)
    try:
        tree.rename(path, aside)
    except OSError:  # the store is read-only
        return None
    return aside
