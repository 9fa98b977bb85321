"""`popbuild cache` and its commands. Each docstring is a help page."""

from __future__ import annotations

import os
import sys

from popbuild.base.errors import OK, UsageError
from popbuild.cli.options import (
    JSON,
    Given,
    Table,
    add_commands,
    argument,
    flag,
    print_json,
    print_lines,
    root_of,
)


def _cache(given: Given) -> int:
    """Share the store of answers with other machines, see what it has saved, keep it
    small."""
    raise UsageError("cache needs a command", {"known": ", ".join(_CACHE)}, "popbuild cache --help")


def _cache_status(given: Given) -> int:
    """Show what the store holds, by model: answers, their size, what they cost when they were
    bought, how often they were served since, and what that saved."""
    from popbuild.cli.cache_text import status_lines
    from popbuild.upkeep import share_store

    found = share_store.status(root_of(given))
    if given.json:
        print_json(found.as_json())
    else:
        print_lines(status_lines(found))
    return OK


def _cache_push(given: Given) -> int:
    """Copy to URL the answers that it lacks. URL is a folder, or whatever fsspec opens:
    s3://bucket/prefix, with the packages popbuild[cache] and s3fs. Keys come from the
    environment or from .env."""
    return _copy_store(given, "pushed")


def _cache_pull(given: Given) -> int:
    """Copy from URL the answers that this store lacks, each only if it is intact. URL is a
    folder, or whatever fsspec opens, as for push."""
    return _copy_store(given, "pulled")


def _copy_store(given: Given, done: str) -> int:
    from popbuild.cli.cache_text import damage_lines, transfer_line
    from popbuild.model.config.config import environment_of
    from popbuild.upkeep import share_store

    root = root_of(given)
    copy = share_store.push if done == "pushed" else share_store.pull
    transfer = copy(root, given.url, environment_of(root, os.environ))
    if given.json:
        print_json(transfer.as_json())
    else:
        print_lines([transfer_line(transfer, done)])
    for line in damage_lines(transfer):
        print(line, file=sys.stderr)
    return OK


def _cache_prune(given: Given) -> int:
    """Drop old answers from the store, the oldest first: those older than an age, then more
    until the rest is small enough. Only says what it would drop, unless --yes is given. What
    a job in any state or a previous result refers to stays, unless --referenced is given."""
    from popbuild.cli.cache_text import store_pruning_lines
    from popbuild.upkeep.amounts import parse_size, seconds_of
    from popbuild.upkeep.prune_store import prune_store

    pruning = prune_store(
        root_of(given),
        older_than_s=None if given.older_than is None else seconds_of(given.older_than),
        max_bytes=None if given.max_size is None else parse_size(given.max_size),
        referenced=given.referenced,
        really=given.yes,
    )
    if given.json:
        print_json(pruning.as_json())
    else:
        print_lines(store_pruning_lines(pruning))
    return OK


_URL = argument("url", metavar="URL", help="a folder or a URL")

_CACHE: Table = {
    "status": (_cache_status, "show what the store holds and has saved", (JSON,)),
    "push": (_cache_push, "copy answers to another place", (_URL, JSON)),
    "pull": (_cache_pull, "copy answers from another place", (_URL, JSON)),
    "prune": (
        _cache_prune,
        "drop old answers",
        (
            argument("--older-than", metavar="AGE", help="drop what is older: 12h, 30d, 8w"),
            argument("--max-size", metavar="SIZE", help="drop until no more is left: 500MB"),
            flag("--referenced", help="drop what jobs refer to as well"),
            flag("--yes", help="really drop it"),
            JSON,
        ),
    ),
}

SHARING: Table = {
    "cache": (
        _cache,
        "share the store of answers, and keep it small",
        (lambda parser: add_commands(parser, "cache_command", _CACHE),),
    ),
}
