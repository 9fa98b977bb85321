"""The command line: arguments in, a command called, an exit code out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from popbuild import __version__
from popbuild.base.errors import OK, UsageError, no_such
from popbuild.base.exit_codes import guarded
from popbuild.cli.archiving import ARCHIVING
from popbuild.cli.building import BUILDING
from popbuild.cli.deciding import DECIDING
from popbuild.cli.looking import LOOKING
from popbuild.cli.options import Given, Parser, RawText, Table, add_commands, formatter
from popbuild.cli.reporting import REPORTING
from popbuild.cli.serving import SERVING
from popbuild.cli.sharing import SHARING
from popbuild.cli.showing import SHOWING
from popbuild.cli.tidying import TIDYING

_DESCRIPTION = """\
Make for prompts: a seed, a chain of prompts and a gate become a document, and a
rerun builds only what changed. `doit run job=<id>` and `popbuild run <id>` are
the same."""

_EPILOG = """\
exit codes:
  0  done, or nothing to do       3  usage or configuration: nothing built
  1  a gate said no, a bad seed   4  stopped: a person must decide
  2  a crash or a provider error  5  another command builds the job (--no-wait)
  6  a budget is used up          130  interrupted

environment:
  POPBUILD_ROOT         the root, where the working directory does not say it
  POPBUILD_MODEL        the model of every task; part of what they depend on
  POPBUILD_LOCAL_MODEL  a GGUF file for local/... models
  POPBUILD_STORE        use, refresh, only or off, as --store says it
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
  POPBUILD_TOKEN        a token for popbuild serve beside that of each start
  POPBUILD_DEBUG        tracebacks, as --debug
  OPENAI_API_KEY, ...   keys, from here or from .env at the root

docs: README.md and docs/ of the project"""

_ORDER = (
    "init submit run watch stop serve approve reject list status plan explain "
    "check show prompt export graph report summary retry accept diff trace verify freeze "
    "thaw validate cache prune doctor archive restore backup import"
).split()
_ALL = BUILDING | DECIDING | LOOKING | SHOWING | SHARING | TIDYING | ARCHIVING | REPORTING | SERVING
COMMANDS: Table = {name: _ALL[name] for name in sorted(_ALL, key=_ORDER.index)}


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; gives its exit code. Errors are told on stderr, without a traceback."""
    arguments = list(argv)
    debug = "--debug" in arguments or bool(os.environ.get("POPBUILD_DEBUG"))
    arguments = [each for each in arguments if each != "--debug"]
    return guarded(lambda: _dispatch(arguments, debug), debug=debug, as_json="--json" in arguments)


def _dispatch(arguments: list[str], debug: bool) -> int:
    parser = build_parser(arguments)
    first = next((each for each in arguments if not each.startswith("-")), None)
    if first is not None and first not in COMMANDS and "--root" not in arguments[:1]:
        raise UsageError(
            "no such command", no_such("command", first, COMMANDS), hint="popbuild --help"
        )
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return OK
    given.debug = debug
    run: Callable[[Given], int] = given.run
    return run(given)


def build_parser(words: Collection[str] = tuple(COMMANDS)) -> Parser:
    """The command line, with the options of those commands that are among the words."""
    parser = Parser(
        prog="popbuild",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=formatter(RawText),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"popbuild {__version__}")
    parser.add_argument("--root", metavar="DIR", help="the root to work in")
    add_commands(parser, "command", COMMANDS, words)
    return parser
