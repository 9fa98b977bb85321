"""The words of a command line as plain data: commands, and their arguments and options. argparse's
parsers, doit's options, the help pages and shell completion are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Word:
    """An option, or an argument, whose one name has no dash.

    `value` names its value in the help, and says how it is completed: FILE, DIR or JOB. A flag has
    none. `count` says how many values an argument takes: `?`, `*`, `+`, or "" for one.
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
        """The name of its value, as argparse derives it."""
        long = next((name for name in self.names if name.startswith("--")), self.names[0])
        return self.dest or long.lstrip("-").replace("-", "_")


def flag(*names: str, help: str, dest: str = "") -> Word:
    return Word(names, help, dest=dest, default=False)


def option(*names: str, value: str, help: str, **more: Any) -> Word:
    return Word(names, help, value, **more)


def argument(name: str, value: str, count: str = "", *, help: str, **more: Any) -> Word:
    return Word((name,), help, value, count, **more)


JSON = flag("--json", help="print JSON")
ROOT = option("--root", value="DIR", help="the root, if not found from here")
VARIANT = option("--variant", value="NAME", help="other settings for the same seeds")
SET = option(
    "--set",
    value="X=VALUE",
    help="a setting, as research.temperature=0; can be repeated",
    repeated=True,
    dest="changes",
)
SEVERAL_VARIANTS = replace(
    VARIANT, value="NAMES", help="other settings for the same seeds, as base,cheap"
)
SAMPLES = option("--samples", value="N", help="draw each job so many times, as base, base@1, …")
DEBUG = flag("--debug", help="show tracebacks")


@dataclass(frozen=True)
class Command:
    """A command: its line in a list of commands, its words, its function, and the commands below
    it. Its help page is `text`, or else the function's docstring. It also takes --root and --debug,
    and `name=value` words for its `variables`. If it is `of_variants`, it takes --variant and --set
    too; if it is `of_several`, --variant may name several, and --samples more draws of each."""

    name: str
    brief: str
    own_words: tuple[Word, ...] = ()
    run: Callable[[Any], int] | None = None
    text: str = ""
    variables: tuple[str, ...] = ()
    below: tuple[Command, ...] = ()
    of_variants: bool = True
    of_several: bool = False

    @property
    def words(self) -> tuple[Word, ...]:
        variants: tuple[Word, ...] = ()
        if self.of_variants and not self.below:
            variants = (SEVERAL_VARIANTS, SAMPLES, SET) if self.of_several else (VARIANT, SET)
        return (*self.own_words, ROOT, *variants, DEBUG)

    @property
    def page(self) -> str:
        """The help above its words; text after an empty line goes below them."""
        return self.text or (inspect.getdoc(self.run) if self.run else None) or self.brief

    def done_by(self, run: Callable[[Any], int]) -> Command:
        """The command with its function."""
        return replace(self, run=run)


def command(
    brief: str, *words: Word, of_variants: bool = True, of_several: bool = False
) -> Callable[[Callable[[Any], int]], Command]:
    """Declare a command by its function: `_<name>`, whose docstring is the help page. It takes
    --json, at its end unless a word of its own says more."""
    has_own = any(word.key == JSON.key for word in words)
    own_words = words if has_own else (*words, JSON)
    return lambda run: Command(
        run.__name__.lstrip("_"),
        brief,
        own_words,
        run,
        of_variants=of_variants,
        of_several=of_several,
    )
