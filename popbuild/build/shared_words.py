"""The commands that popbuild and doit both have, and their words; and the words that doit adds."""

from __future__ import annotations

from dataclasses import replace

from popbuild.base.words import JSON, Command, argument, flag, option

STORE = option(
    "--store",
    value="MODE",
    choices=("use", "refresh", "only", "off"),
    help="use (the default), refresh, only or off: see docs/store.md",
)
JOBS = argument("names", "JOB", "*", help="a job's ID or a glob; all if absent")
JOBS_OR_TASKS = argument("names", "JOB", "*", help="jobs, or <job>:<task>; all if absent")
WHAT = (
    flag("-a", "--always-execute", dest="always", help="build what is up to date too"),
    flag("--keep-edits", help="keep files edited by hand whose task is stale"),
    flag("--discard-edits", help="build files anew that were edited by hand"),
)
NAMED_ONLY = flag("--only", help="leave out jobs that others are over, unless they are named")
IN_FLIGHT = option(
    *("-n", "--process"),
    value="N",
    dest="in_flight",
    help="how many calls this command may have in flight (8)",
)
BUDGET_USD = option("--budget", value="USD", help="stop before a call that may go over this")
UNKNOWN_COST = flag("--unknown-cost", help="under a budget, also send calls without a known price")
JOB_VARIABLES = ("job", "root")

RUN = Command(
    "run",
    "build jobs, as doit run does",
    (
        JOBS_OR_TASKS,
        IN_FLIGHT,
        flag("-c", "--continue", dest="continue_", help="go on with other jobs after one failed"),
        option(
            *("-P", "--parallel-type"),
            value="TYPE",
            dest="par_type",
            help="refused: tasks run at the same time by themselves",
        ),
        *WHAT,
        flag("--no-wait", help="fail if another command builds a job"),
        NAMED_ONLY,
        option(
            "--dask",
            value="ADDRESS",
            help="build on a Dask cluster: its scheduler's address, or local",
        ),
        STORE,
        BUDGET_USD,
        option("--ask-above", value="USD", help="show the plan and ask if it may cost more"),
        UNKNOWN_COST,
        JSON,
    ),
    text="Build jobs: only what is stale, from the store where an answer is there already. JOB is "
    "a job's ID, a glob, <job>:<task> to build up to a task, or job=<id>,<id>; without a name, "
    "every job. fresh=<task> lets a task draw a new sample. Run it again after a crash or a failed "
    "gate: what was paid for is kept.",
    variables=(*JOB_VARIABLES, "fresh"),
    of_several=True,
)
LIST = Command(
    "list",
    "list jobs with their state",
    (
        JOBS,
        flag("--tasks", "--all", dest="subtasks", help="list tasks too, with reasons"),
        flag("-q", "--quiet", help="list only names"),
        JSON,
    ),
    text="List jobs with their state. With --tasks, also each job's tasks and why they are stale.",
    variables=JOB_VARIABLES,
    of_several=True,
)
STATUS = Command(
    "status",
    "show a job's tasks: state, tokens, cost, reasons",
    (JOBS, JSON),
    text="Show each task of a job: its state, how long it took, tokens, cost, and why it is stale. "
    "Without a name, a line for each job.",
    variables=JOB_VARIABLES,
)

# What doit's commands take, with the words that its own code asks for.
_LOADER = (
    option("-f", "--file", value="FILE", dest="dodoFile", help="the dodo file (dodo.py)"),
    option("-d", "--dir", value="DIR", dest="cwdPath", help="the working directory of a dodo file"),
    flag("-k", "--seek-file", help="look for the dodo file in the folders above"),
)
_LAYOUT = (
    flag("-s", "--status", help="R: a run would build it, U: it is up to date"),
    flag("-p", "--private", help="also tasks whose names begin with _"),
    flag("--deps", dest="list_deps", help="the files of each task"),
    option("--template", value="TEXT", help="the form of a line: {name}, {doc}, {status} with -s"),
    option(
        "--sort",
        value="ORDER",
        choices=("name", "definition"),
        default="name",
        help="by name (the default) or definition",
    ),
)
_NO_STATUS = flag("--no-status", dest="hide_status", help="do not say why it is stale")
DOIT_COMMANDS = {
    each.name: replace(each, own_words=(*each.own_words, *_LOADER))
    for each in (
        RUN,
        replace(LIST, own_words=(*LIST.own_words, *_LAYOUT)),
        Command(
            "info",
            "say why a job or a task is stale",
            (JOBS_OR_TASKS, _NO_STATUS, JSON),
            text="Show the state, the files and the dependencies of jobs and tasks, and why they "
            "are stale. Exits with 1 if one is. With --json, as popbuild status prints it.",
            variables=JOB_VARIABLES,
        ),
        Command(
            "forget",
            "set letters aside, so that tasks are built again",
            (JOBS_OR_TASKS,),
            text="Set the letters of jobs or tasks aside, so that these are built again. Their "
            "answers stay in the store.",
            variables=JOB_VARIABLES,
        ),
        Command(
            "clean",
            "remove unfinished jobs",
            (
                JOBS,
                flag("-n", "--dry-run", help="only say what would be removed"),
                flag("--complete", help="remove complete jobs too"),
            ),
            text="Remove the directories of unfinished jobs. Seeds and stored answers stay.",
            variables=JOB_VARIABLES,
        ),
    )
}
