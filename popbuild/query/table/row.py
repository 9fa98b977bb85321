"""A job as one line of a table, small enough that ten thousand of them are kept in memory.

As a program it looks at every job of a root and prints the rows. The server runs it as a separate
process, so that ten thousand jobs neither hold up a page nor stay in the server's memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk
from popbuild.base.paths import COMPLETE, REJECTED, Root, Variant
from popbuild.base.printing import guarded
from popbuild.jobs.job_ids import known_jobs
from popbuild.jobs.lookup import Job, standing_status
from popbuild.jobs.records import listed_tasks, read_json
from popbuild.model import status as states
from popbuild.model.foreign_status import NOTHING_SAID, error_text, task_usage
from popbuild.query import describe, untrusted

BROKEN = "broken"  # its seed, its name or its directory cannot be used
STALE = "stale"  # complete, but not up to date
# What needs attention comes first.
STANDINGS = (
    BROKEN,
    states.FAILED,
    states.REJECTED,
    states.WAITING,
    states.RUNNING,
    states.STOPPED,
    "pending",
    "new",
    STALE,
    COMPLETE,
)
_MAX_WHY = 200  # characters
_TOGETHER = 100  # rows in a line of the scan


@dataclass(frozen=True, slots=True)
class JobRow:
    """The state of a job. `done` of `tasks` have their result; tokens and cost (US dollars) are
    sums over the last build of each task, None if unknown; `changed` is in seconds since 1970;
    `why` is the error, the question to a person, what runs, or what would be built, in a line."""

    id: str
    standing: str
    why: str
    done: int
    tasks: int
    tokens: int | None
    cost: float | None
    changed: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def row_of(root: Root, job: Job) -> JobRow:
    """A job's row. Reads its status, and its rejection if it has one."""
    status = standing_status(job) or {}
    entries = status.get("tasks", {})
    names, nothing = tuple(entries), dict[str, Any]()
    if job.pipeline:
        names = job.pipeline.names
    elif job.folder and job.is_not_ours:
        names, nothing = tuple(listed_tasks(job.folder, status or None)), NOTHING_SAID
    usage = untrusted.usage_of_all(task_usage(entries.get(name, nothing)) for name in names)
    standing = job.state
    if job.bad is not None and job.state != REJECTED:
        standing = BROKEN
    elif job.state == COMPLETE and not (job.up_to_date or job.is_not_ours):
        standing = STALE
    elif job.state == states.WAITING and not job.questions:
        standing = states.STOPPED  # the question is settled: the next run continues
    stale = {name for name, each in (job.exam.verdicts if job.exam else {}).items() if each.stale}
    return JobRow(
        job.id,
        standing if standing in STANDINGS else states.STOPPED,
        _short(_why(job, status)),
        sum(entries.get(name, {}).get("state") == "done" and name not in stale for name in names),
        len(names),
        usage.tokens,
        usage.cost,
        _changed_s(root, job),
    )


def _why(job: Job, status: Mapping[str, Any]) -> str:
    if job.bad is not None:
        return job.description
    entries = status.get("tasks", {})
    if job.state == REJECTED and job.folder is not None and not job.is_not_ours:
        return _of_rejection(read_json(job.folder.rejection))
    if job.questions:
        return "; ".join(f"{question.task}: {question.message}" for question in job.questions)
    if job.state == states.RUNNING:
        return ", ".join(
            f"{name} ({stage})" if (stage := untrusted.text_in(each, "currentStage")) else name
            for name, each in entries.items()
            if each.get("state") == "running"
        )
    error = error_text(status.get("error"))
    broke = [name for name, each in entries.items() if each["state"] in ("error", states.FAILED)]
    if job.state != COMPLETE and (error is not None or (broke and job.is_not_ours)):
        own = error_text(entries[broke[0]].get("error")) if broke else None
        head = f"{broke[0]}: " if broke else ""
        lines = (own or error or entries[broke[0]]["state"]).splitlines()
        return head + "; ".join(" ".join(line.split()) for line in lines)
    if job.is_not_ours:
        return "cannot be built here"
    if job.exam is None or job.up_to_date or job.folder is None:
        return ""
    reasons = [
        f"{name}: {verdict.brief}"
        for name, verdict in job.exam.verdicts.items()
        if verdict.stale or verdict.edited
    ]
    return reasons[0] if reasons else job.description


def _of_rejection(rejection: Any) -> str:
    problems = rejection.get("problems") if isinstance(rejection, dict) else None
    if not problems:
        return ""
    more = len(problems) - 1
    text = f"{rejection.get('task')}: {problems[0].get('message')}"
    return text + (f" (and {more} more)" if more else "")


def _short(text: str) -> str:
    """A text cut at a word, if it is too long for a line of the table."""
    if len(text) <= _MAX_WHY:
        return text
    cut = text[:_MAX_WHY].rpartition(" ")[0]
    if len(cut) < _MAX_WHY / 2:  # its words are very long
        cut = text[: _MAX_WHY - 1]
    return cut.rstrip(" ,;:") + "…"


def _changed_s(root: Root, job: Job) -> float:
    """When its status, or else its seed, last changed."""
    own = [job.folder.status] if job.folder else []
    for path in (*own, root.pending(job.id), root.seed(job.id)):
        mark = disk.stamp(path)
        if mark is not None:
            return mark[2] / 1e9
    return 0.0


def job_rows(root: Root, names: Sequence[str]) -> Iterator[JobRow]:
    """The rows of jobs, compared with today's inputs."""
    for job in describe.jobs_of(root, names):
        yield row_of(root, job)


def as_words(root: Root) -> tuple[str, ...]:
    """The words of a process that prints the rows of a root, by `run_scan`."""
    variant = root.variant
    return (str(root.path), variant.name, variant.of, variant.said, str(variant.draw))


def run_scan() -> int:
    """Print the rows of all jobs as JSON, some in a line; the last line is empty."""
    path, name, of, said, draw = sys.argv[1:]
    root = Root(Path(path), Variant(name, of, said, int(draw)))
    some = []
    for row in job_rows(root, known_jobs(root)):
        some.append(row.as_json())
        if len(some) == _TOGETHER:
            print(json.dumps(some), flush=True)
            some = []
    print(json.dumps(some))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(run_scan, debug=False))
