"""`popbuild status`."""

from __future__ import annotations

import dataclasses

from popbuild.base.arguments import Given
from popbuild.base.printing import print_json, print_lines
from popbuild.build.shared_words import STATUS
from popbuild.cli.options import root_and_names


def _status(given: Given) -> int:
    from popbuild.jobs.selection import select

    root, names, variables = root_and_names(given, STATUS)
    ids = list(select(root, variables.get("job"), names))
    if not (names or "job" in variables):
        from popbuild.cli.cmd_list import list_jobs

        return list_jobs(root, ids, as_json=given.json)
    from popbuild.cli.status_text import lines_of_status
    from popbuild.query import describe

    listed = describe.jobs_of(root, ids)
    found = [(job, describe.describe_job(job, root, unowned=True)) for job in listed]
    if given.json:
        print_json([body for _, body in found])
        return 0
    for number, (job, body) in enumerate(found):
        print_lines([""] if number else [])
        print_lines(lines_of_status(job, body))
    return 0


COMMAND = dataclasses.replace(STATUS, run=_status)
