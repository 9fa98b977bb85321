"""Every call of a task: the prompt beside the answer, and the problems that led to refinements."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.errors import InputError
from popbuild.base.paths import JobFolder, Root
from popbuild.jobs.records import read_json
from popbuild.llm.attachments import attached_in, attached_line
from popbuild.model.letter import kinds_text
from popbuild.model.problem import Problem
from popbuild.model.stage_names import kept_name
from popbuild.query import untrusted
from popbuild.web.pages.text_budget import Room, Text

_MAX_SHOWN = 40  # exchanges of one task
_MAX_ROWS = 100
_MAX_CHARS = 16 * 1024  # of a prompt's message, and of an answer


@dataclass(frozen=True)
class ShownMessage:
    role: str
    text: Text


@dataclass(frozen=True)
class ShownCall:
    """A prompt as it was sent and its raw answer, with their files and names as logs. `number` is 0
    for the call of the cycle itself, from 1 for those that `stages.py` makes."""

    number: int
    prompt: tuple[ShownMessage, ...]
    answer: Text | None
    files: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Cycle:
    """A try, from 0: its exchanges, and the stages that it failed, with their problems."""

    number: int
    exchanges: tuple[ShownCall, ...]
    failed: tuple[tuple[str, tuple[Problem, ...]], ...]


@dataclass(frozen=True)
class CallRow:
    """A call, from the letter or the rejection."""

    stage: str
    cycle: int
    model: str
    sample: int
    stored: bool
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    time_ms: float
    finish_reason: str
    warnings: tuple[str, ...]
    kinds: str  # of its tokens, in words
    counted: bool  # by us


@dataclass(frozen=True)
class TaskCalls:
    """The calls of a task, and its cycles. `left_out` counts the calls, and the exchanges, that are
    not shown."""

    task: str
    label: str
    calls: tuple[CallRow, ...]
    cycles: tuple[Cycle, ...]
    left_out: int
    running: bool = False

    def awaits(self, cycle: Cycle, exchange: ShownCall) -> bool:
        """Whether the answer may still arrive: the task runs, and this is its last call."""
        last = cycle is self.cycles[-1] and exchange is cycle.exchanges[-1]
        return self.running and last and exchange.answer is None

    @property
    def refined(self) -> int:
        """How many refinements there were."""
        return max((cycle.number for cycle in self.cycles), default=0)


def calls_of(
    root: Root,
    files: Iterable[Path],
    task: tuple[str, str],
    calls: object,
    log: Iterable[Mapping[str, Any]],
    room: Room,
) -> TaskCalls | None:
    """The calls of a task, given as ID and label; None where it made none. `files` come from
    `kept_of`, `calls` from its letter or the rejection, `log` is its execution log."""
    name, label = task
    kept = _kept(files, name)
    rows = tuple(map(_row, untrusted.objects(calls)))
    failed: dict[int, list[tuple[str, tuple[Problem, ...]]]] = {}
    for entry in log:
        problems = untrusted.problems(entry.get("problems"))
        if problems and "stage" in entry:
            failed.setdefault(entry["cycle"], []).append((entry["stage"], problems))
    if not (kept or rows or failed):
        return None
    shown = sorted(kept)[:_MAX_SHOWN]
    cycles = []
    for number in sorted({*failed, *(cycle for cycle, _ in shown)}):
        exchanges = tuple(
            _exchange(root, place, kept[place], room) for place in shown if place[0] == number
        )
        cycles.append(Cycle(number, exchanges, tuple(failed.get(number, ()))))
    left_out = max(len(kept) - len(shown), 0) + max(len(rows) - _MAX_ROWS, 0)
    return TaskCalls(name, label, rows[:_MAX_ROWS], tuple(cycles), left_out)


def _row(call: Mapping[str, Any]) -> CallRow:
    warnings = call.get("warnings")
    return CallRow(
        stage=untrusted.text_in(call, "stage") or "",
        cycle=int(untrusted.number_in(call.get("cycle"))),
        model=untrusted.text_in(call, "model") or "",
        sample=int(untrusted.number_in(call.get("sample"))),
        stored=call.get("stored") is True,
        input_tokens=untrusted.token_count(call, "inputTokens"),
        output_tokens=untrusted.token_count(call, "outputTokens"),
        cost=untrusted.known(call, "cost"),
        time_ms=untrusted.number_in(call.get("durationMs")),
        finish_reason=untrusted.text_in(call, "finishReason") or "",
        warnings=tuple(map(str, warnings)) if isinstance(warnings, list) else (),
        kinds=kinds_text(*untrusted.kinds(call)),
        counted=call.get("counted") is True,
    )


def kept_of(folder: JobFolder) -> list[Path]:
    """The files that may be a job's prompts and answers. Read from the folder: the index is only
    written with the next change of state."""
    logs = folder.files("logs")
    return sorted(logs.iterdir()) if logs.is_dir() else []


def _kept(files: Iterable[Path], task: str) -> dict[tuple[int, int], dict[str, Path]]:
    """The kept prompts and answers of a task, by cycle and number."""
    beginning = kept_name(task, "prompt", "json", 0).removesuffix("prompt-0.json")
    pattern = re.compile(r"(prompt|answer)-(\d{1,4})(?:-(\d{1,6}))?\.\w+")
    found: dict[tuple[int, int], dict[str, Path]] = {}
    for path in files:
        match = pattern.fullmatch(path.name, len(beginning))
        if match is not None and path.name.startswith(beginning):
            place = int(match[2]), int(match[3] or 0)
            found.setdefault(place, {})[match[1]] = path
    return found


def _exchange(
    root: Root, place: tuple[int, int], files: Mapping[str, Path], room: Room
) -> ShownCall:
    prompt = tuple(_messages(files["prompt"], room)) if "prompt" in files else ()
    text = _text(files["answer"]) if "answer" in files else None
    answer = None if text is None else room.text(text, _MAX_CHARS)
    there = [files[each] for each in ("prompt", "answer") if each in files]
    names = tuple(path.name for path in there)
    return ShownCall(place[1], prompt, answer, tuple(map(root.show, there)), names)


def _messages(path: Path, room: Room) -> Iterator[ShownMessage]:
    body = read_json(path)
    if not isinstance(body, list):
        yield ShownMessage("", room.text(_text(path) or "", _MAX_CHARS))
        return
    yield from shown_messages(body, room)


def shown_messages(body: Iterable[Any], room: Room) -> Iterator[ShownMessage]:
    """The messages of a prompt, as it was kept."""
    for each in body:
        message = each if isinstance(each, dict) else {"content": each}
        content = message.get("content")
        text = content if isinstance(content, str) else _plain(content)
        yield ShownMessage(str(message.get("role", "")), room.text(text, _MAX_CHARS))


def _plain(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    return "\n".join(map(_part, parts))


def _part(part: Any) -> str:
    files = [attached_line(each) for each in attached_in([{"content": [part]}])]
    text = part.get("text") if isinstance(part, dict) else part
    return files[0] if files else text if isinstance(text, str) else "[not a text]"


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError, InputError):
        return disk.read(path).decode(errors="replace")
    return None
