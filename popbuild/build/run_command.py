"""What `popbuild run` and `doit run` do with their words."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from popbuild.base.arguments import Given
from popbuild.base.errors import UsageError
from popbuild.base.paths import Root
from popbuild.base.threads import leave_if_hanging
from popbuild.build import progress, session
from popbuild.build.nothing_to_do import Options


def build_as_told(
    root: Root, given: Given, names: Iterable[str], variables: Mapping[str, str]
) -> int:
    """Build what the words say, print the results, and give the exit code."""
    if given.par_type:
        raise UsageError(
            "-P means nothing here",
            {"found": f"-P {given.par_type}"},
            hint="tasks that do not need each other run at the same time; -n limits the calls",
        )
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
        cluster=given.dask,
        only=given.only,
    )
    return run_and_print(root, given, variables.get("job"), names, options)


def run_and_print(
    root: Root, given: Given, job: str | None, names: Iterable[str], options: Options
) -> int:
    """Build jobs and print the results as --json and --debug say. Gives the exit code."""
    events = progress.choose_printer(given.json)
    code, results = session.run(root, job, names, options, events)
    progress.print_results(results, as_json=given.json, debug=given.debug)
    if not results:
        print(session.NO_JOBS, file=sys.stderr)
    leave_if_hanging(code)
    return code
