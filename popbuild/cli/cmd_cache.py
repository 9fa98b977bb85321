"""`popbuild cache` and the commands below it."""

import os
import sys

from popbuild.base.errors import OK
from popbuild.cli.options import (
    MAX_SIZE,
    OLDER_THAN,
    REALLY,
    Command,
    Given,
    argument,
    command,
    flag,
    print_result,
    root_of,
)

_URL = argument("url", "URL", help="a folder or a URL")
_REFERENCED = flag("--referenced", help="drop what jobs refer to as well")


@command("show what the store holds and has saved", of_variants=False)
def _status(given: Given) -> int:
    """Show what the store holds, by model: answers, their size, what they cost when they were
    bought, how often they were served since, and what that saved."""
    from popbuild.cli.text import store_lines
    from popbuild.upkeep import share_store

    found = share_store.status(root_of(given))
    return print_result(given.json, found.as_json, lambda: store_lines(found))


@command("copy answers to another place", _URL, of_variants=False)
def _push(given: Given) -> int:
    """Copy to URL the answers that it lacks. URL is a folder, or whatever fsspec opens:
    s3://bucket/prefix, with the packages popbuild[cache] and s3fs. Keys come from the
    environment or from .env."""
    return _copy_store(given, "pushed")


@command("copy answers from another place", _URL, of_variants=False)
def _pull(given: Given) -> int:
    """Copy from URL the answers that this store lacks, each only if it is intact. URL is a
    folder, or whatever fsspec opens, as for push."""
    return _copy_store(given, "pulled")


def _copy_store(given: Given, done: str) -> int:
    from popbuild.cli.text import transfer_line
    from popbuild.model.config.config import environment_of
    from popbuild.upkeep import share_store

    root = root_of(given)
    copy = share_store.push if done == "pushed" else share_store.pull
    transfer = copy(root, given.url, environment_of(root, os.environ))
    print_result(given.json, transfer.as_json, lambda: [transfer_line(transfer, done)])
    for name in transfer.damaged:
        print(f"warning: damaged, and not copied: {name}", file=sys.stderr)
    return OK


@command("drop old answers", OLDER_THAN, MAX_SIZE, _REFERENCED, REALLY, of_variants=False)
def _prune(given: Given) -> int:
    """Drop old answers from the store, the oldest first: those older than an age, then more
    until the rest is small enough. Without --yes it only says what it would drop. What a job in
    any state or a previous result refers to stays, unless --referenced is given."""
    from popbuild.base.units import parse_size, seconds_of
    from popbuild.cli.text import store_pruning_lines
    from popbuild.upkeep.share_store import prune_store

    pruning = prune_store(
        root_of(given),
        older_than_s=None if given.older_than is None else seconds_of(given.older_than),
        max_bytes=None if given.max_size is None else parse_size(given.max_size),
        referenced=given.referenced,
        really=given.yes,
    )
    return print_result(given.json, pruning.as_json, lambda: store_pruning_lines(pruning))


_cache = Command(
    "cache",
    "share the store of answers, and keep it small",
    text="Share the store of answers with other machines, see what it has saved, keep it small.",
    below=(_status, _push, _pull, _prune),
)
