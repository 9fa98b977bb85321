"""Where an artifact came from, for a person: 80 columns where the words allow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from popbuild.base import jsonio
from popbuild.base.units import money, seconds
from popbuild.jobs.members import named_few
from popbuild.jobs.staleness import brief
from popbuild.model.decision import in_words
from popbuild.model.letter import KINDS, kinds_text
from popbuild.query.provenance import Provenance

_COLUMNS = 80
_LABEL = 12
_SHOWN = len("sha256:") + 12  # characters of a digest that a person reads
_REMARKS = {
    "adopted": "made by another program; its model and its cost are unknown",
    "edited": "by hand, and accepted",
    "frozen": "not built again whatever changes",
}


def provenance_lines(found: Provenance) -> Iterator[str]:
    """The artifact, and each task of its chain with its inputs."""
    yield f"{found.name} of {found.job}"
    if not found.intact:
        yield "  ALTERED: not what its letter says; what follows made the file before"
    yield f"  {found.path}"
    yield f"  {found.digest}"
    for path in found.equal:
        yield f"  equal: {path}"
    for task in found.tasks:
        yield ""
        yield from _task_lines(task.body)


def _task_lines(task: Mapping[str, Any]) -> Iterator[str]:
    yield f"{task['task']}: {'no artifact' if task['skipped'] else task['artifact']}"
    if task["skipped"]:
        yield from _row("skipped", task["skipped"])
    if task["endedAt"]:
        took = f", in {seconds(task['executionTime'])}" if task["executionTime"] else ""
        yield from _row("decided" if task["skipped"] else "built", f"{task['endedAt']}{took}")
    if task["pipelineId"]:
        yield from _row("run", task["pipelineId"])
    for name, said in _REMARKS.items():
        if task[name]:
            yield from _row(name, said)
    if task["decision"]:
        yield from _row("decision", in_words(task["decision"]))
    if task["model"]:
        settings = [f"{name} {brief(value)}" for name, value in task["settings"].items()]
        yield from _row("model", ", ".join([task["model"], *settings]))
    for name in ("command", "endpoint", "weights"):
        if name in task:
            source, space, digest = task[name].rpartition(" ")  # of an endpoint
            yield from _row(name, f"{source}{space}{digest[:_SHOWN]}")
    for call in task["calls"]:
        yield from _call_lines(call)
    for file in task["files"]:
        absent = file["digest"] == jsonio.ABSENT
        today = {"same": "as today", "changed": "today another", "removed": "today gone"}
        yield from _row("file", file["path"])
        yield from _row("", f"{file['digest'][:_SHOWN]}, {'' if absent else today[file['today']]}")
    yield from _value_lines(task)
    yield from _jobs_lines(task.get("jobs", {}))


def _value_lines(task: Mapping[str, Any]) -> Iterator[str]:
    """What the task read of the seed, the pipeline's vars, files and artifacts."""
    for document in ("seed", "vars"):
        for each in task[document]:
            value = brief(each["value"]) if "value" in each else ""
            absent = "(absent)" if each["digest"] == jsonio.ABSENT else value
            yield from _row(document, f"{each['pointer'] or '/'}  {absent}".rstrip())
    for each in task["inputs"]:
        yield from _row("input", f"{each['pointer']} of {each['file']}")
        yield from _row("", each["digest"][:_SHOWN])
    for each in task["artifacts"]:
        absent = "  (absent)" if each["digest"] == jsonio.ABSENT else ""
        yield from _row("read", f"{each['pointer'] or '/'} of {each['task']}{absent}")


def _jobs_lines(jobs: Mapping[str, Any]) -> Iterator[str]:
    """The other jobs that the task read, and what of each of them."""
    for name, each in jobs.items():
        yield from _row("jobs", f"{name}: {named_few(each['ids'])}")
        for field in each["fields"]:
            yield from _row("", f"{field} of each")


def _call_lines(call: Mapping[str, Any]) -> Iterator[str]:
    how = "from the store" if call["stored"] else "sent"
    asked, answered = (
        "unknown" if each is None else f"{each:,}"
        for each in (call["inputTokens"], call["outputTokens"])
    )
    tokens = f"{asked} tokens in, {answered} out{kinds_text(*map(call.get, KINDS))}"
    cost = money(call["cost"]) + (", counted by us" if call.get("counted") else "")
    stage = "" if call.get("stage") == "inference" else f", {call.get('stage')}"
    cycle = f", refinement {call['cycle']}" if call.get("cycle") else ""
    sample = f", sample {call['sample']}" if call.get("sample") else ""
    yield from _row("call", f"{how}: {tokens}, {cost}{stage}{cycle}{sample}")
    where = "in the store" if call["inStore"] else "not in the store"
    yield from _row("", f"{call['request'][:_SHOWN]}, {where}")
    for name in ("prompt", "answer"):
        if call[name]:
            yield from _row(name, call[name])


def _row(label: str, text: str) -> Iterator[str]:
    """Two columns, without breaking words."""
    width = _COLUMNS - _LABEL
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines or [""]):
        yield f"  {'' if number else label:<{_LABEL - 2}}{line}".rstrip()
