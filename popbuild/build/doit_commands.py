"""doit's commands, as they mean something for popbuild; in every other project, doit's own.

doit imports this module in every project of the environment, so it imports nothing but doit.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_dumpdb import DumpDB as DoitDumpDB
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_run import Run as DoitRun
from doit.cmd_strace import Strace as DoitStrace

from popbuild.build.doit_base import DoitCommand, given_variables

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.base.words import Command

# mypy: disable-error-code="misc"
# doit has no types, so each of its classes is Any to a subclass.


class Run(DoitCommand, DoitRun):
    """Builds jobs."""

    doc_purpose = "run tasks"

    def __init__(self, cmds: Any = None, **more: Any) -> None:
        super().__init__(cmds=cmds, **more)
        self._commands = sorted(cmds or ())

    def _run_in(self: Any, root: Root, given: Any, names: list[str]) -> int:
        from popbuild.base.errors import UsageError, nearest, no_such
        from popbuild.build.chosen_variant import variants_of
        from popbuild.build.run_command import build_as_told
        from popbuild.jobs.job_ids import is_known

        # `doit lsit` is to doit a run of a job with this name.
        first = "" if self.name in sys.argv else "".join(names[:1])
        if nearest(first, self._commands) and not is_known(root, first.partition(":")[0]):
            raise UsageError("no such command or job", no_such("name", first, self._commands))
        return build_as_told(variants_of(root, given), given, names, given_variables())


class List(DoitCommand, DoitList):
    """Lists jobs with their state; with -s, what a run would do."""

    def _run_in(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        from popbuild.base.printing import print_json
        from popbuild.build.chosen_variant import variants_of

        roots = variants_of(root, given)
        if given.json and given.quiet:
            print_json(sorted({job for each in roots for job in _ids(each, names)}))
            return 0
        if given.json:
            found = [
                {**({"variant": each.variant.label} if len(roots) > 1 else {}), **body}
                for each in roots
                for body in _bodies(each, names)
            ]
            print_json(found)
            return 0
        code = 0
        for each in roots:
            if len(roots) > 1:
                print(f"{each.variant.label}:", flush=True)
            code = max(code, self._run_ours(each, given, names) or 0)
        return code

    def _run_ours(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        from popbuild.base.errors import UsageError

        known = {"name": "", "doc": "", **({"status": ""} if given.status else {})}
        try:
            (given.template or "").format(**known)
        except (LookupError, ValueError, AttributeError) as error:
            values = {"found": given.template, "known": ", ".join(f"{{{each}}}" for each in known)}
            raise UsageError("not a template of a line", values, "doit list --help") from error
        return self._by_doit(root, given, _task_names(root, names) if names else [])


class Info(DoitCommand, DoitInfo):
    """Says why jobs and tasks are stale."""

    def _run_ours(self: Any, root: Root, given: Any, names: list[str]) -> Any:
        from popbuild.base.errors import UsageError

        if not names and "job" not in given_variables():
            hint = "doit list --all lists them"
            raise UsageError("info needs a job or a task", {"command": "doit info"}, hint)
        if given.json:
            from popbuild.base.printing import print_json

            bodies = _bodies(root, names, unowned=True)
            print_json(bodies)
            return int(not all(body["upToDate"] for body in bodies))
        return self._by_doit(root, given, _task_names(root, names))

    def _execute(self: Any, pos_args: list[str], hide_status: bool = False) -> Any:
        if not self._is_ours:
            return super()._execute(pos_args, hide_status)
        from popbuild.base.errors import UsageError, no_such

        known = {task.name for task in self.task_list}
        for name in pos_args:
            if name not in known:
                raise UsageError("no such task", no_such("task", name, known))
        return max(
            [super(Info, self)._execute([name], hide_status) for name in pos_args], default=0
        )


def _task_names(root: Root, names: list[str]) -> list[str]:
    """The names of doit's tasks that names, globs and job= mean."""
    from popbuild.jobs.selection import select

    selection = select(root, given_variables().get("job"), names).items()
    return [
        each
        for job, tasks in selection
        for each in ([job] if tasks is None else [f"{job}:{task}" for task in tasks])
    ]


def _ids(root: Root, names: list[str]) -> list[str]:
    """The jobs that names and job= mean."""
    from popbuild.jobs.selection import select

    return list(select(root, given_variables().get("job"), names))


def _bodies(root: Root, names: list[str], *, unowned: bool = False) -> list[dict[str, Any]]:
    """The jobs that names and job= mean, as popbuild prints them."""
    from popbuild.query import describe

    found = describe.jobs_of(root, _ids(root, names))
    return [describe.describe_job(job, root, unowned=unowned) for job in found]


class Forget(DoitCommand, DoitForget):
    """Sets letters aside, so that tasks are built again; answers stay in the store."""

    def _run_ours(self: Any, root: Root, given: Any, names: list[str]) -> int:
        from popbuild.base.errors import UsageError
        from popbuild.build import forget_clean

        job = given_variables().get("job")
        if not names and job is None:
            raise UsageError(
                "forget needs names",
                {"found": "no job"},
                hint="doit forget <job> or <job>:<task>; the answers stay in the store",
            )
        for line in forget_clean.forget(root, job, names):
            print(line)
        return 0


class Clean(DoitCommand, DoitClean):
    """Removes unfinished jobs."""

    def _run_ours(self: Any, root: Root, given: Any, names: list[str]) -> int:
        from popbuild.build import forget_clean

        job, dry_run = given_variables().get("job"), given.dry_run
        for line in forget_clean.clean(root, job, names, complete=given.complete, dry_run=dry_run):
            print(line)
        return 0


class _Refused(DoitCommand):
    """A command of doit's that would do harm, or nothing without saying so."""

    hint = ""

    @property
    def declared(self: Any) -> Command:
        from popbuild.base.words import Command

        return Command(self.name, f"refused: {self.hint}")

    def _ours(self: Any, in_args: list[str]) -> int:
        from popbuild.base.errors import UsageError

        raise UsageError(f"doit {self.name} means nothing here", {}, hint=self.hint)


class Ignore(_Refused, DoitIgnore):
    hint = "to build only some tasks, name them: doit run <job>:<task>"


class ResetDep(_Refused, DoitResetDep):
    name = "reset-dep"
    hint = "popbuild accept <job> [<task>] takes what stands there as up to date"


class DumpDB(_Refused, DoitDumpDB):
    hint = "there is no database: each task's letter.json says what it was built from"


class Strace(_Refused, DoitStrace):
    hint = "it would pay for a call; each task's letter.json says what it was built from"
