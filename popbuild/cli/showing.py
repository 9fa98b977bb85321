"""The commands that show what jobs hold, where it came from, and what changed. Each docstring is a
help page."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from popbuild.base.errors import OK, REJECTED, printable
from popbuild.base.paths import shown_name
from popbuild.base.units import count
from popbuild.cli.options import (
    JOB_ARGUMENT,
    JOBS,
    JSON,
    TASK_ARGUMENT,
    Given,
    Table,
    argument,
    print_json,
    print_lines,
    root_of,
)


def _show(given: Given) -> int:
    """List a job's files, or print one: an artifact, a log, a prompt as it was sent, or
    <task>/letter.json. NAME is a task, to list its files, or a file; artifacts/NAME,
    logs/NAME or tmp/NAME where two have the same name. What looks like a key is masked."""
    from popbuild.base.redact import redact
    from popbuild.model.config.config import environment_of
    from popbuild.query import describe

    root = root_of(given)
    job = describe.find_job(root, given.job)
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
    if given.json:
        print_json([{"kind": f.kind, "name": f.name, "path": root.show(f.path)} for f in files])
        return OK
    for file in files:
        size = f"{file.path.stat().st_size:,}" if file.path.exists() else "missing"
        print(f"{file.kind:<9}  {size:>9}  {shown_name(file.name)}")
    frozen = [each for each in (job.exam.frozen if job.exam else ()) if given.name in (None, each)]
    if frozen:
        print(f"frozen: {', '.join(frozen)}")
    return OK


def _prompt(given: Given) -> int:
    """Print the messages that a task would send now. Renders the templates; makes no call."""
    from popbuild.query import describe

    root = root_of(given)
    messages = describe.prompt(root, describe.find_job(root, given.job), given.task)
    if given.json:
        print_json(messages)
        return OK
    for number, message in enumerate(messages):
        if number:
            print()
        content = str(message["content"])
        content = printable(content) if sys.stdout.isatty() else content
        print_lines([f"--- {message['role']}", content])
    return OK


def _export(given: Given) -> int:
    """Copy the final artifact of a complete job to a path: what CI commits. TARGET is a file
    or a folder. Refuses a job that is not up to date."""
    from popbuild.build import verbs
    from popbuild.query import describe

    root = root_of(given)
    job = describe.find_job(root, given.job)
    target = verbs.export(root, job, Path(given.target), given.artifact)
    if given.json:
        print_json({"job": job.id, "path": str(target)})
    else:
        print(target)
    return OK


def _validate(given: Given) -> int:
    """Check configuration, seeds and jobs in any state against the schemas: the given files
    and folders, or everything; and find what the configuration misspells. Prints every problem;
    exits with 1 if there is one. Warnings are what may not be meant, and change no exit code."""
    from popbuild.upkeep import validate

    result = validate.validate(root_of(given), [Path(path) for path in given.paths])
    if given.json:
        print_json(
            {
                "checked": result.checked,
                "problems": [finding.as_json() for finding in result.findings],
                "warnings": [finding.as_json() for finding in result.warnings],
            }
        )
    else:
        for finding in result.findings:
            print(f"{finding.file}: {finding.problem}")
        for finding in result.warnings:
            print(f"{finding.file}: warning: {finding.problem}")
        said = count(len(result.findings), "problem") if result.findings else "all valid"
        more = f", {count(len(result.warnings), 'warning')}" if result.warnings else ""
        print(f"{result.checked} files checked: {said}{more}")
    return REJECTED if result.findings else OK


def _verify(given: Given) -> int:
    """Prove offline that complete jobs are what was promoted: recompute every digest of
    seeds, artifacts, letters, logs, kept prompts, schemas and code, and stored answers.
    Prints what was altered, added or removed since; exits with 1 if anything was. Makes no
    call, writes nothing."""
    from popbuild.upkeep.verify import verify

    verification = verify(root_of(given), given.names)
    if given.json:
        print_json(verification.as_json())
    else:
        print_lines(verification.lines())
    return OK if verification.proven else REJECTED


def _trace(given: Given) -> int:
    """Say where an artifact came from: task, run, model and settings, every call with its
    tokens and cost, the files of the configuration, what was read of the seed and of the
    artifacts above, and the same for those. ARTIFACT is a file under pipeline-data/,
    <job>/<artifact>, <job>/<task>, or a file that was exported: found by its digest."""
    from popbuild.query.provenance import trace
    from popbuild.query.provenance_text import provenance_lines

    found = trace(root_of(given), given.artifact)
    if given.json:
        print_json(found.as_json())
    else:
        print_lines(provenance_lines(found))
    return OK


def _diff(given: Given) -> int:
    """Show what the last rebuild of a complete job changed: each artifact, place by place,
    and each task with its tokens and cost, then and now."""
    from popbuild.query.diff import diff

    found = diff(root_of(given), given.job, given.against)
    if given.json:
        print_json(found.as_json())
    else:
        print_lines(found.lines())
    return OK


SHOWING: Table = {
    "show": (
        _show,
        "list or print a job's artifacts, logs and prompts",
        (JOB_ARGUMENT, argument("name", nargs="?", metavar="NAME", help="a task or a file"), JSON),
    ),
    "prompt": (
        _prompt,
        "print what a task would ask, without a call",
        (JOB_ARGUMENT, TASK_ARGUMENT, JSON),
    ),
    "export": (
        _export,
        "copy a complete job's final artifact to a path",
        (
            JOB_ARGUMENT,
            argument("target", metavar="TARGET", help="a file or a folder"),
            argument("--artifact", metavar="NAME", help="another artifact than the last task's"),
            JSON,
        ),
    ),
    "diff": (
        _diff,
        "show what the last rebuild changed",
        (
            JOB_ARGUMENT,
            argument(
                "--against",
                metavar="N",
                type=int,
                default=1,
                help="the N-th result before this one (1)",
            ),
            JSON,
        ),
    ),
    "trace": (
        _trace,
        "say where an artifact came from",
        (argument("artifact", metavar="ARTIFACT", help="a file, or <job>/<name>"), JSON),
    ),
    "verify": (_verify, "prove that nothing complete was altered", (JOBS, JSON)),
    "validate": (
        _validate,
        "check configuration, seeds and jobs",
        (argument("paths", nargs="*", metavar="PATH", help="everything if absent"), JSON),
    ),
}
