"""The words of the command line: the same for popbuild and doit, and what is said of others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.base.words import Command, Word
from popbuild.build.shared_words import DOIT_COMMANDS, JOBS, JOBS_OR_TASKS
from popbuild.cli.main import whole_command

POPBUILD = {each.name: each for each in whole_command().below}
# Where doit finds its dodo file, and how it lays out its list: popbuild has neither.
OF_DOIT = {
    "run": {"dodoFile", "cwdPath", "seek_file"},
    "list": {"status", "private", "list_deps", "template", "sort"},
    "info": {"hide_status"},
}


def options(command: Command) -> dict[str, Word]:
    return {word.key: word for word in command.words if word.is_option}


@pytest.mark.parametrize(
    ("doit", "popbuild"), [("run", "run"), ("list", "list"), ("info", "status")]
)
def test_doit_takes_the_words_of_popbuild(doit: str, popbuild: str) -> None:
    """Each option, with its names, help and default, names of jobs, and the same variables."""
    ours, theirs = options(POPBUILD[popbuild]), options(DOIT_COMMANDS[doit])
    assert {name: theirs.pop(name) for name in ours} == ours
    assert theirs.keys() == OF_DOIT["run"] | OF_DOIT[doit]
    assert POPBUILD[popbuild].variables == DOIT_COMMANDS[doit].variables
    for command in (POPBUILD[popbuild], DOIT_COMMANDS[doit]):
        assert {word for word in command.words if not word.is_option} <= {JOBS, JOBS_OR_TASKS}


def every_option_of_run() -> Iterator[str]:
    """Each in one of its spellings, but what refuses, contradicts or ends a run."""
    values = {"in_flight": "1", "store": "use", "budget": "5", "ask_above": "5", "root": "."}
    values |= {"variant": "base", "samples": "1", "changes": "research.temperature=0.25"}
    for word in options(POPBUILD["run"]).values():
        if word.key in values:
            yield from (word.names[-1], values[word.key])
        elif word.key not in ("par_type", "dask", "keep_edits", "debug"):
            yield word.names[0]


def test_both_run_with_the_same_words(workspace: Workspace, provider: Provider) -> None:
    """Options before, between and behind names, and job=: both build the same, and print the same
    JSON."""
    for job in ("second", "third"):
        workspace.seed(job, {"topic": job, "tone": "plain"})
    words = [*every_option_of_run()]
    arguments = ["second", *words[:5], "third:research", *words[5:], "job=first"]
    first = workspace.doit("run", *arguments)
    assert first.code == 0, first.out + first.err
    assert [each["id"] for each in json.loads(first.out)] == ["second", "third", "first"]
    assert len(provider.requests) == 5
    again = []
    for tool in ("doit", "popbuild"):
        results = json.loads(workspace.run(tool, "run", *arguments).out)
        again.append([(each["id"], each["outcome"], each["built"]) for each in results])
    assert again[0] == again[1]
    assert len(provider.requests) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--json"],
        ["list", "-q", "--json"],
        ["list", "f*", "--json", "--tasks"],
        ["list", "job=first", "--json", "--all"],
        ["list", "--json", "root=."],
        ["list", "--json", "--root", ".", "second"],
        ["list", "fisrt"],
        ["list", "jbo=first"],
    ],
    ids=" ".join,
)
def test_both_list_with_the_same_words(arguments: list[str], workspace: Workspace) -> None:
    """The same JSON, or the same error."""
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    doit, popbuild = (workspace.run(tool, *arguments) for tool in ("doit", "popbuild"))
    assert (doit.code, doit.out, doit.err) == (popbuild.code, popbuild.out, popbuild.err)
    assert popbuild.out or popbuild.code == 3


def test_info_prints_the_json_of_status(workspace: Workspace, provider: Provider) -> None:
    """Of the jobs that names, globs and job= mean. It exits with 1 while one is stale."""
    for code in (1, 0):
        popbuild = workspace.popbuild("status", "first", "--json")
        for words in (["first"], ["f*"], ["job=first"], ["first:research"]):
            doit = workspace.doit("info", *words, "--json")
            assert (doit.code, doit.out) == (code, popbuild.out)
        assert workspace.doit("info", "first", "first:research").code == code
        assert workspace.doit("run").code == 0
    assert len(provider.requests) == 2


MALFORMED = [
    ["run", "--dsk", "local"],
    ["run", "first", "--alway"],
    ["run", "--conti"],
    ["run", "-x"],
    ["run", "--dask"],
    ["run", "--json=yes"],
    ["run", "--store", "ony"],
    ["run", "-n"],
    ["run", "-n", "0"],
    ["run", "-P2"],
    ["run", "--budget", "much"],
    ["run", "--root", "/nonexistent"],
    ["list", "--jsno"],
    ["list", "first", "--root"],
]


@pytest.mark.parametrize("arguments", MALFORMED, ids=" ".join)
def test_both_refuse_the_same_words(
    arguments: list[str], workspace: Workspace, provider: Provider
) -> None:
    """What is wrong, where, and what next; in a few lines, whichever tool is asked."""
    errors = []
    for tool in ("doit", "popbuild"):
        result = workspace.run(tool, *arguments)
        assert (result.code, result.out) == (3, ""), result.err
        lines = result.err.replace(f"{tool} {arguments[0]}", "…").splitlines()
        assert lines[0].startswith("error: ")
        assert len(lines) <= 7, result.err
        errors.append([line for line in lines if not line.startswith("  known ")])
    assert errors[0] == errors[1]
    assert provider.requests == []


NEAREST = [
    (("popbuild", "statsu"), "status"),
    (("popbuild", "cache", "prnue"), "prune"),
    (("popbuild", "list", "--taks"), "--tasks"),
    (("popbuild", "graph", "--format", "mermiad"), "mermaid"),
    (("popbuild", "run", "--store", "refrsh"), "refresh"),
    (("popbuild", "completion", "fsh"), "fish"),
    (("popbuild", "prune", "complte", "--keep", "1"), "complete"),
    (("popbuild", "status", "rot=."), "root"),
    (("popbuild", "show", "frist"), "first"),
    (("popbuild", "prompt", "first", "reserch"), "research"),
    (("doit", "lsit"), "list"),
    (("doit", "list", "--statsu"), "--status"),
    (("doit", "list", "--sort", "nmae"), "name"),
    (("doit", "forget", "--debgu"), "--debug"),
    (("doit", "clean", "--complet"), "--complete"),
    (("doit", "info", "first:reserch"), "first:research"),
]


@pytest.mark.parametrize(("argv", "meant"), NEAREST, ids=[" ".join(each[0]) for each in NEAREST])
def test_an_unknown_word_names_the_nearest(
    argv: tuple[str, ...], meant: str, workspace: Workspace
) -> None:
    """Commands, options, formats, modes, shells, states, variables, jobs and tasks."""
    result = workspace.run(*argv)
    assert result.code == 3
    assert [line.split()[-1] for line in result.err.splitlines() if "did you mean" in line] == [
        meant
    ]


@pytest.mark.parametrize("template", ["{nam}", "{status}", "{", "{name.x}", "{0}"])
def test_a_malformed_template(template: str, workspace: Workspace) -> None:
    """`doit list --template` says which names there are."""
    result = workspace.doit("list", "--template", template)
    assert result.code == 3
    assert "{name}, {doc}" in result.err
    assert workspace.doit("list", "--template", "<{name}>").out == "<first>\n"


def test_behind_two_dashes_nothing_is_an_option(workspace: Workspace) -> None:
    """So that a file may have any name."""
    (workspace.root / "--id").write_bytes((workspace.root / "seeds/first.json").read_bytes())
    result = workspace.popbuild("submit", "--id", "queued", "--", "--id")
    assert (result.code, result.out) == (0, "queued\n")
    assert workspace.popbuild("list", "--", "queued").out.split()[0] == "queued"


# --- completion ---

# As bash does it: the words of a line, and which of them the cursor is in.
COMPLETE = """
eval "$(popbuild completion bash)"
complete -p popbuild
while IFS= read -r line; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _shtab_popbuild
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes(workspace: Workspace) -> None:
    """Commands, options, choices, files and jobs; no name of a file is run as code."""
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    workspace.seed("$(touch evil)", {"topic": "x", "tone": "plain"})
    workspace.seed("`touch evil`", {"topic": "x", "tone": "plain"})
    lines = {
        "popbuild st": {"status", "stop"},
        "popbuild cache pu": {"push", "pull"},
        "popbuild run --disc": {"--discard-edits"},
        "popbuild run first --store o": {"off", "only"},
        "popbuild graph --format m": {"mermaid"},
        "popbuild status ": {"first", "second"},
        "popbuild run s": {"second"},
        "popbuild submit see": {"seeds"},
    }
    result = subprocess.run(
        ["bash", "-c", COMPLETE],
        input="".join(f"{line}\n" for line in lines),
        cwd=workspace.root,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    registered, *found = result.stdout.splitlines()
    assert registered.startswith("complete ")
    assert registered.endswith(" popbuild")
    assert {line: set(words.split()) for line, words in zip(lines, found, strict=True)} == lines
    assert not (workspace.root / "evil").exists()


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef popbuild"), ("fish", "#")])
def test_other_shells_have_every_command(shell: str, begins: str, workspace: Workspace) -> None:
    """And every option; the list of jobs is asked for when it is needed, not when it is loaded."""
    script = workspace.popbuild("completion", shell).out
    assert script.startswith(begins)
    for name, command in POPBUILD.items():
        assert name in script
        for word in options(command).values():
            assert all(each.lstrip("-") in script for each in word.names)


IMPORTED = """
import contextlib, sys
from popbuild.cli.main import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "command", [("--help",), ("--version",), ("run", "--help"), ("list", "-q")]
)
def test_help_imports_nothing_heavy(workspace: Workspace, command: tuple[str, ...]) -> None:
    """No event loop, YAML, schemas, doit, rich or shtab; a command imports no other's file."""
    result = workspace.run("python", "-c", IMPORTED, *command, real=True)
    assert result.out
    imported = set(result.err.split())
    assert imported & {"asyncio", "yaml", "jsonschema", "doit", "rich", "shtab", "litellm"} == set()
    if command != ("--help",):
        files = {name for name in imported if name.startswith("popbuild.cli.cmd_")}
        assert files == {f"popbuild.cli.cmd_{name}" for name in command if name in POPBUILD}
