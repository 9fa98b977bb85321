"""The command line: arguments in, commands.py called, text or JSON out."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from popbuild import __version__
from popbuild.errors import OK, REJECTED, UsageError, unknown
from popbuild.guard import guarded
from popbuild.layout import Root, find_root, shown_name

if TYPE_CHECKING:
    from popbuild.disk import Locks
    from popbuild.engine.events import JobResult
    from popbuild.jobs import Job

_DESCRIPTION = """\
Make for prompts: a seed, a chain of prompts and a gate become a document, and a
rerun builds only what changed. `doit run job=<id>` and `popbuild run <id>` are
the same."""

_EPILOG = """\
exit codes:
  0  done, or nothing to do       3  usage, configuration, seed: nothing built
  1  a gate said no               4  stopped: a person must decide
  2  a crash or a provider error  5  another command builds the job (--no-wait)
  6  a budget is used up          130  interrupted

environment:
  POPBUILD_ROOT         the root, where the working directory does not say it
  POPBUILD_MODEL        the model of every task; part of what they depend on
  POPBUILD_LOCAL_MODEL  a GGUF file for local/... models
  POPBUILD_STORE        use, refresh, only or off, as --store says it
  POPBUILD_TRIES, POPBUILD_BACKOFF_S, POPBUILD_TIMEOUT_S
                        how patient calls are (5, 1 and 600)
  POPBUILD_KEEP_PREVIOUS
                        how many replaced results of a job are kept (1)
  POPBUILD_FILE_MODE    permissions of files, octal (600); folders follow
  POPBUILD_DEBUG        tracebacks, as --debug
  OPENAI_API_KEY, ...   keys, from here or from .env at the root

docs: README.md and docs/ of the project"""


class _Parser(argparse.ArgumentParser):
    """argparse, with our exit code and the nearest known name."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, {}, hint=f"{self.prog} --help")


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
    parser = build_parser()
    first = next((each for each in arguments if not each.startswith("-")), None)
    if first is not None and first not in COMMANDS and "--root" not in arguments[:1]:
        raise UsageError(
            "no such command", unknown("command", first, COMMANDS), hint="popbuild --help"
        )
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return OK
    given.debug = debug
    run: Callable[[argparse.Namespace], int] = given.run
    return run(given)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="popbuild",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_formatter(argparse.RawDescriptionHelpFormatter),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"popbuild {__version__}")
    parser.add_argument("--root", metavar="DIR", help="the root to work in")
    _add_commands(parser, "command", COMMANDS)
    return parser


def _formatter(
    kind: type[argparse.HelpFormatter],
) -> functools.partial[argparse.HelpFormatter]:
    width = min(80, int(os.environ.get("COLUMNS", "80") or 80))
    return functools.partial(kind, max_help_position=26, width=width)


def _add_commands(parser: argparse.ArgumentParser, chosen: str, table: _Table) -> None:
    """The commands of a table, below a parser; the attribute `chosen` tells which was given."""
    commands = parser.add_subparsers(dest=chosen, metavar="COMMAND", title="commands")
    for name, (run, text, add) in table.items():
        command = commands.add_parser(
            name,
            help=text,
            description=run.__doc__ or text,
            formatter_class=_formatter(argparse.HelpFormatter),
            allow_abbrev=False,
        )
        for option in add:
            option(command)
        command.add_argument("--root", metavar="DIR", default=argparse.SUPPRESS, help="the root")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(run=run)


def _argument(*names: str, **settings: Any) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*names, **settings)

    return add


def _flag(*names: str, **settings: str) -> Callable[[argparse.ArgumentParser], None]:
    return _argument(*names, action="store_true", **settings)


_JSON = _flag("--json", help="print JSON")
_STORE = _argument(
    "--store", metavar="MODE", help="use (the default), refresh, only or off: see docs/store.md"
)
_JOBS = _argument("names", nargs="*", metavar="JOB", help="a job's ID or a glob; all if absent")
_JOB = _argument("job", metavar="JOB", help="the job's ID")
_TASK = _argument("task", metavar="TASK", help="the task")


_SPENDING = (
    _argument("--budget", metavar="USD", help="stop before a call that may go over this"),
    _argument("--ask-above", metavar="USD", help="show the plan and ask if it may cost more"),
    _flag("--unknown-cost", help="under a budget, also send calls without a known price"),
)


def _root(given: argparse.Namespace) -> Root:
    return find_root(Path.cwd(), getattr(given, "root", None))


def _print_json(value: Any) -> None:
    from popbuild.redact import redact

    print(redact(json.dumps(value, indent=2, ensure_ascii=False), os.environ))


def _print_json_line(value: Any) -> None:
    from popbuild.redact import redact

    print(redact(json.dumps(value, ensure_ascii=False), os.environ), flush=True)


def _print_lines(lines: Iterable[str]) -> None:
    from popbuild.redact import redact

    for line in lines:
        print(redact(line, os.environ))


# The commands. Each docstring is the command's help page.


def _init(given: argparse.Namespace) -> int:
    """Make a root: seeds/, pipeline-config/ with the demo's pipeline, pipeline-data/,
    a dodo.py for doit, and a .gitignore. Runs at once on the embedded model."""
    from popbuild import commands

    folder = Path(getattr(given, "root", None) or ".") / given.folder
    written = commands.init(folder)
    if given.json:
        _print_json({"root": str(folder), "written": written})
        return OK
    here = given.folder == "."
    for name in written:
        print(f"wrote {name if here else f'{folder}/{name}'}")
    print(f"next: {'' if here else f'cd {folder} && '}doit run job=market-analysis")
    return OK


def _submit(given: argparse.Namespace) -> int:
    """Queue a one-off job: the seed is copied to pending/ under a new ID, or under --id.
    A seed under seeds/ needs no submit: its file name is its job's ID."""
    from popbuild import commands

    job = commands.submit(_root(given), Path(given.file), given.id)
    if given.json:
        _print_json({"id": job})
    else:
        print(job)
    return OK


def _run(given: argparse.Namespace) -> int:
    """Build jobs: only what is stale, from the store where an answer is there already.
    NAME is a job's ID, a glob, <job>:<task> to build up to a task, or job=<id>,<id>;
    without a name, every job. fresh=<task> lets a task draw a new sample. What a crash or
    a failed gate leaves is never paid for twice: run it again."""
    from popbuild.engine import progress, session
    from popbuild.engine.settle import Options
    from popbuild.threads import leave_if_hanging

    session.check_parallel_type(given.par_type)
    variables, names = _variables(given.names)
    session.check_given_once(given.names, variables)
    option = getattr(given, "root", None)
    said = "--root" if option else "root="
    root = find_root(Path.cwd(), option or variables.get("root"), said)
    options = Options(
        in_flight=session.calls_in_flight(given.in_flight),
        continue_=given.continue_,
        always=given.always,
        keep_edits=given.keep_edits,
        discard_edits=given.discard_edits,
        wait=not given.no_wait,
        store=given.store,
        fresh=session.fresh_tasks(variables.get("fresh")),
        budget=session.dollars("--budget", given.budget),
        ask_above=session.dollars("--ask-above", given.ask_above),
        unknown_allowed=given.unknown_cost,
    )
    events = progress.choose(given.json)
    code, results = session.run(root, variables.get("job"), names, options, events)
    progress.report(results, as_json=given.json, debug=given.debug)
    if not results:
        print(session.NO_JOBS, file=sys.stderr)
    leave_if_hanging(code)
    return code


def _watch(given: argparse.Namespace) -> int:
    """Build what is put into pending/, by popbuild submit or by any other program, as it comes,
    in worker processes; go on with what another orchestrator left behind when it died. Several
    may work on one root. Ctrl-C or SIGTERM ends it: calls in flight are waited for, nothing is
    lost; a second one ends it at once."""
    from popbuild.engine import progress, session
    from popbuild.engine.settle import Options
    from popbuild.orchestrator.watch import Settings, watch

    root = _root(given)
    options = Options(
        store=given.store,
        budget=session.dollars("--budget", given.budget),
        unknown_allowed=given.unknown_cost,
    )
    settings = Settings(
        workers=session.whole_number("--workers", given.workers) or os.cpu_count() or 1,
        in_flight=session.calls_in_flight(given.in_flight) or 8,
        grace_s=session.seconds("--grace", given.grace, 30.0),
        rescan_s=session.seconds("--rescan", given.rescan, 5.0),
        once=given.once,
        seeds=given.seeds,
    )
    events = progress.choose(given.json)

    def tell(result: JobResult) -> None:
        if given.json:
            _print_json_line(result.as_json())
        else:
            progress.report([result], as_json=False, debug=given.debug)

    return watch(root, settings, options, events, tell)


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
            raise UsageError("no such variable", unknown("variable", key, known))
    return variables, rest


def _job_locks(root: Root) -> Locks:
    """The jobs' locks, for a command that builds nothing."""
    from popbuild.disk import Locks

    return Locks(root.private / "locks" / "jobs")


def _list(given: argparse.Namespace) -> int:
    """List jobs with their state. With --tasks, also each job's tasks and why they are
    stale."""
    from popbuild import commands

    root = _root(given)
    found = list(commands.look(root, given.names, _job_locks(root)))
    if given.json:
        _print_json([commands.describe_job(job, root) for job in found])
        return OK
    if not found:
        from popbuild.engine.session import NO_JOBS

        print(NO_JOBS, file=sys.stderr)
    width = max((len(shown_name(job.id)) for job in found), default=0)
    for job in found:
        print(f"{shown_name(job.id):<{width}}  {job.description}")
        if given.tasks and job.exam is not None and job.bad_name is None:
            for task in job.exam.pipeline.tasks:
                print(f"  {task.id:<{max(width - 2, 0)}}  {job.exam.verdicts[task.id]}")
    return OK


def _status(given: argparse.Namespace) -> int:
    """Show each task of a job: its state, how long it took, tokens, cost, and the reasons
    why it is stale. Without a name, a line for each job."""
    from popbuild import commands

    if not given.names:
        given.tasks = False
        return _list(given)
    root = _root(given)
    listed = commands.look(root, given.names, _job_locks(root))
    found = [(job, commands.describe_job(job, root)) for job in listed]
    if given.json:
        _print_json([body for _, body in found])
        return OK
    for number, (job, body) in enumerate(found):
        if number:
            print()
        _print_status(job, body)
    return OK


def _print_status(job: Job, body: dict[str, Any]) -> None:
    from popbuild.units import money, seconds

    print(
        f"{shown_name(job.id)}: {job.description}" + (f" -> {body['path']}" if body["path"] else "")
    )
    width = max((len(name) for name in body["tasks"]), default=0)
    for name, task in body["tasks"].items():
        usage = task["usage"] or {}
        parts = [f"{task['state']:<7}"]
        if task["executionTime"]:
            parts.append(f"{seconds(task['executionTime']):>7}")
            tokens = usage.get("inputTokens", 0) + usage.get("outputTokens", 0)
            parts.append(f"{tokens:>7,} tokens  {money(usage.get('cost', 0.0))}")
            if task["refinementAttempts"]:
                parts.append(f"{task['refinementAttempts']} refined")
        print(f"  {name:<{width}}  " + "  ".join(parts).rstrip())
        for reason in task["reasons"]:
            print(f"  {'':<{width}}  stale: {reason}")
        if task["frozen"]:
            print(f"  {'':<{width}}  {job.exam.verdicts[name] if job.exam else 'frozen'}")
        if task["edited"]:
            print(f"  {'':<{width}}  its artifact was edited by hand")
        if task["error"]:
            print(f"  {'':<{width}}  error: {task['error'].splitlines()[0]}")


def _plan(given: argparse.Namespace) -> int:
    """Say what a run would do, and what it would cost, before it does: every task that will
    run, and every task below it that may, with the reasons, how many answers are stored
    already, and tokens and dollars as a range. Free: makes no call, changes nothing."""
    from popbuild import commands
    from popbuild.plan import totals
    from popbuild.plan_text import plan_lines

    jobs = commands.plan(_root(given), given.names)
    if given.json:
        total = totals(task for job in jobs for task in job.tasks)
        _print_json({"jobs": [job.as_json() for job in jobs], "total": total.as_json()})
        return OK
    _print_lines(plan_lines(jobs))
    return OK


def _explain(given: argparse.Namespace) -> int:
    """Say why a job's tasks are stale, in depth: each reason with the difference that it is
    about, of a prompt, a schema, the seed or a setting. With a task, also all that its
    artifact depends on."""
    from popbuild import commands
    from popbuild.plan_text import explain_lines

    found = commands.explain(_root(given), given.job, given.task)
    if given.json:
        _print_json([each.as_json() for each in found])
        return OK
    _print_lines(explain_lines(found, dependencies=given.task is not None))
    return OK


def _check(given: argparse.Namespace) -> int:
    """Exit with 0 when every job is complete and up to date and everything is valid, with 1
    when not; prints what is not. For CI: makes no call, changes nothing."""
    from popbuild import commands

    check = commands.check(_root(given), given.names)
    if given.json:
        _print_json(check.as_json())
    else:
        _print_lines(check.lines())
    return OK if check.passed else REJECTED


def _show(given: argparse.Namespace) -> int:
    """List a job's files, or print one: an artifact, a log, a prompt as it was sent, or
    <task>/letter.json. NAME is a task, to list its files, or a file; artifacts/NAME,
    logs/NAME or tmp/NAME where two have the same name."""
    from popbuild import commands

    root = _root(given)
    job = commands.find_job(root, given.job)
    tasks = job.pipeline.names if job.pipeline else ()
    if given.name is not None and given.name not in tasks:
        file, content = commands.read_file(job, given.name)
        if given.json:
            place = {"kind": file.kind, "name": file.name, "path": root.show(file.path)}
            _print_json({**place, "text": content.decode(errors="replace")})
            return OK
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return OK
    files = commands.files_of(job, given.name)
    if given.json:
        _print_json([{"kind": f.kind, "name": f.name, "path": root.show(f.path)} for f in files])
        return OK
    for file in files:
        size = file.path.stat().st_size if file.path.exists() else 0
        print(f"{file.kind:<9}  {size:>9,}  {file.name}")
    frozen = [each for each in (job.exam.frozen if job.exam else ()) if given.name in (None, each)]
    if frozen:
        print(f"frozen: {', '.join(frozen)}")
    return OK


def _prompt(given: argparse.Namespace) -> int:
    """Print the messages that a task would send now. Renders the templates; makes no call."""
    from popbuild import commands

    root = _root(given)
    messages = commands.prompt(root, commands.find_job(root, given.job), given.task)
    if given.json:
        _print_json(messages)
        return OK
    for number, message in enumerate(messages):
        if number:
            print()
        print(f"--- {message['role']}")
        print(message["content"])
    return OK


def _export(given: argparse.Namespace) -> int:
    """Copy the final artifact of a complete job to a path: what CI commits. TARGET is a file
    or a folder. Refuses a job that is not up to date."""
    from popbuild import commands

    root = _root(given)
    job = commands.find_job(root, given.job)
    target = commands.export(root, job, Path(given.target), given.artifact)
    if given.json:
        _print_json({"job": job.id, "path": str(target)})
    else:
        print(target)
    return OK


def _retry(given: argparse.Namespace) -> int:
    """Let the task that rejected a job draw another sample, or one that failed again and again
    be tried once more, then build the job."""
    from popbuild import commands
    from popbuild.llm.store import choose_mode

    root = _root(given)
    choose_mode(given.store, commands.around(root).config.environment)
    task, what = commands.retry(root, given.job)
    print(f"{given.job}: {task} {what}", file=sys.stderr)
    given.names, given.always = [given.job], False
    given.continue_ = given.keep_edits = given.discard_edits = given.no_wait = False
    given.in_flight = given.budget = given.ask_above = given.par_type = None
    given.unknown_cost = False
    return _run(given)


def _accept(given: argparse.Namespace) -> int:
    """Take what stands there as up to date, without building: for a cosmetic edit of a prompt,
    or an artifact edited by hand (make's -t, dvc's commit). Every artifact must pass its
    gate."""
    from popbuild import commands

    accepted = commands.accept(_root(given), given.job, given.tasks)
    if given.json:
        _print_json({"job": given.job, "accepted": accepted})
        return OK
    for task in accepted:
        print(f"accepted {given.job}:{task}")
    if not accepted:
        print(f"{given.job} was up to date")
    return OK


def _freeze(given: argparse.Namespace) -> int:
    """Keep a task's artifact as it is: it is not rebuilt whatever changes, and every report
    says so. What stands below it is built from it."""
    from popbuild import commands

    return _say_frozen(given, commands.freeze(_root(given), given.job, given.task))


def _thaw(given: argparse.Namespace) -> int:
    """Let a frozen task be rebuilt again when something changes."""
    from popbuild import commands

    return _say_frozen(given, commands.thaw(_root(given), given.job, given.task))


def _say_frozen(given: argparse.Namespace, frozen: Sequence[str]) -> int:
    if given.json:
        _print_json({"job": given.job, "frozen": list(frozen)})
    else:
        print(f"{given.job}: frozen: {', '.join(frozen) or 'nothing'}")
    return OK


def _validate(given: argparse.Namespace) -> int:
    """Check configuration, seeds and jobs in any state against the schemas: the given files
    and folders, or everything. Prints every problem; exits with 1 if there is one."""
    from popbuild import validate

    result = validate.validate(_root(given), [Path(path) for path in given.paths])
    if given.json:
        _print_json(
            {
                "checked": result.checked,
                "problems": [finding.as_json() for finding in result.findings],
            }
        )
    else:
        for finding in result.findings:
            print(f"{finding.file}: {finding.problem}")
        count = len(result.findings)
        said = f"{count} problem{'s' * (count != 1)}" if count else "all valid"
        print(f"{result.checked} files checked: {said}")
    return REJECTED if result.findings else OK


def _verify(given: argparse.Namespace) -> int:
    """Prove offline that complete jobs are what was promoted: recompute every digest of
    seeds, artifacts, letters, logs, kept prompts, schemas and code, and stored answers.
    Prints what was altered, added or removed since; exits with 1 if anything was. Makes no
    call, writes nothing."""
    from popbuild.proof import verify

    verification = verify(_root(given), given.names)
    if given.json:
        _print_json(verification.as_json())
    else:
        _print_lines(verification.lines())
    return OK if verification.proven else REJECTED


def _trace(given: argparse.Namespace) -> int:
    """Say where an artifact came from: task, run, model and settings, every call with its
    tokens and cost, the files of the configuration, what was read of the seed and of the
    artifacts above, and the same for those. ARTIFACT is a file under pipeline-data/,
    <job>/<artifact>, <job>/<task>, or a file that was exported: found by its digest."""
    from popbuild.trace import trace

    found = trace(_root(given), given.artifact)
    if given.json:
        _print_json(found.as_json())
    else:
        _print_lines(found.lines())
    return OK


def _diff(given: argparse.Namespace) -> int:
    """Show what the last rebuild of a complete job changed: each artifact, place by place,
    and each task with its tokens and cost, then and now."""
    from popbuild.diff import diff

    found = diff(_root(given), given.job, given.against)
    if given.json:
        _print_json(found.as_json())
    else:
        _print_lines(found.lines())
    return OK


def _cache(given: argparse.Namespace) -> int:
    """Share the store of answers with other machines, see what it has saved, keep it
    small."""
    raise UsageError("cache needs a command", {"known": ", ".join(_CACHE)}, "popbuild cache --help")


def _cache_status(given: argparse.Namespace) -> int:
    """Show what the store holds, by model: answers, their size, what they cost when they were
    bought, how often they were served since, and what that saved."""
    from popbuild import cache
    from popbuild.cache_text import status_lines

    found = cache.status(_root(given))
    if given.json:
        _print_json(found.as_json())
    else:
        _print_lines(status_lines(found))
    return OK


def _cache_push(given: argparse.Namespace) -> int:
    """Copy to URL the answers that it lacks. URL is a folder, or whatever fsspec opens:
    s3://bucket/prefix, with the packages popbuild[cache] and s3fs. Keys come from the
    environment or from .env."""
    return _copy_store(given, "pushed")


def _cache_pull(given: argparse.Namespace) -> int:
    """Copy from URL the answers that this store lacks, each only if it is intact. URL is a
    folder, or whatever fsspec opens, as for push."""
    return _copy_store(given, "pulled")


def _copy_store(given: argparse.Namespace, done: str) -> int:
    from popbuild import cache
    from popbuild.cache_text import damage_lines, transfer_line
    from popbuild.config import environment_of

    root = _root(given)
    copy = cache.push if done == "pushed" else cache.pull
    transfer = copy(root, given.url, environment_of(root, os.environ))
    if given.json:
        _print_json(transfer.as_json())
    else:
        _print_lines([transfer_line(transfer, done)])
    for line in damage_lines(transfer):
        print(line, file=sys.stderr)
    return OK


def _cache_prune(given: argparse.Namespace) -> int:
    """Drop old answers from the store, the oldest first: those older than an age, then more
    until the rest is small enough. Only says what it would drop, unless --yes is given. What
    a job in any state or a previous result refers to stays, unless --referenced is given."""
    from popbuild import cache
    from popbuild.cache_text import pruning_lines

    pruning = cache.prune(
        _root(given),
        older_than_s=None if given.older_than is None else cache.seconds_of(given.older_than),
        max_bytes=None if given.max_size is None else cache.bytes_of(given.max_size),
        referenced=given.referenced,
        really=given.yes,
    )
    if given.json:
        _print_json(pruning.as_json())
    else:
        _print_lines(pruning_lines(pruning))
    return OK


_Add = Callable[[argparse.ArgumentParser], None]
_Table = dict[str, tuple[Callable[[argparse.Namespace], int], str, tuple[_Add, ...]]]

_URL = _argument("url", metavar="URL", help="a folder or a URL")

_CACHE: _Table = {
    "status": (_cache_status, "show what the store holds and has saved", (_JSON,)),
    "push": (_cache_push, "copy answers to another place", (_URL, _JSON)),
    "pull": (_cache_pull, "copy answers from another place", (_URL, _JSON)),
    "prune": (
        _cache_prune,
        "drop old answers",
        (
            _argument("--older-than", metavar="AGE", help="drop what is older: 12h, 30d, 8w"),
            _argument("--max-size", metavar="SIZE", help="drop until no more is left: 500MB"),
            _flag("--referenced", help="drop what jobs refer to as well"),
            _flag("--yes", help="really drop it"),
            _JSON,
        ),
    ),
}

COMMANDS: _Table = {
    "init": (
        _init,
        "make a root with an example",
        (_argument("folder", nargs="?", default=".", help="where; here if absent"), _JSON),
    ),
    "submit": (
        _submit,
        "queue a one-off job from a seed file",
        (
            _argument("file", metavar="FILE", help="the seed"),
            _argument("--id", help="the job's ID; a new pl-... one if absent"),
            _JSON,
        ),
    ),
    "run": (
        _run,
        "build jobs, as doit run does",
        (
            _argument("names", nargs="*", metavar="NAME", help="jobs or tasks; all if absent"),
            _argument(
                "-n",
                dest="in_flight",
                metavar="N",
                help="how many calls may be in flight (8)",
            ),
            _flag(
                "-c", "--continue", dest="continue_", help="go on with other jobs after one failed"
            ),
            _argument(
                "-P",
                dest="par_type",
                metavar="TYPE",
                help="refused: tasks run at the same time by themselves",
            ),
            _flag("-a", "--always-execute", dest="always", help="build what is up to date too"),
            _flag("--keep-edits", help="keep files edited by hand whose task is stale"),
            _flag("--discard-edits", help="build files anew that were edited by hand"),
            _flag("--no-wait", help="fail if another command builds a job"),
            _STORE,
            *_SPENDING,
            _JSON,
        ),
    ),
    "watch": (
        _watch,
        "build what is put into pending/, as it comes",
        (
            _argument("--workers", metavar="N", help="worker processes (one for each core)"),
            _argument(
                "-n", dest="in_flight", metavar="N", help="how many calls may be in flight (8)"
            ),
            _flag("--seeds", help="also build what changes in seeds/ and pipeline-config/"),
            _flag("--once", help="end when nothing is left to do"),
            _argument("--grace", metavar="S", help="seconds to wait for calls at the end (30)"),
            _argument("--rescan", metavar="S", help="seconds between looks at everything (5)"),
            _STORE,
            _argument("--budget", metavar="USD", help="end before a call that may go over this"),
            _flag("--unknown-cost", help="under a budget, also send calls without a known price"),
            _flag("--json", help="print a line of JSON for each job that ended"),
        ),
    ),
    "list": (
        _list,
        "list jobs with their state",
        (_JOBS, _flag("--tasks", help="list tasks too, with reasons"), _JSON),
    ),
    "status": (_status, "show a job's tasks: state, tokens, cost, reasons", (_JOBS, _JSON)),
    "plan": (
        _plan,
        "say what a run would do and cost",
        (_argument("names", nargs="*", metavar="NAME", help="jobs or tasks; all if absent"), _JSON),
    ),
    "explain": (
        _explain,
        "say why tasks are stale, with the differences",
        (_JOB, _argument("task", nargs="?", metavar="TASK", help="all if absent"), _JSON),
    ),
    "check": (_check, "exit with 0 if all is up to date and valid", (_JOBS, _JSON)),
    "show": (
        _show,
        "list or print a job's artifacts, logs and prompts",
        (_JOB, _argument("name", nargs="?", metavar="NAME", help="a task or a file"), _JSON),
    ),
    "prompt": (
        _prompt,
        "print what a task would ask, without a call",
        (_JOB, _TASK, _JSON),
    ),
    "export": (
        _export,
        "copy a complete job's final artifact to a path",
        (
            _JOB,
            _argument("target", metavar="TARGET", help="a file or a folder"),
            _argument("--artifact", metavar="NAME", help="another artifact than the last task's"),
            _JSON,
        ),
    ),
    "retry": (_retry, "build a rejected job with another sample", (_JOB, _STORE, _JSON)),
    "accept": (
        _accept,
        "take what stands there as up to date",
        (_JOB, _argument("tasks", nargs="*", metavar="TASK", help="all if absent"), _JSON),
    ),
    "diff": (
        _diff,
        "show what the last rebuild changed",
        (
            _JOB,
            _argument(
                "--against",
                metavar="N",
                type=int,
                default=1,
                help="the N-th result before this one (1)",
            ),
            _JSON,
        ),
    ),
    "trace": (
        _trace,
        "say where an artifact came from",
        (_argument("artifact", metavar="ARTIFACT", help="a file, or <job>/<name>"), _JSON),
    ),
    "verify": (_verify, "prove that nothing complete was altered", (_JOBS, _JSON)),
    "freeze": (_freeze, "keep a task's artifact whatever changes", (_JOB, _TASK, _JSON)),
    "thaw": (_thaw, "let a frozen task be rebuilt again", (_JOB, _TASK, _JSON)),
    "validate": (
        _validate,
        "check configuration, seeds and jobs",
        (_argument("paths", nargs="*", metavar="PATH", help="everything if absent"), _JSON),
    ),
    "cache": (
        _cache,
        "share the store of answers, and keep it small",
        (lambda parser: _add_commands(parser, "cache_command", _CACHE),),
    ),
}
