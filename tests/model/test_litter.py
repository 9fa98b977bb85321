"""What editors and systems leave in pipeline-config/ is a dependency only where a file names it."""

from __future__ import annotations

import json

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.base import jsonio
from popbuild.model.config.snapshot import is_litter
from popbuild.model.letter import seal

FOLDER = "pipeline-config/tasks/research"
LITTER = [
    "4913",
    "5036",
    "Thumbs.db",
    "ehthumbs.db",
    "Desktop.INI",
    "prompt.md.tmp.4821.a1b2c3",
    "prompt.tmp.md",
    "stages.py___jb_tmp___",
    "~$notes.docx",
    "~WRL0003.tmp",
    "data.csv.crdownload",
    "prompt.md.rej",
    "notes.BAK",
    "@eaDir/prompt.md/x",
    "__MACOSX/prompt.md",
]
OF_A_PERSON = [
    "prompt.md",
    "4914",
    "49130",
    "4913.csv",
    "tmp.md",
    "tmp/prompt.md",
    "template.md",
    "my.tmpl.md",
    "desktop.ini.md",
    "thumbs.json",
    "parts/data.part",
]


@pytest.mark.parametrize("name", [*LITTER, *OF_A_PERSON])
def test_what_is_litter(name: str) -> None:
    assert is_litter(f"tasks/research/{name}") == (name in LITTER)


def test_litter_comes_and_goes(workspace: Workspace, provider: Provider) -> None:
    """In a task's folder and among the files of a pattern: whether it is there, what is in it, and
    whether it can be read, nothing is stale and nothing is asked."""
    workspace.write("pipeline-config/shared/rates.csv", "a,1\n")
    workspace.task("research", task_yaml='files: ["shared/*"]\n')
    assert workspace.popbuild("run").code == 0
    calls = len(provider.requests)
    for content in ("one", "two"):
        for name in LITTER:
            workspace.write(f"{FOLDER}/{name}", content)
        workspace.write("pipeline-config/shared/Thumbs.db", content)
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert workspace.popbuild("run", "-a", "--store", "only").code == 0
    traced = workspace.letter("first", "research")["fingerprint"]
    assert [each for each in traced if is_litter(each.removeprefix("file:"))] == []
    (workspace.root / FOLDER / "5036").unlink()
    (workspace.root / FOLDER / "5036").symlink_to("gone")
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert workspace.popbuild("check").code == 0
    assert len(provider.requests) == calls


NAMED = {
    "by an include": ("part.tmp.md", {"prompt": "{% include 'part.tmp.md' %}"}),
    "by code": ("rates.tmp.csv", {"stages": "RATES = 'rates.tmp.csv'\n"}),
    "by files": ("desktop.ini", {"task_yaml": "files: [tasks/research/desktop.ini]\n"}),
}


@pytest.mark.parametrize("how", NAMED)
def test_what_is_named_counts(how: str, workspace: Workspace, provider: Provider) -> None:
    """Whatever it is called: a change of it makes its task stale."""
    name, files = NAMED[how]
    workspace.task("research", **files)
    workspace.write(f"{FOLDER}/{name}", "one")
    assert workspace.popbuild("run").code == 0
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    workspace.write(f"{FOLDER}/{name}", "two")
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    assert job["tasks"]["research"]["reasons"] == [f"file:tasks/research/{name} changed"]


@pytest.mark.parametrize("then", ["same", "changed", "gone"])
def test_letters_of_before_that_name_it(
    then: str, workspace: Workspace, provider: Provider
) -> None:
    """What was built while an editor wrote stays up to date."""
    assert workspace.popbuild("run").code == 0
    calls = len(provider.requests)
    path = workspace.job("first") / "tasks/research/letter.json"
    body = json.loads(path.read_bytes())
    body["fingerprint"]["file:tasks/research/4913"] = jsonio.digest_bytes(b"")
    path.write_text(json.dumps(seal(body)))
    if then != "gone":
        workspace.write(f"{FOLDER}/4913", "" if then == "same" else "more")
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == calls
