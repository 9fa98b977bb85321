"""The command line: arguments in, a command called, an exit code out."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from popbuild import __version__
from popbuild.base.arguments import parse_words, parser_of
from popbuild.base.errors import OK, PopbuildError, UsageError, unknown
from popbuild.base.printing import guarded
from popbuild.base.words import Command, flag

_TEXT = """\
Make for prompts: a seed, a chain of prompts and a gate become a document, and a
rerun builds only what changed. `doit run job=<id>` and `popbuild run <id>` are
the same.

exit codes:
  0  done, or nothing to do       3  usage or configuration: nothing built
  1  a gate said no, a bad seed   4  stopped: a person must decide
  2  a crash or a provider error  5  another command builds the job (--no-wait)
  6  a budget is used up          130  interrupted

environment:
  POPBUILD_ROOT         the root, if not found from the working directory
  POPBUILD_VARIANT      the variant, as for --variant
  POPBUILD_MODEL        the model of every task; part of what they depend on
  POPBUILD_LOCAL_MODEL  a GGUF file for local/... models
  POPBUILD_STORE        use, refresh, only or off, as for --store
  POPBUILD_TRIES, POPBUILD_BACKOFF_S, POPBUILD_TIMEOUT_S
                        how often a call is tried, and how patiently (5, 1, 600)
  POPBUILD_PATIENCE_S   how long a call waits for a provider that is down, or
                        that refuses it with 429 (600)
  POPBUILD_MAX_ANSWER_MB
                        how much of an answer is read (32)
  POPBUILD_MINUTE_S     what a minute of a limit is, for tests (60)
  POPBUILD_KEEP_PREVIOUS
                        how many replaced results of a job are kept (1)
  POPBUILD_FILE_MODE    permissions of files, octal (600); folders follow
  POPBUILD_TOKEN        a further token for popbuild serve, always the same
  POPBUILD_DEBUG        tracebacks, as --debug
  OPENAI_API_KEY, ...   keys, from here or from .env at the root

docs: README.md and docs/ of the project"""

COMMAND_NAMES = (
    "init submit run watch stop serve approve reject list status plan explain check compare test "
    "history show prompt export graph report summary retry accept diff trace verify "
    "freeze thaw validate variant cache prune doctor archive restore backup import completion"
).split()
_BEFORE = ("--root", "--variant", "--set")  # options with a value that may stand before a command
_VERSION = flag("--version", help="show the version")


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command. Gives its exit code; errors are printed on stderr, without a traceback."""
    words = list(argv)
    debug = "--debug" in words or bool(os.environ.get("POPBUILD_DEBUG"))
    words = [each for each in words if each != "--debug"]
    return guarded(lambda: _dispatch(words, debug), debug=debug, as_json="--json" in words)


def _dispatch(words: list[str], debug: bool) -> int:
    name, words = _command_among(words, COMMAND_NAMES, "popbuild")
    if name is None:
        whole = Command("popbuild", "", (_VERSION,)) if "--version" in words else whole_command()
        if parse_words(whole, "popbuild", words).version:
            print(f"popbuild {__version__}")
        else:
            parser_of(whole, "popbuild").print_help()
        return OK
    command, prog = load_command(name), f"popbuild {name}"
    if command.below:
        below = {each.name: each for each in command.below}
        name, words = _command_among(words, below, prog)
        if name is None:
            parse_words(command, prog, words)
            values = {"known": ", ".join(below)}
            raise UsageError(f"{prog} needs a command", values, f"{prog} --help")
        command, prog = below[name], f"{prog} {name}"
    given = parse_words(command, prog, words)
    given.debug = debug
    assert command.run is not None
    try:
        return command.run(given)
    except PopbuildError as error:
        from popbuild.build.chosen_variant import seen_by_command

        seen_by_command(error, given)
        raise


def _command_among(
    words: Sequence[str], known: Iterable[str], prog: str
) -> tuple[str | None, list[str]]:
    """The first word that is not an option, which names a command, and the rest: options may stand
    before the command, as --root may."""
    for number, word in enumerate(words):
        if word.startswith("-") or words[max(number - 1, 0)] in _BEFORE:
            continue
        if word not in known:
            below = [name for name in known if prog == "popbuild" and _has_below(name, word)]
            hint = f"{prog} {below[0]} {word}" if below else f"{prog} --help"
            raise unknown("command", word, known, hint=hint)
        return word, [*words[:number], *words[number + 1 :]]
    return None, list(words)


def _has_below(name: str, word: str) -> bool:
    """Whether a command has another one below it, which a person may look for by itself."""
    return any(each.name == word for each in load_command(name).below)


def load_command(name: str) -> Command:
    """A command, from its file; the other files are not read."""
    command: Command = getattr(importlib.import_module(f"popbuild.cli.cmd_{name}"), f"_{name}")
    return command


def whole_command() -> Command:
    """`popbuild` with everything below it."""
    return Command(
        "popbuild", "", (_VERSION,), text=_TEXT, below=tuple(map(load_command, COMMAND_NAMES))
    )
