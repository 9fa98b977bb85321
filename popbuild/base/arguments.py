"""argparse's parsers for commands that `words.py` declares. The one importer of argparse."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from popbuild.base.errors import UsageError, no_such, unknown
from popbuild.base.words import Command, Word

Given = argparse.Namespace
_HELP = ("-h", "--help")


class Parser(argparse.ArgumentParser):
    """argparse, with our errors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, {"command": self.prog}, hint=f"{self.prog} --help")


def parse_words(
    command: Command, prog: str, words: Sequence[str], *, only_given: bool = False
) -> Given:
    """The values of the words; with `only_given`, without those of absent options.

    Arguments may stand anywhere between options, which argparse does not always allow. UsageError
    for a word that the command does not take. --help prints the help, then raises SystemExit.
    """
    end = words.index("--") if "--" in words else len(words)
    if any(each in _HELP for each in words[:end]):
        parser_of(command, prog).print_help()
        sys.exit(0)
    default = argparse.SUPPRESS if only_given else None
    options = _bare(prog, (word for word in command.words if word.is_option), default)
    given, rest = options.parse_known_args(words[:end])
    found = next((each for each in rest if each.startswith("-") and each != "-"), None)
    if found is not None:
        names = [*_HELP, *(name for word in command.words if word.is_option for name in word.names)]
        option, where = found.partition("=")[0], {"command": prog}
        raise unknown("option", option, names, where=where, hint=f"{prog} --help")
    arguments = _bare(prog, (word for word in command.words if not word.is_option))
    rest += words[end + 1 :]
    # After a -- nothing is an option.
    given, rest = arguments.parse_known_args(["--", *rest] if rest else [], given)
    if rest:
        values = {"command": prog, "found": " ".join(rest).removeprefix("-- ")}
        raise UsageError("too many arguments", values, hint=f"{prog} --help")
    return given


def _bare(prog: str, words: Iterable[Word], default: object = None) -> Parser:
    parser = Parser(prog, add_help=False, allow_abbrev=False, argument_default=default)
    for word in words:
        _add(parser, word, default)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action.choices, Mapping):  # argparse forgets how far it indents commands
            widest = max(map(len, action.choices)) + 2 * self._indent_increment
            self._action_max_length = max(self._action_max_length, widest)


def parser_of(command: Command, prog: str, completed: Mapping[str, Any] | None = None) -> Parser:
    """A command's parser, for its help page. With `completed`, which says how values are completed,
    the commands below it have their words as well: to make all of them takes a while."""
    text, _, epilog = command.page.partition("\n\n")
    width = min(80, int(os.environ.get("COLUMNS", "80") or 80))
    parser = Parser(
        prog,
        description=text if epilog else textwrap.fill(" ".join(text.split()), width),
        epilog=epilog or None,
        formatter_class=functools.partial(_Formatter, max_help_position=26, width=width),
        allow_abbrev=False,
    )
    _fill(parser, command, completed)
    return parser


def _fill(
    parser: argparse.ArgumentParser, command: Command, completed: Mapping[str, Any] | None
) -> None:
    for word in command.words:
        added = _add(parser, word)
        if completed is not None:
            added.choices = word.choices or None
            if word.value in completed:
                added.complete = completed[word.value]  # type: ignore[attr-defined]  # shtab's
    if command.below:
        commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
        for each in command.below:
            is_deep = completed is not None
            # Its description is what a shell says of the command.
            below = commands.add_parser(
                each.name, help=each.brief, description=each.brief, add_help=is_deep
            )
            if is_deep:
                _fill(below, each, completed)


def _add(parser: argparse.ArgumentParser, word: Word, default: object = None) -> argparse.Action:
    settings: dict[str, Any] = {"help": word.help, "default": default or word.default}
    if word.value:
        settings |= {"metavar": word.value, "type": functools.partial(_chosen, word)}
    else:
        settings["action"] = "store_true"
    if word.count:
        settings["nargs"] = word.count
    if word.repeated:
        settings["action"] = "append"
    if word.is_option:
        settings |= {"dest": word.key, "required": word.required}
    return parser.add_argument(*word.names, **settings)


def _chosen(word: Word, given: str) -> str:
    """A value; UsageError unless it is one of the word's choices."""
    if word.choices and given not in word.choices:
        kind = word.value.lower()
        name = word.names[-1] if word.is_option else kind
        raise UsageError(f"no such {kind}", no_such(name, given or "nothing", word.choices))
    return given
