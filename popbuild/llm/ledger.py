"""The ledger: what a call may cost, synced before it is sent, and what it did cost. And cache hits:
how often the store spared a call, and what that call had cost when it was bought.

An entry that was reserved and never settled is unknown spend: there was a crash while the provider
may have been working. It counts at its maximum, and so does an entry that was settled at an unknown
cost. Append-only JSON Lines; entries that come at the same time share one write and one sync.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.commits import AppendedLine, DiskChange, commit
from popbuild.base.threads import Batches
from popbuild.llm.request import Answer, Message, Request, message_text
from popbuild.model.clock import timestamp


@dataclass(frozen=True)
class Origin:
    """Which run, job, task and pipeline a call belongs to; its cycle, 0 for the first try; the key
    of the item that it is about, if the task has items."""

    run: str
    job: str
    task: str
    pipeline: str = ""
    cycle: int = 0
    item: str = ""


class Ledger:
    """What this root has spent and is about to spend. Costs are US dollars, None is unknown.
    `variant` is the one whose jobs make the calls, empty for the main one."""

    def __init__(self, path: Path, command: str | None = None, variant: str = "") -> None:
        self.path = path
        self.variant = variant
        # Keeps the spending of concurrent commands apart.
        self.command = command or secrets.token_hex(4)
        self._lines: Batches[Sequence[DiskChange]] = Batches(self._append)

    async def drain(self) -> None:
        """Returns when every entry is on disk."""
        await self._lines.drain()

    async def reserve(self, request: Request, origin: Origin, maximum: float | None) -> str:
        """Write the most that a call may cost, before it is sent. Gives the entry's ID."""
        entry = secrets.token_hex(8)
        line = self._line(
            "reserved",
            entry,
            request=request.digest,
            model=request.model,
            run=origin.run,
            job=origin.job,
            task=origin.task,
            pipeline=origin.pipeline,
            cycle=origin.cycle,
            **({"item": origin.item} if origin.item else {}),
            **({"variant": self.variant} if self.variant else {}),
            command=self.command,
            inputBytes=size_of(request.messages),
            cost=maximum,
        )
        await self._lines.add((line,))
        return entry

    def settlement(self, entry: str, answer: Answer) -> AppendedLine:
        """The line for an answer: its cost, and its tokens, from which plans learn. Our own count
        is not a bill: the cost is then unknown, and the entry still counts at its maximum."""
        used = answer.used
        parts = {
            "cachedTokens": used.cached,
            "cacheWriteTokens": used.written,
            "reasoningTokens": used.reasoning,
        }
        return self._line(
            "settled",
            entry,
            cost=None if used.is_counted_by_us else answer.cost,
            inputTokens=used.input,
            outputTokens=used.output,
            **{name: part for name, part in parts.items() if part is not None},
            finishReason=answer.finish_reason,
        )

    async def release(self, entry: str, reason: str) -> None:
        """The provider refused: nothing was spent."""
        await self._lines.add((self._line("released", entry, reason=reason),))

    def _line(self, event: str, entry: str, **more: Any) -> AppendedLine:
        document = {"event": event, "entry": entry, "at": timestamp(), **more}
        return AppendedLine(self.path, _json_line(document))

    def _append(self, lines: Sequence[Sequence[DiskChange]]) -> Sequence[OSError | None]:
        try:
            disk.make_folder(self.path.parent)
        except OSError as error:
            return [error] * len(lines)
        return commit(lines)


@dataclass(frozen=True)
class Saved:
    """`cost` is in US dollars, of the hits whose price is known; `unpriced` counts the others."""

    hits: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Saved) -> Saved:
        return Saved(self.hits + other.hits, self.cost + other.cost, self.unpriced + other.unpriced)


class Hits:
    """The hits of one command. `.popbuild/hits.jsonl` has a line for each command and model,
    appended when the command ends: a line for every answer would cost more than to serve it. A
    command that was killed is not counted, so the numbers are never too high."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_model: defaultdict[str, Saved] = defaultdict(Saved)

    def add(self, model: str, cost: float | None) -> None:
        """Count an answer that was served; `cost` is what it had cost."""
        self._by_model[model] += Saved(1, cost or 0.0, int(cost is None))

    def write(self) -> None:
        """Append what was counted, if anything. Raises OSError."""
        found = sorted(self._by_model.items())
        self._by_model.clear()
        at = timestamp()
        lines = [
            {
                "at": at,
                "model": model,
                "hits": each.hits,
                "saved": each.cost,
                "unpriced": each.unpriced,
            }
            for model, each in found
        ]
        if lines:
            disk.append(self._path, b"".join(map(_json_line, lines)), sync=False)


def by_model(entries: Iterable[Mapping[str, Any]]) -> dict[str, Saved]:
    """The hits of all commands, by model. Other lines are ignored."""
    found: defaultdict[str, Saved] = defaultdict(Saved)
    for entry in entries:
        try:
            one = Saved(int(entry["hits"]), float(entry["saved"]), int(entry["unpriced"]))
            found[str(entry["model"])] += one
        except (KeyError, TypeError, ValueError):
            continue
    return dict(found)


def size_of(messages: Iterable[Message]) -> int:
    """The bytes of a conversation's texts."""
    return sum(len(message_text(message).encode(errors="replace")) for message in messages)


def read_entries(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Every entry of a JSON Lines file, and the number of lines that hold none."""
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


def _json_line(document: Mapping[str, Any]) -> bytes:
    return jsonio.compact(document).encode() + b"\n"
