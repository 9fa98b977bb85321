"""What the file of a command needs: words, the root and the names that were given, printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from popbuild.base.arguments import Given
from popbuild.base.errors import unknown
from popbuild.base.paths import Root
from popbuild.base.printing import print_json, print_lines, print_result
from popbuild.base.roots import find_root
from popbuild.base.words import Command, argument, command, flag, option
from popbuild.build.chosen_variant import variant_of, variants_of
from popbuild.build.shared_words import (
    BUDGET_USD,
    IN_FLIGHT,
    JOBS,
    JOBS_OR_TASKS,
    NAMED_ONLY,
    STORE,
    UNKNOWN_COST,
    WHAT,
)

# fmt: off
__all__ = [
    "BUDGET_USD", "IDENTITY", "IN_FLIGHT", "ITEM", "JOBS", "JOBS_OR_TASKS", "MAX_SIZE",
    "NAMED_ONLY", "OLDER_THAN", "ONE_JOB", "ONE_TASK", "PATTERN", "REALLY", "SOME_JOBS", "STORE",
    "UNKNOWN_COST", "WHAT", "Command", "Given", "argument", "command", "flag", "option",
    "print_frozen", "print_json", "print_lines", "print_result", "root_and_names", "root_of",
    "roots_and_names",
]
# fmt: on

ONE_JOB = argument("job", "JOB", help="the job's ID")
SOME_JOBS = argument("names", "JOB", "+", help="a job's ID or a glob")
PATTERN = argument("job", "JOB", help="a job's ID or a glob")
ONE_TASK = argument("task", "TASK", help="the task")
ITEM = option("--item", value="KEY", help="one item of a task with foreach, by its key")
IDENTITY = option("--identity", value="FILE", help="an age private key, outside of the root")
OLDER_THAN = option("--older-than", value="AGE", help="drop what is older: 12h, 30d, 8w")
MAX_SIZE = option("--max-size", value="SIZE", help="drop the oldest until this much is left: 500MB")
REALLY = flag("--yes", help="really drop it")


def root_of(given: Given) -> Root:
    """The root of a command, as the variant that it is about sees it."""
    return variant_of(find_root(Path.cwd(), given.root), given)


def root_and_names(given: Given, command: Command) -> tuple[Root, list[str], dict[str, str]]:
    """The root, the names, and the `name=value` words, of a command that takes these."""
    root, names, variables = _main_and_names(given, command)
    return variant_of(root, given), names, variables


def roots_and_names(given: Given, command: Command) -> tuple[list[Root], list[str], dict[str, str]]:
    """As `root_and_names`, of a command that may be about several variants."""
    root, names, variables = _main_and_names(given, command)
    return variants_of(root, given), names, variables


def _main_and_names(given: Given, command: Command) -> tuple[Root, list[str], dict[str, str]]:
    from popbuild.build.session import check_given_once

    names, variables = [], {}
    for word in given.names:
        key, separator, value = word.partition("=")
        if not separator:
            names.append(word)
        elif key in command.variables:
            variables[key] = value
        else:
            raise unknown("variable", key, command.variables)
    check_given_once(given.names, variables)
    said = "--root" if given.root else "root="
    return find_root(Path.cwd(), given.root or variables.get("root"), said), names, variables


def print_frozen(given: Given, frozen: Mapping[str, Sequence[str]]) -> int:
    """Print which tasks of which jobs are frozen now."""
    return print_result(
        given.json,
        lambda: [{"job": job, "frozen": list(tasks)} for job, tasks in frozen.items()],
        lambda: (
            f"{job}: frozen: {', '.join(tasks) or 'nothing'}" for job, tasks in frozen.items()
        ),
    )
