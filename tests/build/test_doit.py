"""doit's own commands mean what they say, or are refused with a hint."""

from __future__ import annotations

import pytest
from provider import Provider
from workspace import Workspace


def test_list(workspace: Workspace, provider: Provider) -> None:
    """`doit list` shows jobs with their state, `--all` their tasks; neither calls nor writes."""
    workspace.dodo()
    before = workspace.tree("pipeline-config")
    assert workspace.doit("list").out.split() == ["first", "new"]
    workspace.doit("run", "job=first")
    assert workspace.doit("list").out.split() == ["first", "complete"]
    listed = workspace.doit("list", "--all", "-s").out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["U", "first"],
        ["U", "first:analysis"],
        ["U", "first:research"],
    ]
    assert len(provider.requests) == 2
    assert workspace.tree("pipeline-config") == before


def test_list_is_transitive(workspace: Workspace, provider: Provider) -> None:
    """A task below a stale one is to be run too, and says why."""
    workspace.doit("run", "job=first")
    workspace.seed("first", {"topic": "wind"})
    out = workspace.doit("list", "--all", "-s").out
    assert "R first:research   seed:/data/topic changed" in out
    assert "R first:analysis   upstream research is stale" in out


def test_info(workspace: Workspace, provider: Provider) -> None:
    """`doit info` gives the reason, the real files, and exit code 1 for a stale task."""
    stale = workspace.doit("info", "first:analysis")
    assert stale.code == 1
    assert "never built" in stale.out
    workspace.doit("run", "job=first")
    fresh = workspace.doit("info", "first:analysis")
    assert fresh.code == 0
    assert "research-output.json" in fresh.out
    assert "analysis-output.json" in fresh.out
    unknown = workspace.doit("info", "first:analisys")
    assert unknown.code == 3
    assert "Traceback" not in unknown.err
    assert "analysis" in unknown.err
    assert len(provider.requests) == 2


def test_info_of_a_job(workspace: Workspace, provider: Provider) -> None:
    """Its state, and for each stale task the reason in the words of that task; nothing of the kind
    once it is built."""
    assert workspace.doit("run").code == 0
    workspace.seed("first", {"topic": "wind", "tone": "plain"})
    stale = workspace.doit("info", "first")
    assert stale.code == 1
    lines = [line.strip(" -") for line in stale.out.splitlines()]
    for told in (
        "complete, stale: research, analysis",
        "research: seed:/data/topic changed: grid batteries → wind",
        "analysis: upstream research is stale",
    ):
        assert [line for line in lines if line.startswith(told)], stale.out
    assert workspace.doit("run").code == 0
    fresh = workspace.doit("info", "first")
    assert (fresh.code, "stale" in fresh.out) == (0, False)
    assert workspace.doit("list", "-s").out.startswith("U first")
    assert len(provider.requests) == 4


def test_list_deps(workspace: Workspace) -> None:
    """`doit list --deps` shows the graph's files."""
    workspace.doit("run", "job=first")
    out = workspace.doit("list", "--all", "--deps").out
    assert "pipeline-data/complete/first/files/artifacts/research-output.json" in out


def test_forget(workspace: Workspace, provider: Provider) -> None:
    """`doit forget` asks for names, sets letters aside, and leaves answers in the store."""
    workspace.doit("run", "job=first")
    refused = workspace.doit("forget")
    assert refused.code == 3
    assert "forget needs names" in refused.err
    assert workspace.doit("forget", "first:analysis").out == "forgetting first:analysis\n"
    assert "never built" in workspace.doit("list", "--all", "-s").out
    assert list((workspace.root / ".popbuild/forgotten/first").iterdir())
    assert workspace.doit("run", "job=first").code == 0
    assert len(provider.requests) == 2
    assert workspace.runs()[-1]["built"] == ["analysis"]


def test_clean(workspace: Workspace, provider: Provider) -> None:
    """`doit clean` removes unfinished jobs; complete ones need --complete."""
    workspace.doit("run", "first:research")
    assert "would remove" in workspace.doit("clean", "-n").out
    refused = workspace.doit("clean", "first:research")
    assert refused.code == 3
    assert "clean removes whole jobs" in refused.err
    assert workspace.states("first") == ["current"]
    workspace.doit("clean")
    assert workspace.states("first") == []
    workspace.doit("run", "job=first")
    kept = workspace.doit("clean", "first").out
    assert kept == "keeping pipeline-data/complete/first: --complete removes complete jobs too\n"
    assert workspace.states("first") == ["complete"]
    workspace.doit("clean", "--complete", "first")
    assert workspace.states("first") == []
    assert len(provider.requests) == 2


@pytest.mark.parametrize("command", ["ignore", "reset-dep", "dumpdb", "strace"])
def test_refused(workspace: Workspace, provider: Provider, command: str) -> None:
    """What would do harm, or nothing without saying so, is refused with a hint; no call, no
    traceback."""
    result = workspace.doit(command, "first")
    assert result.code == 3
    assert f"error: doit {command} means nothing here" in result.err
    assert "hint: " in result.err
    assert not provider.requests
    assert f"usage: doit {command}" in workspace.doit("help", command).out


USAGE = [
    (["jbo=first"], "did you mean  job"),
    (["job="], "job= names no job"),
    (["job=fisrt"], "did you mean  first"),
    (["job=nothing*"], "no such job"),
    (["first:reserch"], "did you mean  research"),
    (["-P", "thread"], "-n limits the calls"),
    (["-P", "2"], "found  -P 2"),
    (["-n", "x"], "x"),
    (["root=nowhere"], "from     root="),
    (["root=nowhere"], "not a popbuild root"),
    (["job=first", "job=second"], "write job=first,second"),
    (["job=first", "fresh=research", "fresh=analysis"], "write fresh=research,analysis"),
    (["root=a", "root=b"], "root= is given twice"),
    (["--nonsense"], "nonsense"),
]


@pytest.mark.parametrize(("arguments", "phrase"), USAGE, ids=[" ".join(each[0]) for each in USAGE])
@pytest.mark.parametrize("command", ["doit", "popbuild"])
def test_usage_errors(
    workspace: Workspace, provider: Provider, command: str, arguments: list[str], phrase: str
) -> None:
    """A wrong command builds nothing, exits with 3, and names what is known."""
    result = workspace.run(command, "run", *arguments)
    assert result.code == 3
    assert phrase in result.err
    assert "Traceback" not in result.err
    assert not provider.requests
    assert not workspace.states("first")


OTHER = """
def task_hello():
    return {"actions": ["echo hello > out.txt"], "targets": ["out.txt"], "file_dep": ["dodo.py"],
            "clean": True}
"""


def test_other_projects_keep_their_doit(workspace: Workspace) -> None:
    """In a folder with another dodo file every command of doit's is doit's own."""
    folder = workspace.home / "other"
    folder.mkdir()
    (folder / "dodo.py").write_text(OTHER)
    assert workspace.doit("run", cwd=folder).code == 0
    assert (folder / "out.txt").read_text() == "hello\n"
    assert workspace.doit("run", cwd=folder).out == "-- hello\n"
    assert workspace.doit("list", cwd=folder).out.split() == ["hello"]
    assert "hello" in workspace.doit("ignore", "hello", cwd=folder).out
    assert workspace.doit("forget", "--all", cwd=folder).code == 0
    assert workspace.doit("run", "-s", "-P", "thread", "-n", "2", cwd=folder).code == 0
    assert workspace.doit("clean", cwd=folder).code == 0
    assert not (folder / "out.txt").exists()


def test_a_stock_run_refuses(workspace: Workspace, provider: Provider) -> None:
    """Were popbuild's run command not there, doit's own would fail instead of buying again."""
    workspace.dodo()
    program = (
        "import sys; from doit.cmd_run import Run; from doit.doit_cmd import DoitMain;"
        "from doit.plugin import PluginDict;"
        "PluginDict._from_entry_points = lambda self, category: "
        "{} if category == 'COMMAND' else {'popbuild-null': "
        "__import__('popbuild.build.doit_backend', fromlist=['x']).NullBackend};"
        "sys.exit(DoitMain().run(['run', 'first']))"
    )
    result = workspace.run("python", "-c", program)
    assert result.code != 0
    assert "popbuild's own run command" in result.out + result.err
    assert not provider.requests


@pytest.mark.parametrize("name", ["job=x", "con", "a b", "-x", "x" * 65, "bell\a", "FIRST"])
def test_an_ill_named_seed_is_listed(workspace: Workspace, provider: Provider, name: str) -> None:
    """A job that no command builds because of its name is listed with the reason, its tasks are
    not; the others are as ever."""
    workspace.seed(name, {"topic": "wind"})
    shown = name.replace("\a", "\\x07")
    for command in (["doit", "list", "--all"], ["popbuild", "list"], ["popbuild", "status"]):
        result = workspace.run(*command)
        assert result.code == 0, result.err
        lines = [line for line in result.out.splitlines() if "bad name: " in line]
        in_doit = shown.replace("=", "\\x3d") if command[0] == "doit" else shown
        assert [line.split("bad name")[0].strip() for line in lines if "differs" not in line] == (
            [in_doit] if name != "FIRST" else []
        )
        assert len(lines) == (2 if name == "FIRST" else 1)
        assert f"{name}:research" not in result.out
        assert "\a" not in result.out
    assert ("first:research" in workspace.doit("list", "--all").out) == (name != "FIRST")
    assert workspace.popbuild("check").code == 1
    assert not provider.requests
