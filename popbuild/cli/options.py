"""The words of the command line: options that several commands have, tables of commands, and how a
result is printed. The one importer of argparse."""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import Root
from popbuild.base.roots import find_root

Given = argparse.Namespace
RawText = argparse.RawDescriptionHelpFormatter
Add = Callable[[argparse.ArgumentParser], None]
Table = dict[str, tuple[Callable[[Given], int], str, tuple[Add, ...]]]


class Parser(argparse.ArgumentParser):
    """argparse, with our exit code and the nearest known name."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, {}, hint=f"{self.prog} --help")


def formatter(
    kind: type[argparse.HelpFormatter],
) -> functools.partial[argparse.HelpFormatter]:
    """How help is laid out: not wider than 80 columns."""
    width = min(80, int(os.environ.get("COLUMNS", "80") or 80))
    return functools.partial(kind, max_help_position=26, width=width)


def add_commands(
    parser: argparse.ArgumentParser, chosen: str, table: Table, words: Collection[str] | None = None
) -> None:
    """The commands of a table, below a parser; the attribute `chosen` tells which was given. Only
    those among the words get their options, which takes a while for all."""
    commands = parser.add_subparsers(dest=chosen, metavar="COMMAND", title="commands")
    for name, (run, text, add) in table.items():
        is_wanted = words is None or name in words
        command = commands.add_parser(
            name,
            help=text,
            description=run.__doc__ or text,
            formatter_class=formatter(argparse.HelpFormatter),
            allow_abbrev=False,
            add_help=is_wanted,
        )
        if not is_wanted:
            continue
        for option in add:
            option(command)
        command.add_argument("--root", metavar="DIR", default=argparse.SUPPRESS, help="the root")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(run=run)


def argument(*names: str, **settings: Any) -> Callable[[argparse.ArgumentParser], None]:
    """An argument or an option, for a row of a table."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*names, **settings)

    return add


def flag(*names: str, **settings: str) -> Callable[[argparse.ArgumentParser], None]:
    return argument(*names, action="store_true", **settings)


JSON = flag("--json", help="print JSON")
STORE = argument(
    "--store", metavar="MODE", help="use (the default), refresh, only or off: see docs/store.md"
)
JOBS = argument("names", nargs="*", metavar="JOB", help="a job's ID or a glob; all if absent")
JOB_ARGUMENT = argument("job", metavar="JOB", help="the job's ID")
PATTERN = argument("job", metavar="JOB", help="a job's ID or a glob")
TASK_ARGUMENT = argument("task", metavar="TASK", help="the task")


WHAT = (
    flag("-a", "--always-execute", dest="always", help="build what is up to date too"),
    flag("--keep-edits", help="keep files edited by hand whose task is stale"),
    flag("--discard-edits", help="build files anew that were edited by hand"),
)
IN_FLIGHT = argument(
    "-n", dest="in_flight", metavar="N", help="how many calls this command may have in flight (8)"
)
BUDGET_USD = argument("--budget", metavar="USD", help="stop before a call that may go over this")
UNKNOWN_COST = flag("--unknown-cost", help="under a budget, also send calls without a known price")
SPENDING = (
    BUDGET_USD,
    argument("--ask-above", metavar="USD", help="show the plan and ask if it may cost more"),
    UNKNOWN_COST,
)


def root_of(given: Given) -> Root:
    return find_root(Path.cwd(), getattr(given, "root", None))


def root_and_names(given: Given) -> tuple[Root, dict[str, str], list[str]]:
    """The root, doit's `name=value` words, and the names, of a command that takes those of run."""
    from popbuild.build import session

    variables, names = _variables(given.names)
    session.check_given_once(given.names, variables)
    option = getattr(given, "root", None)
    said = "--root" if option else "root="
    return find_root(Path.cwd(), option or variables.get("root"), said), variables, names


def _variables(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """doit's `name=value` words, and the rest."""
    variables: dict[str, str] = {}
    rest = []
    for name in names:
        key, separator, value = name.partition("=")
        if not separator:
            rest.append(name)
        elif key in ("job", "root", "fresh"):
            variables[key] = value
        else:
            known = ("job", "root", "fresh")
            raise UsageError("no such variable", no_such("variable", key, known))
    return variables, rest


def print_json(value: Any, *, lines: bool = False) -> None:
    """Print a value, or with `lines` one of many, each a line at once."""
    from popbuild.base.redact import redact

    text = json.dumps(value, indent=None if lines else 2, ensure_ascii=False)
    print(redact(text, os.environ), flush=lines)


def print_lines(lines: Iterable[str]) -> None:
    from popbuild.base.redact import redact

    for line in lines:
        print(redact(line, os.environ))
