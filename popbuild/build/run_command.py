"""What `popbuild run` and `doit run` do with their words."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from popbuild.base.arguments import Given
from popbuild.base.errors import BUDGET, PopbuildError, UsageError
from popbuild.base.paths import Root
from popbuild.base.roots import seen_in_error
from popbuild.base.threads import leave_if_hanging
from popbuild.build import progress, session
from popbuild.build.events import JobResult
from popbuild.build.nothing_to_do import Options
from popbuild.jobs.selection import select
from popbuild.model.config import config


def build_as_told(
    roots: Sequence[Root], given: Given, names: Sequence[str], variables: Mapping[str, str]
) -> int:
    """Build what the words say, as each variant of the root wants it, print the results, and give
    the exit code."""
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
    return run_and_print(roots, given, variables.get("job"), names, options)


def run_and_print(
    roots: Sequence[Root], given: Given, job: str | None, names: Sequence[str], options: Options
) -> int:
    """Build jobs and print the results as --json and --debug say. Gives the exit code."""
    code, results = run_each(roots, job, names, options, as_json=given.json)
    progress.print_results(results, as_json=given.json, debug=given.debug)
    if not results:
        print(session.NO_JOBS, file=sys.stderr)
    leave_if_hanging(code)
    return code


def _check(root: Root, job: str | None, names: Sequence[str]) -> None:
    """Raise what is wrong with one of several variants before the first of them is built."""
    try:
        select(root, job, names)
        config.load(root)
    except PopbuildError as error:
        seen_in_error(root, error)
        error.values = {"variant": root.variant.label, **error.values}
        raise


def run_each(
    roots: Sequence[Root],
    job: str | None,
    names: Sequence[str],
    options: Options,
    *,
    as_json: bool,
) -> tuple[int, list[tuple[str | None, JobResult]]]:
    """Build jobs; progress goes to stderr with `as_json`. Gives the exit code and the results, of
    several variants each with its label.

    Of several variants each is built to its end, one after another, within one budget: what one
    rejects says nothing against the others, and code of two variants cannot be loaded at once.
    """
    if is_several := len(roots) > 1:
        for root in roots:
            _check(root, job, names)
        options = replace(options, continue_=True, spending_name=secrets.token_hex(4))
    codes, results = [], []
    for root in roots:
        events = progress.choose_printer(as_json, root)
        label = root.variant.label if is_several else None
        if label is not None:
            events.note(f"{label}:")
        code, found = session.run(root, job, names, options, events)
        codes.append(code)
        results += [(label, each) for each in found]
        for each in found:
            if each.error is not None:
                seen_in_error(root, each.error)
        if code == BUDGET:
            break
    return session.overall(codes), results
