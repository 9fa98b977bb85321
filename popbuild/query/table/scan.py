"""Looks at every job of a root and prints a row for each: the server runs it as a process of its
own, so that ten thousand jobs neither hold up a page nor stay in the server's memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from popbuild.base.paths import Root
from popbuild.base.printing import guarded
from popbuild.jobs import job_ids
from popbuild.query import describe
from popbuild.query.table.row import JobRow, row_of

_TOGETHER = 100  # rows in a line


def job_rows(root: Root, names: Sequence[str]) -> Iterator[JobRow]:
    """The rows of jobs, as they stand against today's inputs."""
    for job in describe.jobs_of(root, names):
        yield row_of(root, job)


def run_scan() -> int:
    """Print the rows of all jobs as JSON, some in a line; the last line is empty."""
    root = Root(Path(sys.argv[1]))
    some = []
    for row in job_rows(root, job_ids.known_jobs(root)):
        some.append(row.as_json())
        if len(some) == _TOGETHER:
            print(json.dumps(some), flush=True)
            some = []
    print(json.dumps(some))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(run_scan, debug=False))
