"""The decision of a person at a task's human gate, `tasks/<task>/decision.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.errors import printable
from popbuild.model.letter import is_sealed, seal

DECISION_VERSION = 1
APPROVED, REJECTED = "approved", "rejected"
OPEN = "open"  # no decision yet about the artifacts as they stand
STAGE = "humanGate"  # in rejection.json, where a stage's gate has the stage's name


@dataclass(frozen=True)
class Decision:
    """`artifacts` are the digests of the artifacts in question by file name, as in letters."""

    task: str
    decision: str
    by: str
    at: str
    note: str | None
    artifacts: Mapping[str, str]

    def holds_for(self, artifacts: Mapping[str, str]) -> bool:
        """Whether the decision is about these artifacts."""
        return all(self.artifacts.get(name) == digest for name, digest in artifacts.items())

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "artifacts": dict(self.artifacts)}

    def as_document(self) -> dict[str, Any]:
        """decision.json."""
        return seal({"formatVersion": DECISION_VERSION, **self.as_json()})


@dataclass(frozen=True)
class Question:
    """What a person is asked: the gate's message, and the names of the artifacts to look at. `of`
    is the digest of all of it: an answer that repeats it can be about nothing else."""

    task: str
    message: str
    artifacts: tuple[str, ...]
    of: str

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "artifacts": list(self.artifacts)}


def in_words(decision: Mapping[str, Any]) -> str:
    """A decision in JSON as a line: `approved by Ada, 2026-11-28T14:02:11.480Z: fine`."""
    note = f": {decision['note']}" if decision["note"] else ""
    text = f"{decision['decision']} by {decision['by']}, {decision['at']}{note}"
    return " ".join(printable(text).split())


def open_decision(body: object, task: str) -> Decision | None:
    """The decision in a document; None if it is foreign, altered or of another version."""
    if not isinstance(body, dict) or body.get("formatVersion") != DECISION_VERSION:
        return None
    if body.get("task") != task or body.get("decision") not in (APPROVED, REJECTED):
        return None
    by, at, note, artifacts = (body.get(key) for key in ("by", "at", "note", "artifacts"))
    texts = isinstance(by, str) and isinstance(at, str) and isinstance(note, str | None)
    if not texts or not isinstance(artifacts, dict) or not is_sealed(body):
        return None
    return Decision(task, body["decision"], str(by), str(at), note, artifacts)
