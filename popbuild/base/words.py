"""The words of a command line as plain data: commands, and their arguments and options. argparse's
parsers, doit's options, the help pages and the completion of shells are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """An option, or an argument, whose one name has no dash.

    `value` stands for its value in the help, and says what it is: FILE, DIR and JOB are completed.
    A flag has none. `count` says how many values an argument takes: `?`, `*`, `+`, or "" for one.
    """

    names: tuple[str, ...]
    help: str
    value: str = ""
    count: str = ""
    dest: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    required: bool = False
    repeated: bool = False

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")

    @property
    def key(self) -> str:
        """Under which name its value is found, as argparse derives it."""
        long = next((name for name in self.names if name.startswith("--")), self.names[0])
        return self.dest or long.lstrip("-").replace("-", "_")


def flag(*names: str, help: str, dest: str = "") -> Word:
    return Word(names, help, dest=dest, default=False)


def option(*names: str, value: str, help: str, **more: Any) -> Word:
    return Word(names, help, value, **more)


def argument(name: str, value: str, count: str = "", *, help: str, **more: Any) -> Word:
    return Word((name,), help, value, count, **more)


JSON = flag("--json", help="print JSON")
ROOT = option("--root", value="DIR", help="the root")
DEBUG = flag("--debug", help="show tracebacks")


@dataclass(frozen=True)
class Command:
    """A command: its line in a list of commands, its words, its function, whose docstring is its
    help page unless `text` is, and the commands below it. It also takes --root and --debug, and
    `name=value` words for its `variables`."""

    name: str
    brief: str
    own_words: tuple[Word, ...] = ()
    run: Callable[[Any], int] | None = None
    text: str = ""
    variables: tuple[str, ...] = ()
    below: tuple[Command, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        return (*self.own_words, ROOT, DEBUG)

    @property
    def page(self) -> str:
        """What stands above its words in the help; behind an empty line, what stands below."""
        return self.text or (inspect.getdoc(self.run) if self.run else None) or self.brief
