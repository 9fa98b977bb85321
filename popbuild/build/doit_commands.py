"""doit's commands, as they mean something for popbuild; in every other project, doit's own.

doit imports this module in every project of the environment, so it imports nothing but doit.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from doit import doit_cmd, loader
from doit.cmd_base import DodoTaskLoader, NamespaceTaskLoader
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_dumpdb import DumpDB as DoitDumpDB
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_run import Run as DoitRun
from doit.cmd_strace import Strace as DoitStrace
from doit.cmdparse import CmdOption, CmdParseError
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

if TYPE_CHECKING:
    from popbuild.base.paths import Root

# mypy: disable-error-code="misc"
# doit has no types, so each of its classes is Any to a subclass.

_OURS = re.compile(r"^\s*(from|import)\s+popbuild\.engine\b", re.MULTILINE)
DOIT_VARIABLES = ("job", "root")


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
        from popbuild.build.doit_creators import DOIT_CONFIG

        return dict(DOIT_CONFIG)

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> Any:
        from popbuild.build import doit_creators, session
        from popbuild.jobs.selection import select

        variables = doit_cmd._CMDLINE_VARS or {}
        names = [name for name in pos_args if not name.startswith("-")]
        selection = select(self._root, variables.get("job"), names)
        if not selection and isinstance(cmd, List):
            print(session.NO_JOBS, file=sys.stderr)
        # A name that is a task's own is looked up among all of them.
        groups_only = self._groups_only and not any(":" in name for name in names)
        return list(doit_creators.tasks(self._root, selection, groups_only=groups_only))


class _Command:
    """Mixed into a command of doit's: decides whose command this is.

    Ours, when the dodo file that doit would take is ours, or when there is none here but a root
    can be found; so that every command works from any working directory.
    """

    own_options: ClassVar[tuple[dict[str, Any], ...]] = ()
    variables: ClassVar[tuple[str, ...]] = DOIT_VARIABLES
    _is_ours: bool | None = None

    def parse_execute(self: Any, in_args: list[str]) -> Any:
        ours = self._whose(in_args)
        if ours != self._is_ours:
            self._is_ours, self._cmdparser = ours, None
        if not ours:
            return super().parse_execute(in_args)
        return _reporting(lambda debug: self._ours(in_args), in_args)

    def get_options(self: Any) -> Any:
        if self._is_ours is None:
            self._is_ours = self._whose([])
        if self._is_ours and self.own_options:
            return [CmdOption(each) for each in (*DodoTaskLoader.cmd_options, *self.own_options)]
        return super().get_options()

    def _ours(self: Any, in_args: list[str]) -> Any:
        self.loader = _RootLoader(self._root(), self.config)
        return super().parse_execute(in_args)

    def _whose(self: Any, in_args: list[str]) -> bool:
        named = _option(in_args, "f", "file") or self.opt_vals.get("dodoFile")
        named = named or os.environ.get("DOIT_FILE")
        folder = Path(_option(in_args, "d", "dir") or self.opt_vals.get("cwdPath") or ".")
        if named and named != "dodo.py":
            return is_our_dodo(Path(named))
        here = folder / "dodo.py"
        if here.exists():
            return is_our_dodo(here)
        for parent in Path.cwd().parents:
            if (parent / "dodo.py").exists():
                return is_our_dodo(parent / "dodo.py")
        return self._find_root() is not None

    def _find_root(self: Any) -> Root | None:
        from popbuild.base.errors import PopbuildError

        try:
            root: Root = self._root_here()
        except PopbuildError:
            return None
        return root

    def _root(self: Any) -> Root:
        from popbuild.base.errors import UsageError, no_such
        from popbuild.build import session

        for name in doit_cmd._CMDLINE_VARS or {}:
            if name not in self.variables:
                raise UsageError("no such variable", no_such("variable", name, self.variables))
        # doit keeps the last of them only.
        session.check_given_once(sys.argv[1:], self.variables)
        root: Root = self._root_here()
        return root

    def _root_here(self: Any) -> Root:
        from popbuild.base.roots import find_root

        loader.initial_workdir = str(Path.cwd())
        named = _option(sys.argv[1:], "f", "file") or self.opt_vals.get("dodoFile")
        start = Path(named).resolve().parent if named else Path.cwd()
        return find_root(start, (doit_cmd._CMDLINE_VARS or {}).get("root"), "root=")


def _option(arguments: list[str], short: str, long: str) -> str | None:
    """The value of one of doit's loader options, before doit has parsed anything."""
    for number, argument in enumerate(arguments):
        if argument in (f"-{short}", f"--{long}"):
            return arguments[number + 1] if number + 1 < len(arguments) else None
        if argument.startswith(f"--{long}="):
            return argument.partition("=")[2]
        if argument.startswith(f"-{short}") and len(argument) > 2 and argument[1] != "-":
            return argument[2:]
    return None


def _reporting(command: Any, arguments: list[str]) -> int:
    """Run a command of ours; an error is told as popbuild tells it, and gives its exit code."""
    from popbuild.base.errors import UsageError
    from popbuild.base.exit_codes import guarded

    debug = "--debug" in arguments or bool(os.environ.get("POPBUILD_DEBUG"))

    def run() -> int:
        try:
            return command(debug) or 0
        except CmdParseError as error:
            raise UsageError(str(error), hint="doit help") from None

    return guarded(run, debug=debug, passed=(InvalidCommand, InvalidDodoFile, InvalidTask))


def _flag(name: str, text: str, short: str = "", long: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "short": short,
        "long": name.replace("_", "-") if long is None else long,
        "type": bool,
        "default": False,
        "help": text,
    }


def _amount(name: str, text: str) -> dict[str, Any]:
    long = name.replace("_", "-")
    return {"name": name, "short": "", "long": long, "type": str, "default": None, "help": text}


class Run(_Command, DoitRun):
    """Builds jobs."""

    doc_purpose = "run tasks"
    variables = (*DOIT_VARIABLES, "fresh")
    own_options = (
        {
            "name": "in_flight",
            "short": "n",
            "long": "process",
            "type": str,
            "default": None,
            "help": "how many calls may be in flight [default: 8]",
        },
        _flag("continue_", "go on with other jobs after one failed", "c", "continue"),
        _flag("always", "build what is up to date too", "a", "always-execute"),
        {
            "name": "par_type",
            "short": "P",
            "long": "parallel-type",
            "type": str,
            "default": "",
            "help": "refused: tasks run at the same time by themselves, -n limits the calls",
        },
        _flag("keep_edits", "keep artifacts that were edited by hand and whose task is stale"),
        _flag("discard_edits", "build artifacts anew that were edited by hand"),
        _flag("no_wait", "fail if another command builds a job"),
        {
            "name": "store",
            "short": "",
            "long": "store",
            "type": str,
            "default": None,
            "help": "use, refresh, only or off [default: POPBUILD_STORE, or use]",
        },
        _amount("budget", "stop before a call that may go over this many US dollars"),
        _amount("ask_above", "show the plan and ask if it may cost more US dollars than this"),
        _flag("unknown_cost", "under a budget, also send calls without a known price"),
        _flag("json", "print the results as JSON"),
        _flag("debug", "show tracebacks"),
    )

    def _ours(self: Any, in_args: list[str]) -> int:
        from popbuild.base.threads import leave_if_hanging
        from popbuild.build import progress, session
        from popbuild.build.nothing_to_do import Options

        params, names = self.cmdparser.parse(in_args)
        session.check_parallel_type(params["par_type"])
        variables = doit_cmd._CMDLINE_VARS or {}
        options = Options(
            in_flight=session.calls_in_flight(params["in_flight"]),
            continue_=params["continue_"],
            always=params["always"],
            keep_edits=params["keep_edits"],
            discard_edits=params["discard_edits"],
            wait=not params["no_wait"],
            store=params["store"],
            fresh=session.fresh_tasks(variables.get("fresh")),
            budget=session.dollars("--budget", params["budget"]),
            ask_above=session.dollars("--ask-above", params["ask_above"]),
            unknown_allowed=params["unknown_cost"],
        )
        root = self._root()
        events = progress.choose_printer(params["json"])
        code, results = session.run(root, variables.get("job"), names, options, events)
        progress.print_results(results, as_json=params["json"], debug=params["debug"])
        if not results:
            print(session.NO_JOBS, file=sys.stderr)
        leave_if_hanging(code)
        return code


class List(_Command, DoitList):
    """Lists jobs with their state; with -s, what a run would do."""


class Info(_Command, DoitInfo):
    """Says why a task is stale."""

    def _execute(self: Any, pos_args: list[str], hide_status: bool = False) -> Any:
        known = {task.name for task in self.task_list}
        if self._is_ours and pos_args and pos_args[0] not in known:
            from popbuild.base.errors import UsageError, no_such

            raise UsageError("no such task", no_such("task", pos_args[0], known))
        return super()._execute(pos_args, hide_status)


class Forget(_Command, DoitForget):
    """Sets letters aside, so that tasks are built again; answers stay in the store."""

    own_options = (_flag("debug", "show tracebacks"),)

    def _ours(self: Any, in_args: list[str]) -> int:
        from popbuild.base.errors import UsageError
        from popbuild.build import forget_clean

        _, names = self.cmdparser.parse(in_args)
        job = (doit_cmd._CMDLINE_VARS or {}).get("job")
        if not names and job is None:
            raise UsageError(
                "forget needs names",
                {"found": "no job"},
                hint="doit forget <job> or <job>:<task>; the answers stay in the store",
            )
        for line in forget_clean.forget(self._root(), job, names):
            print(line)
        return 0


class Clean(_Command, DoitClean):
    """Removes unfinished jobs."""

    own_options = (
        _flag("dry_run", "say what would be removed", "n"),
        _flag("complete", "remove complete jobs too"),
        _flag("debug", "show tracebacks"),
    )

    def _ours(self: Any, in_args: list[str]) -> int:
        from popbuild.build import forget_clean

        params, names = self.cmdparser.parse(in_args)
        job = (doit_cmd._CMDLINE_VARS or {}).get("job")
        lines = forget_clean.clean(
            self._root(), job, names, complete=params["complete"], dry_run=params["dry_run"]
        )
        for line in lines:
            print(line)
        return 0


class _Refused(_Command):
    """A command of doit's that would do harm, or nothing without saying so."""

    hint = ""

    def _ours(self: Any, in_args: list[str]) -> int:
        from popbuild.base.errors import UsageError

        raise UsageError(f"doit {self.name} means nothing here", {}, hint=self.hint)


class Ignore(_Refused, DoitIgnore):
    """Refused."""

    hint = "to build only some tasks, name them: doit run <job>:<task>"


class ResetDep(_Refused, DoitResetDep):
    """Refused."""

    name = "reset-dep"
    hint = "popbuild accept <job> [<task>] takes what stands there as up to date"


class DumpDB(_Refused, DoitDumpDB):
    """Refused."""

    hint = "there is no database: each task's letter.json says what it was built from"


class Strace(_Refused, DoitStrace):
    """Refused."""

    hint = "it would pay for a call; each task's letter.json says what it was built from"
