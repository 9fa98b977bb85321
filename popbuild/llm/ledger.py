"""The ledger: what is about to be spent, synced before a call is sent, and what it came to.

An entry that was reserved and never settled is unknown spend: a crash happened while the provider
may have been working. It counts at its maximum, and so does one whose provider did not say what it
used: it was settled at an unknown cost. Append-only JSON Lines; entries that come at the
same time share one write and one sync.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.commits import AppendedLine, DiskChange, commit
from popbuild.base.threads import Batches
from popbuild.llm.request import Answer, Message, Request, message_text
from popbuild.model.clock import timestamp


class Journal:
    """Durable appends to one file, batched."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: Batches[Sequence[DiskChange]] = Batches(self._append)

    def line(self, entry: Mapping[str, Any]) -> AppendedLine:
        """What is to be appended for an entry."""
        return AppendedLine(self._path, jsonio.compact(dict(entry)).encode() + b"\n")

    async def add(self, entry: Mapping[str, Any]) -> None:
        """Append one line; returns when it is on disk."""
        await self._lines.add((self.line(entry),))

    async def drain(self) -> None:
        """Returns when every line is on disk."""
        await self._lines.drain()

    def _append(self, lines: Sequence[Sequence[DiskChange]]) -> Sequence[OSError | None]:
        try:
            disk.make_folder(self._path.parent)
        except OSError as error:
            return [error] * len(lines)
        return commit(lines)


@dataclass(frozen=True)
class Origin:
    """Which run, job, task and pipeline a call belongs to; its cycle, 0 for the first try."""

    run: str
    job: str
    task: str
    pipeline: str = ""
    cycle: int = 0


class Ledger:
    """What this root has spent and is about to spend. Costs are US dollars, None is unknown."""

    def __init__(self, path: Path, command: str | None = None) -> None:
        self.path = path
        # Tells apart what commands spend at the same time.
        self.command = command or secrets.token_hex(4)
        self._journal = Journal(path)

    async def drain(self) -> None:
        """Returns when every entry is on disk."""
        await self._journal.drain()

    async def reserve(self, request: Request, origin: Origin, maximum: float | None) -> str:
        """Write down the most that a call may cost, before it is sent. Gives the entry's ID."""
        entry = secrets.token_hex(8)
        await self._journal.add(
            {
                "event": "reserved",
                "entry": entry,
                "at": timestamp(),
                "request": request.digest,
                "model": request.model,
                "run": origin.run,
                "job": origin.job,
                "task": origin.task,
                "pipeline": origin.pipeline,
                "cycle": origin.cycle,
                "command": self.command,
                "inputBytes": size_of(request.messages),
                "cost": maximum,
            }
        )
        return entry

    def settlement(self, entry: str, answer: Answer) -> AppendedLine:
        """To be appended when the answer came: what it cost, and its tokens, from which plans
        learn. Our own count is not a bill: then the cost is unknown here, and the entry goes on
        counting at its maximum."""
        used = answer.used
        parts = {
            "cachedTokens": used.cached,
            "cacheWriteTokens": used.written,
            "reasoningTokens": used.reasoning,
        }
        return self._journal.line(
            {
                "event": "settled",
                "entry": entry,
                "at": timestamp(),
                "cost": None if used.is_counted_by_us else answer.cost,
                "inputTokens": used.input,
                "outputTokens": used.output,
                **{name: part for name, part in parts.items() if part is not None},
                "finishReason": answer.finish_reason,
            }
        )

    async def release(self, entry: str, reason: str) -> None:
        """The provider refused: nothing was spent."""
        await self._journal.add(
            {"event": "released", "entry": entry, "at": timestamp(), "reason": reason}
        )


def size_of(messages: Iterable[Message]) -> int:
    """The bytes of what a conversation says."""
    return sum(len(message_text(message).encode(errors="replace")) for message in messages)


def read_entries(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Every entry of a JSON Lines file, and how many lines are none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], 0
    entries, bad = [], 0
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        else:
            bad += bool(line.strip())
    return entries, bad
