"""`popbuild prune`."""

import os

from popbuild.cli.options import (
    MAX_SIZE,
    OLDER_THAN,
    REALLY,
    Given,
    argument,
    command,
    flag,
    option,
    print_result,
    root_of,
)


@command(
    "drop old jobs, or their logs",
    argument("states", "STATE", "*", help="pending, complete or rejected; all if absent"),
    OLDER_THAN,
    option("--keep", value="N", help="drop all but the newest N of each state"),
    MAX_SIZE,
    flag("--orphans", help="only jobs whose file under seeds/ is gone"),
    flag("--logs", help="drop the logs of these jobs instead"),
    flag("--tmp", help="drop the temporary files of these jobs instead"),
    REALLY,
)
def _prune(given: Given) -> int:
    """Drop old jobs from pending/, complete/ and rejected/: those older than an age, all but
    the newest, and the oldest until the rest is small enough. Without --yes it only says what it
    would drop. It never touches a job that is being built, or was left in current/. What a job
    was made from stays: seeds/ and the store."""
    from popbuild.base.units import parse_size, seconds_of, whole_number
    from popbuild.cli.text import pruning_lines
    from popbuild.jobs.promotion import previous_kept
    from popbuild.model.config.config import environment_of
    from popbuild.upkeep.prune import prune, rule_of

    rule = rule_of(
        given.states,
        older_than_s=None if given.older_than is None else seconds_of(given.older_than),
        keep=whole_number("--keep", given.keep),
        max_bytes=None if given.max_size is None else parse_size(given.max_size),
        orphans=given.orphans,
        kinds=tuple(kind for kind in ("logs", "tmp") if getattr(given, kind)),
    )
    root = root_of(given)
    previous = previous_kept(environment_of(root, os.environ))
    pruning = prune(root, rule, previous_kept=previous, really=given.yes)
    return print_result(given.json, pruning.as_json, lambda: pruning_lines(pruning))
