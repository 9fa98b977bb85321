"""`popbuild plan`."""

from collections.abc import Iterator

from popbuild.base.errors import FAILED, OK
from popbuild.build.shared_words import RUN
from popbuild.cli.options import (
    JOBS_OR_TASKS,
    NAMED_ONLY,
    STORE,
    WHAT,
    Given,
    command,
    print_result,
    roots_and_names,
)


@command(
    "say what a run would do and cost", JOBS_OR_TASKS, *WHAT, NAMED_ONLY, STORE, of_several=True
)
def _plan(given: Given) -> int:
    """Say what a run would do and cost: every task that will run, and every task below it that
    may, with the reasons, how many answers are stored already, and tokens and dollars as a range.
    Makes no call, changes nothing. JOB and the options are those of run, job= and fresh= too. Of
    several variants, each is planned by itself: what one would buy may serve another.
    With --store only, exits with 2 where a run would lack an answer."""
    from popbuild.build import session
    from popbuild.build.nothing_to_do import Options
    from popbuild.query.planned import plan_lines, totals

    roots, names, variables = roots_and_names(given, RUN)
    options = Options(
        always=given.always,
        keep_edits=given.keep_edits,
        discard_edits=given.discard_edits,
        store=given.store,
        only=given.only,
        fresh=session.fresh_tasks(variables.get("fresh")),
    )
    plans = {
        root.variant.label: session.plan_run(root, variables.get("job"), names, options)
        for root in roots
    }
    is_several = len(roots) > 1

    def as_json() -> list[object] | object:
        bodies = [
            {
                **({"variant": label} if is_several else {}),
                "jobs": [job.as_json() for job in jobs],
                "total": totals(task for job in jobs for task in job.tasks).as_json(),
            }
            for label, jobs in plans.items()
        ]
        return bodies if is_several else bodies[0]

    def lines() -> Iterator[str]:
        for label, jobs in plans.items():
            yield from [f"{label}:"] if is_several else []
            yield from plan_lines(jobs)

    lacks = any(job.lacking for jobs in plans.values() for job in jobs)
    return print_result(given.json, as_json, lines, FAILED if lacks else OK)
