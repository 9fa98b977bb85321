"""What each of doit's commands has from popbuild: whose command it is, its words, its errors.

doit imports this module in every project of the environment, so it imports nothing but doit. The
words of commands stand in `shared_words.py`; argparse reads them as it does for popbuild.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit import doit_cmd, loader
from doit.cmd_base import DodoTaskLoader, NamespaceTaskLoader
from doit.cmd_list import List as DoitList
from doit.cmdparse import CmdOption, CmdParse, CmdParseError, DefaultUpdate
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.base.words import Command, Word

# mypy: disable-error-code="misc"
# doit has no types, so each of its classes is Any to a subclass.

_OURS = re.compile(r"^\s*(from|import)\s+popbuild\.engine\b", re.MULTILINE)
_PASSED = (InvalidCommand, InvalidDodoFile, InvalidTask)
# Options of doit's that mean nothing here; its own code asks for their values.
_DATABASE = [{**each, "short": "", "long": ""} for each in DoitList.base_options]


def is_our_dodo(dodo: Path) -> bool:
    """Whether a dodo file hands doit popbuild's task creators."""
    try:
        return bool(_OURS.search(dodo.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        return False


class _RootLoader(NamespaceTaskLoader):
    """Loads the jobs that a command names from a root, without importing its dodo file."""

    cmd_options = DodoTaskLoader.cmd_options

    def __init__(self, root: Root, config: Any) -> None:
        super().__init__()
        self._root = root
        self.config = config
        self.namespace: dict[str, Any] = {}
        self._groups_only = False

    def setup(self, opt_values: Any) -> None:
        self._groups_only = not opt_values.get("subtasks", True)  # `doit list` without --all

    def load_doit_config(self) -> dict[str, Any]:
        from popbuild.build.schedule import DOIT_CONFIG

        return dict(DOIT_CONFIG)

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> Any:
        from popbuild.build import schedule, session
        from popbuild.jobs.selection import select

        selection = select(self._root, given_variables().get("job"), pos_args)
        if not selection and isinstance(cmd, DoitList):
            print(session.NO_JOBS, file=sys.stderr)
        # A name that is a task's own is looked up among all of them.
        groups_only = self._groups_only and not any(":" in name for name in pos_args)
        return list(schedule.tasks(self._root, selection, groups_only=groups_only))


class _Words(CmdParse):
    """A command's words as doit's options. The words themselves are read as popbuild reads them."""

    def __init__(self, command: Command, prog: str) -> None:
        super().__init__(
            [CmdOption(each) for each in (*_DATABASE, *map(_as_option, command.words))]
        )
        self._command, self._prog = command, prog

    def parse_only(self, in_args: list[str], params: Any = None) -> Any:
        from popbuild.base.arguments import parse_words

        given = vars(parse_words(self._command, self._prog, in_args, only_given=True))
        names = given.pop("names")
        params.update(given)
        return params, names


def _as_option(word: Word) -> dict[str, Any]:
    """A word as doit's configuration files have it."""
    kind = str if word.value else bool
    return {"name": word.key, "type": kind, "default": word.default, "help": word.help}


class DoitCommand:
    """Mixed into a command of doit's: decides whose command this is. It is ours if the dodo file
    that doit would take is, or if there is none and a root is found, from any working directory."""

    _is_ours: bool | None = None

    @property
    def declared(self: Any) -> Command:
        from popbuild.build.shared_words import DOIT_COMMANDS

        return DOIT_COMMANDS[self.name]

    def parse_execute(self: Any, in_args: list[str]) -> Any:
        ours = self._whose(in_args)
        if ours != self._is_ours:
            self._is_ours, self._cmdparser = ours, None
        if not ours:
            return super().parse_execute(in_args)
        return _reporting(lambda: self._ours(in_args), in_args)

    @property
    def cmdparser(self: Any) -> Any:
        if self._is_ours is None:
            self._is_ours = self._whose([])
        if self._cmdparser is None and self._is_ours:
            self._cmdparser = _Words(self.declared, f"doit {self.name}")
            self._cmdparser.overwrite_defaults(self.config_vals)
        return super().cmdparser

    def help(self: Any) -> Any:
        if not self._whose([]):
            return super().help()
        from popbuild.base.arguments import parser_of

        return parser_of(self.declared, f"doit {self.name}").format_help()

    def _ours(self: Any, in_args: list[str]) -> Any:
        from popbuild.base.arguments import Given
        from popbuild.base.errors import PopbuildError
        from popbuild.build.chosen_variant import seen_by_command

        params, names = self.cmdparser.parse(_with_settings(in_args))
        given = Given(**params)
        try:
            return self._run_in(self._root(params["root"]), given, names)
        except PopbuildError as error:
            seen_by_command(error, given)
            raise

    def _run_in(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        from popbuild.build.chosen_variant import variant_of

        return self._run_ours(variant_of(root, given), given, names)

    def _run_ours(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        raise NotImplementedError

    def _by_doit(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        """What doit's own command says of our tasks."""
        self.loader = _RootLoader(root, self.config)
        params = DefaultUpdate()
        params.add_defaults(vars(given))  # which DOIT_CONFIG replaces where they are doit's
        return self.execute(params, names)

    def _whose(self: Any, in_args: list[str]) -> bool:
        from popbuild.base.errors import PopbuildError

        named = _option(in_args, "-f", "--file") or self.opt_vals.get("dodoFile")
        named = named or os.environ.get("DOIT_FILE")
        folder = Path(_option(in_args, "-d", "--dir") or self.opt_vals.get("cwdPath") or ".")
        if named and named != "dodo.py":
            return is_our_dodo(Path(named))
        here = folder / "dodo.py"
        if here.exists():
            return is_our_dodo(here)
        for parent in Path.cwd().parents:
            if (parent / "dodo.py").exists():
                return is_our_dodo(parent / "dodo.py")
        try:
            self._root_here(_option(in_args, "--root"))
        except PopbuildError:
            return False
        return True

    def _root(self: Any, given: str | None) -> Root:
        from popbuild.base.errors import UsageError, no_such
        from popbuild.build import session

        known = self.declared.variables
        for name in given_variables():
            if name not in known:
                raise UsageError("no such variable", no_such("variable", name, known))
        # doit keeps the last of them only.
        session.check_given_once(sys.argv[1:], known)
        root: Root = self._root_here(given)
        return root

    def _root_here(self: Any, given: str | None) -> Root:
        from popbuild.base.roots import find_root

        loader.initial_workdir = str(Path.cwd())
        named = _option(sys.argv[1:], "-f", "--file") or self.opt_vals.get("dodoFile")
        start = Path(named).resolve().parent if named else Path.cwd()
        return find_root(
            start, given or given_variables().get("root"), "--root" if given else "root="
        )


def _with_settings(in_args: list[str]) -> list[str]:
    """The words with what each `--set` says, which doit has taken for a variable of the command."""
    said = [b for a, b in itertools.pairwise(sys.argv[1:]) if a == "--set" and "=" in b]
    for each in said:
        given_variables().pop(each.partition("=")[0], None)
    rest = iter(said)
    return [f"--set={next(rest, '')}" if word == "--set" else word for word in in_args]


def given_variables() -> dict[str, str]:
    """The `name=value` words, which doit takes out of a command's arguments."""
    return doit_cmd._CMDLINE_VARS or {}


def _option(arguments: list[str], *names: str) -> str | None:
    """The value of an option, before doit has parsed anything."""
    for number, argument in enumerate(arguments):
        for name in names:
            if argument == name:
                return arguments[number + 1] if number + 1 < len(arguments) else None
            behind = argument[len(name) :] if argument.startswith(name) else ""
            if behind and not name.startswith("--"):
                return behind
            if behind.startswith("="):
                return behind[1:]
    return None


def _reporting(command: Callable[[], Any], arguments: list[str]) -> int:
    """Run a command of ours; errors are printed as popbuild prints them, with their exit codes."""
    from popbuild.base.errors import UsageError
    from popbuild.base.printing import guarded

    debug = "--debug" in arguments or bool(os.environ.get("POPBUILD_DEBUG"))

    def run() -> int:
        try:
            return command() or 0
        except CmdParseError as error:  # of a configuration file of doit's
            raise UsageError(str(error), hint="doit help") from None

    return guarded(run, debug=debug, as_json="--json" in arguments, passed=_PASSED)
