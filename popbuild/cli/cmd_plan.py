"""`popbuild plan`."""

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
    root_and_names,
)


@command("say what a run would do and cost", JOBS_OR_TASKS, *WHAT, NAMED_ONLY, STORE)
def _plan(given: Given) -> int:
    """Say what a run would do and cost: every task that will run, and every task below it that
    may, with the reasons, how many answers are stored already, and tokens and dollars as a range.
    Makes no call, changes nothing. JOB and the options are those of run, job= and fresh= too.
    With --store only, exits with 2 where a run would lack an answer."""
    from popbuild.build import session
    from popbuild.build.nothing_to_do import Options
    from popbuild.query.planned import plan_lines, totals

    root, names, variables = root_and_names(given, RUN)
    options = Options(
        always=given.always,
        keep_edits=given.keep_edits,
        discard_edits=given.discard_edits,
        store=given.store,
        only=given.only,
        fresh=session.fresh_tasks(variables.get("fresh")),
    )
    jobs = session.plan_run(root, variables.get("job"), names, options)
    return print_result(
        given.json,
        lambda: {
            "jobs": [job.as_json() for job in jobs],
            "total": totals(task for job in jobs for task in job.tasks).as_json(),
        },
        lambda: plan_lines(jobs),
        FAILED if any(job.lacking for job in jobs) else OK,
    )
