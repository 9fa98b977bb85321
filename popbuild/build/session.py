"""One `run`: which jobs are meant, which have nothing to do, and the event loop for the rest."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from popbuild.base import disk, errors
from popbuild.base.errors import BudgetError, StoppedError, UsageError
from popbuild.base.paths import COMPLETE, Root
from popbuild.base.threads import no_exit_as_if_done
from popbuild.base.units import money, whole_number
from popbuild.build.events import Events, JobResult
from popbuild.build.nothing_to_do import Options, settle_without_building
from popbuild.jobs import job_ids, lifecycle, promotion
from popbuild.jobs.build_order import BuildOrder, ordered
from popbuild.jobs.claims import Claims, JobLocks
from popbuild.jobs.selection import Selection, check_case, check_rule, check_tasks, select
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.store import choose_mode
from popbuild.model.config import config
from popbuild.model.problem import Problem

if TYPE_CHECKING:
    from popbuild.query.planned import PlannedJob, PlanOptions

NO_JOBS = "no jobs: put a seed into seeds/, or popbuild submit one"

_BuildFunction = Callable[
    [Selection, BuildOrder, Surroundings, Claims, Options, Events], dict[str, JobResult]
]

_SEVERITY = (errors.FAILED, errors.NOT_STARTED, errors.REJECTED, errors.BUDGET, errors.STOPPED)


def check_given_once(words: Iterable[str], variables: Iterable[str]) -> None:
    """UsageError for a variable that is given twice: the last would silently win."""
    for name in variables:
        values = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
        if len(values) > 1:
            several = f"{name}={','.join(values)}"
            raise UsageError(
                f"{name}= is given {'twice' if len(values) == 2 else f'{len(values)} times'}",
                {"found": " ".join(f"{name}={value}" for value in values)},
                hint="a command works in one root" if name == "root" else f"write {several}",
            )


def fresh_tasks(given: str | None) -> tuple[str, ...]:
    """The tasks that `fresh=a,b` names. UsageError where it names none."""
    if given is None:
        return ()
    names = tuple(part.strip() for part in given.split(","))
    if not all(names):
        raise UsageError(
            "fresh= names no task", {"found": given or "nothing"}, hint="fresh=<task>,<task>"
        )
    return names


def calls_in_flight(given: str | None) -> int | None:
    """The number after -n, or None where there is none. UsageError for anything else."""
    return whole_number("-n", given, "-n says how many calls may be in flight at the same time")


def seconds_option(option: str, given: str | None, default: float) -> float:
    """The seconds after an option, else the default. UsageError for anything else."""
    return default if given is None else _amount(option, "a number of seconds", given)


def run(
    root: Root,
    job: str | None,
    names: Iterable[str],
    options: Options | None = None,
    events: Events | None = None,
) -> tuple[int, list[JobResult]]:
    """Build the selected jobs. Gives the exit code and a result for each job, in order. Raises
    PopbuildError for what is wrong before anything is built."""
    options, events = options or Options(), events or Events()
    build = _builder_of(options)
    chosen = select(root, job, names)
    # With --continue they fail as a bad seed does, each alone.
    bad = job_ids.bad_names(root, chosen) if options.continue_ else {}
    selection = {name: tasks for name, tasks in chosen.items() if name not in bad}
    check_rule(root, selection)
    # To find its like, all jobs are listed: one that is complete may have nothing to do.
    is_late = len(selection) == 1 and disk.stands(root.at(root.job_place(COMPLETE, *selection)))
    if not (is_late or options.continue_):
        check_case(root, selection)
    around = Surroundings(config.load(root))
    check_tasks(selection, around, options.fresh)
    mode = choose_mode(options.store, around.config.environment)
    open_root(root, events)
    claims = JobLocks(root)
    results = {name: _badly_named(root, name, problem) for name, problem in bad.items()}
    with contextlib.closing(events):
        for each in results.values():
            events.job_done(each)
        whole, order, settled = _settle(selection, around, options, claims, events)
        results |= settled
        rest = {name: tasks for name, tasks in whole.items() if name not in results}
        if rest:
            if order.added or (is_late and not options.continue_):
                check_case(root, rest)
            _ask_first(rest, around, options, events, mode, order)
            results |= build(rest, order.of(rest), around, claims, options, events)
        _tell_left([results[name] for name in whole], events)
    told = [*chosen, *(each for each in whole if each in order.added)]
    ordered = [results[name] for name in told if not _is_idle(results[name], order)]
    counted = (result.exit_code for result in ordered if result.id not in order.silent)
    return overall(counted), ordered


def _is_idle(result: JobResult, order: BuildOrder) -> bool:
    """Whether a job is not worth a line: no person named it, and it had nothing to do."""
    return result.id in order.added and result.outcome == "up to date"


def open_root(root: Root, events: Events) -> None:
    """Make a root's folders, and warn where its locks do not hold."""
    lifecycle.prepare_root(root)
    doubts = lifecycle.doubts_about_locks(root)
    if doubts is not None:
        events.note(doubts)


def _tell_left(results: Collection[JobResult], events: Events) -> None:
    """Where a budget ended the run: which jobs were not built."""
    if any(isinstance(result.error, BudgetError) for result in results):
        done = ("complete", "up to date", "built")
        left = [each for each in results if each.outcome not in done and not each.spares_others]
        events.left([each.id for each in left])


def _badly_named(root: Root, job: str, problem: str) -> JobResult:
    note = f"{job_ids.place_of(root, job)} has no name that a job can have"
    return JobResult(job, "rejected", problems=(Problem(problem),), notes=(note,))


def overall(codes: Iterable[int]) -> int:
    """The exit code of a command, from those of its jobs."""
    found = set(codes)
    return next((code for code in _SEVERITY if code in found), max(found, default=errors.OK))


def _settle(
    selection: Selection, around: Surroundings, options: Options, claims: Claims, events: Events
) -> tuple[Selection, BuildOrder, dict[str, JobResult]]:
    """All jobs of the command in their order, and the results of those that have nothing to do."""
    promotion.previous_kept(around.config.environment)  # refused, whether a job needs it or not
    results: dict[str, JobResult] = {}
    add, is_forced = not options.only, options.always or bool(options.fresh)
    with ordered(selection, around, add=add, is_forced=is_forced) as (whole, order, index):
        for name, tasks in whole.items():
            before = order.after.get(name, ())
            if (is_forced and name in selection) or any(each not in results for each in before):
                continue
            settled = settle_without_building(name, around, claims, index, tasks)
            if settled is not None:
                results[name] = settled
                if not _is_idle(settled, order):
                    events.job_done(settled)
    return whole, order, results


def _asked(options: Options, mode: str, order: BuildOrder) -> PlanOptions:
    """A run's options, for a plan."""
    from popbuild.query.planned import PlanOptions

    edits = (options.keep_edits, options.discard_edits)
    return PlanOptions(mode, options.always, options.fresh, *edits, order.added, options.only)


def plan_run(
    root: Root, job: str | None, names: Iterable[str], options: Options
) -> list[PlannedJob]:
    """Plan `run` with the same arguments: what it would do and cost. Makes no call."""
    from popbuild.query.plan import plan

    selection = select(root, job, names)
    around = Surroundings(config.load(root))
    check_tasks(selection, around, options.fresh)
    mode = choose_mode(options.store, around.config.environment)
    is_forced = options.always or bool(options.fresh)
    with ordered(selection, around, add=not options.only, is_forced=is_forced) as (whole, order, _):
        pass
    planned = plan(whole, around, _asked(options, mode, order))
    return [each for each in planned if each.id not in order.added or not each.nothing_to_do]


def _ask_first(
    selection: Selection,
    around: Surroundings,
    options: Options,
    events: Events,
    mode: str,
    order: BuildOrder,
) -> None:
    """Show the plan and ask, if it may cost more than `--ask-above`. StoppedError for a no."""
    if options.ask_above is None:
        return
    from popbuild.query.plan import plan
    from popbuild.query.planned import totals

    planned = list(plan(selection, around, _asked(options, mode, order)))
    total = totals(task for job in planned for task in job.tasks)
    if not total.unknown and total.cost.high <= options.ask_above:
        return
    answer = events.confirm(planned)
    if not answer:
        raise StoppedError(
            "not confirmed: nothing was built" if answer is None else "nothing was built",
            {"ask above": money(options.ask_above)},
            hint=None
            if answer is False
            else "without a terminal no person can confirm: "
            "popbuild plan shows the price, --budget limits it",
        )


def dollars(option: str, given: str | None) -> float | None:
    """The amount after an option, None where there is none. UsageError for anything else."""
    return None if given is None else _amount(option, "an amount of US dollars", given)


def _amount(option: str, what: str, given: str) -> float:
    try:
        amount = float(given)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise UsageError(f"{option} must be {what}, at least 0", {"found": given or "nothing"})
    return amount


def _builder_of(options: Options) -> _BuildFunction:
    """What builds the jobs that are not up to date: this process, or a cluster."""
    if options.cluster is None:
        return _build_here
    try:
        from popbuild.build.dask import build_on_cluster
    except ModuleNotFoundError as error:
        raise UsageError(
            "--dask needs Dask Distributed",
            {"missing": error.name},
            hint="pip install 'popbuild[dask]'",
        ) from None
    return build_on_cluster


def _build_here(
    selection: Selection,
    order: BuildOrder,
    around: Surroundings,
    claims: Claims,
    options: Options,
    events: Events,
) -> dict[str, JobResult]:
    """The part that may call models, in an event loop."""
    import asyncio

    from popbuild.build.builder import building

    async def main() -> list[JobResult]:
        async with building(around, claims, options, events) as builder:
            this = asyncio.current_task()
            if this is not None:
                # Where the system has no such handlers; and in a thread, where the program that
                # started it hears signals.
                with contextlib.suppress(RuntimeError):
                    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
            return await builder.build_all(selection, order)

    try:
        with no_exit_as_if_done(errors.FAILED):
            results = asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return {result.id: result for result in results}
