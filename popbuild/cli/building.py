"""The commands that build, or change what stands there. Each docstring is a help page."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, UsageError
from popbuild.cli.options import (
    BUDGET_USD,
    IN_FLIGHT,
    JOB_ARGUMENT,
    JSON,
    PATTERN,
    SPENDING,
    STORE,
    TASK_ARGUMENT,
    UNKNOWN_COST,
    WHAT,
    Given,
    Table,
    argument,
    flag,
    print_json,
    root_and_names,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.build.events import JobResult
    from popbuild.build.session import BuildFunction


def _init(given: Given) -> int:
    """Make a root: seeds/, pipeline-config/ with the demo's pipeline, pipeline-data/,
    a dodo.py for doit, and a .gitignore. Runs at once on the embedded model."""
    from popbuild.build import new_root

    folder = Path(getattr(given, "root", None) or ".") / given.folder
    written = new_root.init(folder)
    if given.json:
        print_json({"root": str(folder), "written": written})
        return OK
    here = given.folder == "."
    for name in written:
        print(f"wrote {name if here else f'{folder}/{name}'}")
    print(f"next: {'' if here else f'cd {folder} && '}doit run job=market-analysis")
    return OK


def _submit(given: Given) -> int:
    """Queue a one-off job: the seed is copied to pending/ under a new ID, or under --id.
    A seed under seeds/ needs no submit: its file name is its job's ID."""
    from popbuild.build import verbs

    job = verbs.submit(root_of(given), Path(given.file), given.id)
    if given.json:
        print_json({"id": job})
    else:
        print(job)
    return OK


def _run(given: Given) -> int:
    """Build jobs: only what is stale, from the store where an answer is there already.
    NAME is a job's ID, a glob, <job>:<task> to build up to a task, or job=<id>,<id>;
    without a name, every job. fresh=<task> lets a task draw a new sample. What a crash or
    a failed gate leaves is never paid for twice: run it again."""
    from popbuild.base.threads import leave_if_hanging
    from popbuild.build import progress, session
    from popbuild.build.nothing_to_do import Options

    session.check_parallel_type(given.par_type)
    root, variables, names = root_and_names(given)
    options = Options(
        in_flight=session.calls_in_flight(given.in_flight),
        continue_=given.continue_,
        always=given.always,
        keep_edits=given.keep_edits,
        discard_edits=given.discard_edits,
        wait=not given.no_wait,
        store=given.store,
        fresh=session.fresh_tasks(variables.get("fresh")),
        budget=session.dollars("--budget", given.budget),
        ask_above=session.dollars("--ask-above", given.ask_above),
        unknown_allowed=given.unknown_cost,
    )
    events = progress.choose_printer(given.json)
    job = variables.get("job")
    code, results = session.run(root, job, names, options, events, build=_builder(given.dask))
    progress.print_results(results, as_json=given.json, debug=given.debug)
    if not results:
        print(session.NO_JOBS, file=sys.stderr)
    leave_if_hanging(code)
    return code


def _builder(dask: str | None) -> BuildFunction | None:
    """What builds: a cluster where --dask names one."""
    if dask is None:
        return None
    try:
        from popbuild.build.dask import build_on
    except ModuleNotFoundError as error:
        raise UsageError(
            "--dask needs Dask Distributed",
            {"missing": error.name},
            hint="pip install 'popbuild[dask]'",
        ) from None
    return build_on(dask)


def _watch(given: Given) -> int:
    """Build what is put into pending/, by popbuild submit or by any other program, as it comes,
    in worker processes; go on with what another orchestrator left behind when it died. Several
    may work on one root. Ctrl-C or SIGTERM ends it: calls in flight are waited for, nothing is
    lost; a second one ends it at once."""
    from popbuild.build import progress, session
    from popbuild.build.nothing_to_do import Options
    from popbuild.build.watch.loop import Settings, watch

    root = root_of(given)
    options = Options(
        store=given.store,
        budget=session.dollars("--budget", given.budget),
        unknown_allowed=given.unknown_cost,
    )
    settings = Settings(
        workers=session.whole_number("--workers", given.workers) or os.cpu_count() or 1,
        in_flight=session.calls_in_flight(given.in_flight) or 8,
        grace_s=session.seconds_option("--grace", given.grace, 30.0),
        rescan_s=session.seconds_option("--rescan", given.rescan, 5.0),
        once=given.once,
        seeds=given.seeds,
    )
    events = progress.choose_printer(given.json)

    def tell(result: JobResult) -> None:
        if given.json:
            print_json(result.as_json(), lines=True)
        else:
            progress.print_results([result], as_json=False, debug=given.debug)

    return watch(root, settings, options, events, tell)


def _retry(given: Given) -> int:
    """Let the task that rejected a job draw another sample, or one that failed again and again
    be tried once more, then build the job."""
    from popbuild.build import verbs
    from popbuild.llm.store import choose_mode
    from popbuild.query import describe

    root = root_of(given)
    choose_mode(given.store, describe.around(root).config.environment)
    task, what = verbs.retry(root, given.job)
    print(f"{given.job}: {task} {what}", file=sys.stderr)
    given.names, given.always = [given.job], False
    given.continue_ = given.keep_edits = given.discard_edits = given.no_wait = False
    given.in_flight = given.budget = given.ask_above = given.par_type = given.dask = None
    given.unknown_cost = False
    return _run(given)


def _accept(given: Given) -> int:
    """Take what stands there as up to date, without building: for a cosmetic edit of a prompt,
    or an artifact edited by hand (make's -t, dvc's commit). Every artifact must pass its
    gate."""
    from popbuild.build import verbs

    accepted = verbs.accept(root_of(given), given.job, given.tasks)
    if given.json:
        print_json({"job": given.job, "accepted": accepted})
        return OK
    for task in accepted:
        print(f"accepted {given.job}:{task}")
    if not accepted:
        print(f"{given.job} was up to date")
    return OK


def _freeze(given: Given) -> int:
    """Keep a task's artifact as it is: it is not rebuilt whatever changes, and every report
    says so. What stands below it is built from it. With a glob, in every job that matches."""
    from popbuild.build import verbs

    return _say_frozen(given, verbs.freeze(root_of(given), given.job, given.task))


def _thaw(given: Given) -> int:
    """Let a frozen task be rebuilt again when something changes; with a glob, in every job that
    matches and where it is frozen."""
    from popbuild.build import verbs

    return _say_frozen(given, verbs.thaw(root_of(given), given.job, given.task))


def _say_frozen(given: Given, frozen: Mapping[str, Sequence[str]]) -> int:
    if given.json:
        print_json([{"job": job, "frozen": list(tasks)} for job, tasks in frozen.items()])
        return OK
    for job, tasks in frozen.items():
        print(f"{job}: frozen: {', '.join(tasks) or 'nothing'}")
    return OK


BUILDING: Table = {
    "init": (
        _init,
        "make a root with an example",
        (argument("folder", nargs="?", default=".", help="where; here if absent"), JSON),
    ),
    "submit": (
        _submit,
        "queue a one-off job from a seed file",
        (
            argument("file", metavar="FILE", help="the seed"),
            argument("--id", help="the job's ID; a new pl-... one if absent"),
            JSON,
        ),
    ),
    "run": (
        _run,
        "build jobs, as doit run does",
        (
            argument("names", nargs="*", metavar="NAME", help="jobs or tasks; all if absent"),
            IN_FLIGHT,
            flag(
                "-c", "--continue", dest="continue_", help="go on with other jobs after one failed"
            ),
            argument(
                "-P",
                dest="par_type",
                metavar="TYPE",
                help="refused: tasks run at the same time by themselves",
            ),
            *WHAT,
            flag("--no-wait", help="fail if another command builds a job"),
            argument(
                "--dask",
                metavar="ADDRESS",
                help="build on a Dask cluster: its scheduler's address, or local",
            ),
            STORE,
            *SPENDING,
            JSON,
        ),
    ),
    "watch": (
        _watch,
        "build what is put into pending/, as it comes",
        (
            argument("--workers", metavar="N", help="worker processes (one for each core)"),
            IN_FLIGHT,
            flag("--seeds", help="also build what changes in seeds/ and pipeline-config/"),
            flag("--once", help="end when nothing is left to do"),
            argument("--grace", metavar="S", help="seconds to wait for calls at the end (30)"),
            argument("--rescan", metavar="S", help="seconds between looks at everything (5)"),
            STORE,
            BUDGET_USD,
            UNKNOWN_COST,
            flag("--json", help="print a line of JSON for each job that ended"),
        ),
    ),
    "retry": (_retry, "build a rejected job with another sample", (JOB_ARGUMENT, STORE, JSON)),
    "accept": (
        _accept,
        "take what stands there as up to date",
        (JOB_ARGUMENT, argument("tasks", nargs="*", metavar="TASK", help="all if absent"), JSON),
    ),
    "freeze": (_freeze, "keep a task's artifact whatever changes", (PATTERN, TASK_ARGUMENT, JSON)),
    "thaw": (_thaw, "let a frozen task be rebuilt again", (PATTERN, TASK_ARGUMENT, JSON)),
}
