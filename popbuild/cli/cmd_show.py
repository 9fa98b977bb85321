"""`popbuild show`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, UsageError, printable
from popbuild.base.paths import shown_name
from popbuild.cli.options import (
    ITEM,
    ONE_JOB,
    Given,
    argument,
    command,
    print_json,
    print_result,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.jobs.lookup import Job


@command(
    "list or print a job's artifacts, logs and prompts",
    ONE_JOB,
    argument("name", "NAME", "?", help="a task or a file"),
    ITEM,
)
def _show(given: Given) -> int:
    """List a job's files, or print one: an artifact, a log, a prompt as it was sent, or
    <task>/letter.json. NAME is a task, to list its files, or a file; artifacts/NAME,
    logs/NAME or tmp/NAME where two have the same name. --item prints an item's receipt: its
    prompts, answers and output. What looks like a key is masked."""
    from popbuild.base.redact import redact
    from popbuild.model.config.config import environment_of
    from popbuild.query import describe

    root = root_of(given)
    job = describe.find_job(root, given.job)
    if given.item is not None:
        return _show_item(job, given)
    tasks = job.pipeline.names if job.pipeline else describe.tasks_in(job)
    if given.name is not None and given.name not in tasks:
        file, content = describe.read_file(job, given.name)
        if given.json:
            place = {"kind": file.kind, "name": file.name, "path": root.show(file.path)}
            print_json({**place, "text": content.decode(errors="replace")})
            return OK
        text = redact(content.decode(errors="surrogateescape"), environment_of(root, os.environ))
        text = printable(text) if sys.stdout.isatty() else text
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
        return OK
    files = describe.files_of(job, given.name)

    def lines() -> Iterator[str]:
        for file in files:
            size = f"{file.path.stat().st_size:,}" if file.path.exists() else "missing"
            yield f"{file.kind:<9}  {size:>9}  {shown_name(file.name)}"
        for name, verdict in job.exam.verdicts.items() if job.exam else ():
            if verdict.skipped and not verdict.stale and given.name in (None, name):
                yield f"{name} is skipped: {verdict.skipped}"
        frozen = [
            each for each in (job.exam.frozen if job.exam else ()) if given.name in (None, each)
        ]
        if frozen:
            yield f"frozen: {', '.join(frozen)}"

    return print_result(
        given.json,
        lambda: [{"kind": f.kind, "name": f.name, "path": root.show(f.path)} for f in files],
        lines,
    )


def _show_item(job: Job, given: Given) -> int:
    """Print the receipt of an item of a task."""
    from popbuild.query.describe import pipeline_with
    from popbuild.query.item_list import receipt_of

    if given.name is None:
        raise UsageError("--item is about a task", hint="popbuild show JOB TASK --item KEY")
    task = pipeline_with(job, given.name).task(given.name)
    print_json(receipt_of(job, task, given.item))
    return OK
