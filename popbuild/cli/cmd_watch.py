"""`popbuild watch`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from popbuild.cli.options import (
    BUDGET_USD,
    IN_FLIGHT,
    STORE,
    UNKNOWN_COST,
    Given,
    command,
    flag,
    option,
    print_json,
    root_of,
)

if TYPE_CHECKING:
    from popbuild.build.events import JobResult


@command(
    "build what is put into pending/, as it comes",
    option("--workers", value="N", help="worker processes (one for each core)"),
    IN_FLIGHT,
    flag("--seeds", help="also build what changes in seeds/ and pipeline-config/"),
    flag("--once", help="end when nothing is left to do"),
    option("--grace", value="S", help="seconds to wait for calls at the end (30)"),
    option("--rescan", value="S", help="seconds between looks at everything (5)"),
    STORE,
    BUDGET_USD,
    UNKNOWN_COST,
    flag("--json", help="print a line of JSON for each job that ended"),
)
def _watch(given: Given) -> int:
    """Build jobs as they are put into pending/, by popbuild submit or by any other program, in
    worker processes, and go on with jobs whose orchestrator died. Several may work on one root.
    Ctrl-C or SIGTERM ends it: it waits for calls in flight, and nothing is lost; a second one ends
    it at once."""
    from popbuild.base.units import whole_number
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
        workers=whole_number("--workers", given.workers) or os.cpu_count() or 1,
        in_flight=session.calls_in_flight(given.in_flight) or 8,
        grace_s=session.seconds_option("--grace", given.grace, 30.0),
        rescan_s=session.seconds_option("--rescan", given.rescan, 5.0),
        once=given.once,
        seeds=given.seeds,
    )

    def tell(result: JobResult) -> None:
        if given.json:
            print_json(result.as_json(), lines=True)
        else:
            progress.print_results([(None, result)], as_json=False, debug=given.debug)

    return watch(root, settings, options, progress.choose_printer(given.json, root), tell)
