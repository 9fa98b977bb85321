"""Commands, declared as `words.py` says, as argparse's parsers. The one importer of argparse."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from popbuild.base.errors import UsageError, no_such
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
    """What the words say; with `only_given`, without the options that are not among them.

    Arguments may stand between options, which argparse allows only where it fits. UsageError for a
    word that the command does not take. SystemExit, once the help is printed, for --help.
    """
    end = words.index("--") if "--" in words else len(words)
    if any(each in _HELP for each in words[:end]):
        parser_of(command, prog).print_help()
        sys.exit(0)
    default = argparse.SUPPRESS if only_given else None
    options = _bare(prog, (word for word in command.words if word.is_option), default)
    given, rest = options.parse_known_args(words[:end])
    unknown = next((each for each in rest if each.startswith("-") and each != "-"), None)
    if unknown is not None:
        names = [*_HELP, *(name for word in command.words if word.is_option for name in word.names)]
        values = no_such("option", unknown.partition("=")[0], names, where={"command": prog})
        raise UsageError("no such option", values, hint=f"{prog} --help")
    arguments = _bare(prog, (word for word in command.words if not word.is_option))
    rest += words[end + 1 :]
    # Behind a -- nothing is an option.
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


def parser_of(command: Command, prog: str, *, deep: bool = False) -> Parser:
    """A command's parser for its help page. The commands below it have their words only if `deep`,
    since to make all of them takes a while."""
    parser = Parser(**_layout(command, prog))
    _fill(parser, command, deep)
    return parser


def _layout(command: Command, prog: str) -> dict[str, Any]:
    text, _, epilog = command.page.partition("\n\n")
    kind = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
    width = min(80, int(os.environ.get("COLUMNS", "80") or 80))
    return {
        "prog": prog,
        "description": text,
        "epilog": epilog or None,
        "formatter_class": functools.partial(kind, max_help_position=26, width=width),
        "allow_abbrev": False,
    }


def _fill(parser: argparse.ArgumentParser, command: Command, deep: bool) -> None:
    for word in command.words:
        _add(parser, word)
    if command.below:
        commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
        for each in command.below:
            layout = _layout(each, f"{parser.prog} {each.name}") if deep else {"add_help": False}
            below = commands.add_parser(each.name, help=each.brief, **layout)
            if deep:
                _fill(below, each, deep)


def _add(parser: argparse.ArgumentParser, word: Word, default: object = None) -> None:
    settings: dict[str, Any] = {"help": word.help, "default": default or word.default}
    if not word.value:
        settings["action"] = "store_true"
    else:
        settings["metavar"] = word.value
        settings["type"] = functools.partial(_chosen, word)
    if word.count:
        settings["nargs"] = word.count
    if word.repeated:
        settings["action"] = "append"
    if word.is_option:
        settings |= {"dest": word.key, "required": word.required}
    added = parser.add_argument(*word.names, **settings)
    added.word = word  # type: ignore[attr-defined]  # for completion.py


def _chosen(word: Word, given: str) -> str:
    """A value. UsageError where it is none of the word's choices."""
    if word.choices and given not in word.choices:
        kind = word.value.lower()
        name = word.names[-1] if word.is_option else kind
        raise UsageError(f"no such {kind}", no_such(name, given or "nothing", word.choices))
    return given
