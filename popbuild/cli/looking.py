"""The commands that say how jobs stand, and why. Each docstring is a help page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from popbuild.base.errors import FAILED, OK, REJECTED, printable
from popbuild.base.paths import shown_name
from popbuild.cli.options import (
    JOB_ARGUMENT,
    JOBS,
    JSON,
    STORE,
    WHAT,
    Given,
    Table,
    argument,
    flag,
    print_json,
    print_lines,
    root_and_names,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.jobs.lookup import Job

_MOST_NAMED = 20  # files of no task
_MOST_PADDED = 40  # characters: one long name moves only its own line


def _list(given: Given) -> int:
    """List jobs with their state. With --tasks, also each job's tasks and why they are
    stale."""
    from popbuild.query import describe

    root = root_of(given)
    ids = describe.names_to_ids(root, given.names)
    found = describe.jobs_of(root, ids)
    if given.json:
        print_json([describe.describe_job(job, root) for job in found])
        return OK
    if not ids:
        from popbuild.build.session import NO_JOBS

        print(NO_JOBS, file=sys.stderr)
    from popbuild.base.units import count, fit_line

    width = min(max((len(shown_name(job)) for job in ids), default=0), _MOST_PADDED)
    as_built: dict[str, int] = {}
    not_ours: dict[str, int] = {}
    for job in found:
        print_lines([f"{shown_name(job.id):<{width}}  {job.description}"])
        if given.tasks and job.exam is not None and job.bad_name is None:
            for task in job.exam.pipeline.tasks:
                head = f"  {task.id:<{max(width - 2, 0)}}  "
                print(fit_line(head, job.exam.verdicts[task.id].brief))
        for how in job.as_built:
            as_built[how] = as_built.get(how, 0) + 1
        if job.is_not_ours and job.broken is not None:
            why = job.broken.as_line(without=())
            not_ours[why] = not_ours.get(why, 0) + 1
    for how, jobs in as_built.items():
        print(f"to see {count(jobs, 'job')} as built: {how}", file=sys.stderr)
    for why, jobs in not_ours.items():
        print(f"{count(jobs, 'job')} cannot be built here: {why}", file=sys.stderr)
    return OK


def _status(given: Given) -> int:
    """Show each task of a job: its state, how long it took, tokens, cost, and the reasons
    why it is stale. Without a name, a line for each job."""
    from popbuild.query import describe

    if not given.names:
        given.tasks = False
        return _list(given)
    root = root_of(given)
    listed = describe.jobs_of(root, describe.names_to_ids(root, given.names))
    found = [(job, describe.describe_job(job, root, unowned=True)) for job in listed]
    if given.json:
        print_json([body for _, body in found])
        return OK
    for number, (job, body) in enumerate(found):
        if number:
            print()
        _print_status(job, body)
    return OK


def _print_status(job: Job, body: dict[str, Any]) -> None:
    from popbuild.base.units import fit_line, money, seconds
    from popbuild.model.decision import in_words
    from popbuild.model.foreign_status import error_text
    from popbuild.query.untrusted import usage as usage_in

    head, place = f"{shown_name(job.id)}: {job.description}", body["path"]
    between = " " if len(f"{head} -> {place}") <= 80 else "\n  "
    print(head + (f"{between}-> {place}" if place else ""))
    for how in job.as_built:
        print(f"  to see it as it was built: {how}")
    if "notBuiltHere" in body:
        print(f"  cannot be built here: {body['notBuiltHere']}")
    if "statusSays" in body:
        print(fit_line("  its status says: ", shown_name(body["statusSays"])))
    if "error" in body and not any(task["error"] for task in body["tasks"].values()):
        text = " ".join((error_text(body["error"]) or "").split())
        print(fit_line("  error: ", printable(text)))
    width = max((len(shown_name(name)) for name in body["tasks"]), default=0)
    for task_name, task in body["tasks"].items():
        name = shown_name(task_name)
        usage = usage_in(task["usage"])
        parts = [f"{shown_name(task['state']):<7}"]
        if "currentStage" in task:
            parts.append(shown_name(task["currentStage"]))
        if task["executionTime"]:
            parts.append(f"{seconds(task['executionTime']):>7}")
        if task["executionTime"] or task["usage"] is not None:
            shown = f"{usage.tokens:>7,}" if usage.tokens is not None else "unknown"
            counted = "  counted by us" if usage.counted_calls else ""
            parts.append(f"{shown} tokens  {money(usage.cost)}{usage.parts}{counted}")
            if task["refinementAttempts"]:
                parts.append(f"{task['refinementAttempts']} refined")
        print(f"  {name:<{width}}  " + "  ".join(parts).rstrip())
        for reason in task["reasons"]:
            print(fit_line(f"  {'':<{width}}  stale: ", reason))
        if task["frozen"]:
            print(f"  {'':<{width}}  {job.exam.verdicts[task_name] if job.exam else 'frozen'}")
        if task["edited"]:
            print(f"  {'':<{width}}  its artifact was edited by hand")
        if "decision" in task:
            print(fit_line(f"  {'':<{width}}  ", in_words(task["decision"])))
        if task["error"]:
            first = (error_text(task["error"]) or "").split("\n", maxsplit=1)[0]
            print(f"  {'':<{width}}  error: {printable(first)}")
    _print_unowned(body.get("unowned", ()))


def _print_unowned(unowned: Sequence[str]) -> None:
    """The files that no task owns, so many of them as a person reads."""
    if unowned:
        print("  of no task, kept as they are:")
        print_lines(f"    {shown_name(name)}" for name in unowned[:_MOST_NAMED])
        if len(unowned) > _MOST_NAMED:
            print(f"    and {len(unowned) - _MOST_NAMED:,} more: --json names them all")


def _plan(given: Given) -> int:
    """Say what a run would do, and what it would cost, before it does: every task that will
    run, and every task below it that may, with the reasons, how many answers are stored
    already, and tokens and dollars as a range. Free: makes no call, changes nothing. NAME and
    the options are those of run, job= and fresh= too.
    With --store only, exits with 2 where a run would lack an answer."""
    from popbuild.build import session
    from popbuild.build.nothing_to_do import Options
    from popbuild.query.plan_text import plan_lines
    from popbuild.query.planned import totals

    root, variables, names = root_and_names(given)
    options = Options(
        always=given.always,
        keep_edits=given.keep_edits,
        discard_edits=given.discard_edits,
        store=given.store,
        fresh=session.fresh_tasks(variables.get("fresh")),
    )
    jobs = session.plan_run(root, variables.get("job"), names, options)
    code = FAILED if any(job.lacking for job in jobs) else OK
    if given.json:
        total = totals(task for job in jobs for task in job.tasks)
        print_json({"jobs": [job.as_json() for job in jobs], "total": total.as_json()})
        return code
    print_lines(plan_lines(jobs))
    return code


def _explain(given: Given) -> int:
    """Say why a job's tasks are stale, in depth: each reason with the difference that it is
    about, of a prompt, a schema, the seed or a setting. With a task, also all that its
    artifact depends on."""
    from popbuild.query import describe
    from popbuild.query.plan_text import explain_lines

    found = describe.explain_job(root_of(given), given.job, given.task)
    if given.json:
        print_json([each.as_json() for each in found])
        return OK
    print_lines(explain_lines(found, dependencies=given.task is not None))
    return OK


def _check(given: Given) -> int:
    """Exit with 0 when every job is complete and up to date and everything is valid, with 1
    when not; prints what is not. For CI: makes no call, changes nothing."""
    from popbuild.upkeep import checks

    check = checks.check(root_of(given), given.names)
    if given.json:
        print_json(check.as_json())
    else:
        print_lines(check.lines())
    return OK if check.passed else REJECTED


LOOKING: Table = {
    "list": (
        _list,
        "list jobs with their state",
        (JOBS, flag("--tasks", help="list tasks too, with reasons"), JSON),
    ),
    "status": (_status, "show a job's tasks: state, tokens, cost, reasons", (JOBS, JSON)),
    "plan": (
        _plan,
        "say what a run would do and cost",
        (
            argument("names", nargs="*", metavar="NAME", help="jobs or tasks; all if absent"),
            *WHAT,
            STORE,
            JSON,
        ),
    ),
    "explain": (
        _explain,
        "say why tasks are stale, with the differences",
        (JOB_ARGUMENT, argument("task", nargs="?", metavar="TASK", help="all if absent"), JSON),
    ),
    "check": (_check, "exit with 0 if all is up to date and valid", (JOBS, JSON)),
}
