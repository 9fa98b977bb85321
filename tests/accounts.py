"""Store and ledger against what the provider saw, answer by answer.

As in invariants.py, nothing of popbuild is imported: both are read here a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from provider import Request


@dataclass(frozen=True)
class Accounts:
    """A root's store and ledger as they stand, beside every request that was ever sent for it.

    What the provider sent to its end is `answered`. Of these answers some may be lost, where a
    process died before it had put them down: as many as calls were under way.
    """

    root: Path
    requests: Sequence[Request]

    @cached_property
    def answered(self) -> dict[str, Any]:
        """What the provider sent to its end, by the ID that it gave the answer."""
        bodies = [json.loads(request.sent) for request in self.requests if request.answered]
        return {body["id"]: body for body in bodies if "choices" in body}

    @cached_property
    def stored(self) -> dict[str, Any]:
        """The answers in the store, by the same ID."""
        entries = (_json(path) for path in self.root.glob(".popbuild/store/*/*.json"))
        responses = [entry["response"] for entry in entries if isinstance(entry, dict)]
        return {str(response.get("id")): response for response in responses}

    @cached_property
    def lost(self) -> list[str]:
        """The answers that the provider sent to its end, and the store does not have."""
        return sorted(self.answered.keys() - self.stored.keys())

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The whole lines of the ledger."""
        path = self.root / ".popbuild/ledger.jsonl"
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        return [body for body in map(_body, lines) if isinstance(body, dict)]

    def of(self, event: str) -> list[str]:
        """The entries of the ledger that this happened to, as often as it did."""
        return [each["entry"] for each in self.events if each["event"] == event]

    @property
    def unsettled(self) -> int:
        """Calls of which the ledger does not know how they ended."""
        ended = {*self.of("settled"), *self.of("released")}
        return len(set(self.of("reserved")) - ended)

    def wrong(self, may_lose: int, keeps: bool = True) -> Iterator[str]:
        """All that does not agree. `keeps` says that no command drops answers from the store."""
        yield from self._wrong_answers()
        if keeps and len(self.lost) > may_lose:
            yield f"answers lost: {', '.join(self.lost)}"
        yield from self._wrong_entries(may_lose)
        if keeps:
            yield from self._settled_and_lost(may_lose)

    def _wrong_answers(self) -> Iterator[str]:
        """What is stored is what was sent, to the last character and token."""
        for name, response in self.stored.items():
            sent = self.answered.get(name)
            if sent is None:
                yield f"an answer in the store that the provider did not finish: {name}"
            elif _parts(response) != _parts(sent):
                yield f"stored is {_parts(response)} instead of {_parts(sent)}"

    def _wrong_entries(self, may_lose: int) -> Iterator[str]:
        """Every call has its reservation, and every one that was not under way its end."""
        reserved, settled, released = map(self.of, ("reserved", "settled", "released"))
        if len(self.requests) > len(reserved):
            yield f"{len(self.requests)} requests, {len(reserved)} reservations"
        ended = [*settled, *released]
        if len(set(ended)) != len(ended) or not set(ended) <= set(reserved):
            yield f"entries that ended twice, or never began: {sorted(ended)}"
        if len(settled) > len(self.answered):
            yield f"{len(settled)} settled, {len(self.answered)} answered"
        if len(self.answered) - len(settled) > may_lose:
            yield f"{len(self.answered)} answered, only {len(settled)} settled"
        if self.unsettled > may_lose:
            yield f"{self.unsettled} calls without an end in the ledger"

    def _settled_and_lost(self, may_lose: int) -> Iterator[str]:
        """What was paid for and put down as such is in the store."""
        request = {each["entry"]: each["request"] for each in self.events if "request" in each}
        digests = [request[entry] for entry in self.of("settled") if entry in request]
        gone = [each for each in digests if not _entry(self.root, each).exists()]
        if len(gone) > may_lose:
            yield f"settled, and not in the store: {gone}"


def _entry(root: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return root / ".popbuild/store" / name[:2] / f"{name[2:]}.json"


def _parts(response: dict[str, Any]) -> tuple[object, ...]:
    (choice,) = response["choices"]
    usage = response["usage"]
    return (
        choice["message"].get("content"),
        choice["finish_reason"],
        usage["prompt_tokens"],
        usage["completion_tokens"],
        response["model"],
    )


def _json(path: Path) -> Any:
    try:
        return _body(path.read_bytes())
    except FileNotFoundError:
        return None


def _body(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
