"""`accept` of a complete job that another program made, and what of it is never lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_data import ARTIFACTS, JOB, STRAYS, TASKS, ForeignData, tree
from provider import Provider
from served import serve
from workspace import Workspace

TITLED = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}


@pytest.fixture
def foreign(tmp_path: Path, workspace: Workspace) -> ForeignData:
    """A root with the document's four tasks, which write what that program's wrote, and its data
    beside it."""
    for task in TASKS:
        prompt = f"{task}: {{{{ seed.data.topic }}}}, {{{{ artifacts }}}}\n"
        workspace.task(task, prompt=prompt, task_yaml={"artifact": ARTIFACTS[task]})
    workspace.pipeline(TASKS)
    (workspace.root / "seeds/first.json").unlink()
    return ForeignData(tmp_path / "demo")


def done(workspace: Workspace, *args: str, code: int = 0, **options: Any) -> str:
    result = workspace.popbuild(*args, **options)
    assert result.code == code, result.out + result.err
    return result.out + result.err


def place(workspace: Workspace, source: Path) -> Path:
    """Put a job of the other program where it belongs, byte for byte."""
    return Path(shutil.copytree(source, workspace.job(source.name, source.parent.name)))


def originals(workspace: Workspace, job: str = JOB) -> list[dict[str, bytes]]:
    """What is kept for good of what the other program left."""
    return [tree(path) for path in sorted(workspace.root.glob(f".popbuild/originals/{job}/*"))]


def status(workspace: Workspace, job: str = JOB) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(workspace.popbuild("status", job, "--json").out)
    return found[0]


def strays(workspace: Workspace, folder: Path) -> Iterator[str]:
    """The other program's files of no task that are not what they were."""
    for name, content in STRAYS.items():
        path = folder / name
        if not path.is_file() or path.read_text() != content:
            yield name


def test_adopted_without_a_call(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """Letters and a seal are written, and the job is up to date for every command."""
    before = tree(place(workspace, foreign.job()))
    accepted = [f"accepted {JOB}:{task}" for task in TASKS]
    assert done(workspace, "accept", JOB).splitlines() == accepted
    assert done(workspace, "accept", JOB).strip() == f"{JOB} was up to date"
    for _ in range(2):
        assert workspace.doit("run", f"job={JOB}").out == f"-- {JOB}  up to date\n"
    after = tree(workspace.job(JOB))
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"tasks-status.json", *(f"tasks/{task}/letter.json" for task in TASKS)}
    assert after.keys() - before.keys() == {"seal.json"}
    assert originals(workspace) == [before]
    assert "proven: 4 tasks" in done(workspace, "verify", JOB)
    said = done(workspace, "trace", f"{JOB}/final-content.json")
    assert "adopted   made by another program; its model and its cost are unknown" in said
    assert "built     2025-10-02T06:37:48.245Z, in 18 s" in said
    assert provider.requests == []


def test_adopted_with_todays_seed(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """The seed may say more since: the job's own copy is what the letters vouch for."""
    seed = json.loads((place(workspace, foreign.job()) / "seed.json").read_text())
    seed["data"]["later"] = "a field that was added"
    workspace.write(f"seeds/{JOB}.json", seed)
    done(workspace, "accept", JOB)
    assert workspace.read(f"pipeline-data/complete/{JOB}/seed.json") == seed
    assert workspace.doit("run", f"job={JOB}").out == f"-- {JOB}  up to date\n"
    assert provider.requests == []


def test_its_cost_is_unknown(foreign: ForeignData, workspace: Workspace) -> None:
    """What another program paid is never told as nothing."""
    place(workspace, foreign.job())
    done(workspace, "accept", JOB)
    said = done(workspace, "status", JOB)
    assert "unknown cost" in said
    assert "$0" not in said
    found = status(workspace)
    usages = [found["usage"], *(task["usage"] for task in found["tasks"].values())]
    usages += [workspace.letter(JOB, task)["usage"] for task in TASKS]
    usages += [line["usage"] for line in workspace.runs()]
    assert {usage["cost"] for usage in usages} == {None}
    page = done(workspace, "report", JOB, "-o", "page.html") or workspace.root / "page.html"
    assert "unknown" in Path(workspace.root / "page.html").read_text(), page


def test_rebuilt_with_nothing_lost(
    foreign: ForeignData,
    workspace: Workspace,
    provider: Provider,
) -> None:
    """After an edit only what it is about is bought; files of no task are in every result, and
    what the other program left is kept whatever is promoted and pruned later."""
    before = tree(place(workspace, foreign.job()))
    done(workspace, "accept", JOB)
    keep_none = {"POPBUILD_KEEP_PREVIOUS": "0"}
    workspace.task("formatting", prompt="Shorter: {{ artifacts.synthesis.content }}\n")
    done(workspace, "run", JOB, env=keep_none)
    assert len(provider.requests) == 1
    workspace.task("research", prompt="Anew: {{ seed.name }}\n")
    done(workspace, "run", JOB, env=keep_none)
    assert len(provider.requests) == 5
    done(workspace, "run", "-a", JOB, env=keep_none)
    done(workspace, "run", JOB, env=keep_none)
    assert len(provider.requests) == 5
    good = workspace.job(JOB)
    assert list(strays(workspace, good)) == []
    for name in ("research.log", "formatting.log"):
        assert (good / "files/logs" / name).read_bytes() == before[f"files/logs/{name}"]
    assert originals(workspace) == [before]
    assert not list(workspace.root.glob(f".popbuild/previous/{JOB}/*"))
    done(workspace, "verify")
    done(workspace, "prune", "--older-than", "0h", "--yes")
    assert workspace.states(JOB) == []
    assert originals(workspace) == [before]


@pytest.mark.parametrize("where", ["complete", "current", "rejected"])
def test_built_without_being_adopted(
    foreign: ForeignData, workspace: Workspace, provider: Provider, where: str
) -> None:
    """A build of what the other program left, in whichever state, loses none of it."""
    before = tree(place(workspace, foreign.job(where=where)))
    done(workspace, "run", JOB)
    assert len(provider.requests) == len(TASKS)
    assert workspace.states(JOB) == ["complete"]
    assert list(strays(workspace, workspace.job(JOB))) == []
    assert originals(workspace) == [before]
    workspace.task("research", prompt="Anew: {{ seed.name }}\n")
    done(workspace, "run", JOB)
    done(workspace, "verify")
    assert list(strays(workspace, workspace.job(JOB))) == []
    assert originals(workspace) == [before]


def test_rejected_and_retried_with_nothing_lost(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """A rejection, a retry and the promotion that follows keep what no task owns."""
    before = tree(place(workspace, foreign.job()))
    workspace.task("research", schema=TITLED, task_yaml={"gate": {"refinements": 0}})
    provider.script(["no title", '{"title": "T"}'])
    done(workspace, "run", JOB, code=1)
    assert workspace.states(JOB) == ["complete", "rejected"]
    assert list(strays(workspace, workspace.job(JOB, "rejected"))) == []
    done(workspace, "retry", JOB)
    assert workspace.states(JOB) == ["complete"]
    assert list(strays(workspace, workspace.job(JOB))) == []
    assert originals(workspace) == [before]


def test_files_of_no_task_are_named(foreign: ForeignData, workspace: Workspace) -> None:
    """In the text, in JSON and on the page: each file that no task owns, and no other."""
    place(workspace, foreign.job())
    theirs = [f"files/logs/{task}.log" for task in TASKS]
    theirs += [f"files/tmp/temp-{task}.json" for task in TASKS[:2]]
    for _ in range(2):
        assert sorted(status(workspace)["unowned"]) == sorted([*STRAYS, *theirs])
        said = done(workspace, "status", JOB)
        assert all(name in said for name in (*STRAYS, *theirs))
        done(workspace, "accept", JOB)
    done(workspace, "report", JOB, "-o", "page.html")
    page = (workspace.root / "page.html").read_text()
    with serve(workspace) as served:
        shown = served.get(f"/jobs/{JOB}").text
        told = served.get(f"/api/v1/jobs/{JOB}").json["unowned"]
    assert all(name in page and name in shown and name in told for name in STRAYS)


def test_own_jobs_have_no_file_of_no_task(workspace: Workspace) -> None:
    """All that a build writes is its tasks'; what a person puts there is not."""
    done(workspace, "run", "first")
    assert status(workspace, "first")["unowned"] == []
    assert "of no task" not in done(workspace, "status", "first")
    workspace.write("pipeline-data/complete/first/files/logs/note.txt", "mine")
    assert status(workspace, "first")["unowned"] == ["files/logs/note.txt"]
    assert originals(workspace, "first") == []


WRONG = {
    "no file": (
        lambda folder: (folder / "files/artifacts/analysis-result.json").unlink(),
        ("analysis", "files/artifacts/analysis-result.json is missing"),
    ),
    "not JSON": (
        lambda folder: (folder / "files/artifacts/analysis-result.json").write_text("# Text"),
        ("analysis", "is not valid JSON"),
    ),
    "not what the gate wants": (
        lambda folder: (folder / "files/artifacts/research-output.json").write_text("{}"),
        ("research", "does not pass its gate: missing 'title'"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_adopted(
    foreign: ForeignData, workspace: Workspace, provider: Provider, case: str
) -> None:
    """It is told which artifact and why; nothing is adopted then, and nothing is written."""
    workspace.task("research", schema=TITLED)
    artifacts = {"research-output.json": {"title": "T", "content": "C"}}
    folder = place(workspace, foreign.job(artifacts=artifacts))
    spoil, (task, why) = WRONG[case]
    spoil(folder)
    before = workspace.tree("pipeline-data")
    said = done(workspace, "accept", JOB, code=1)
    assert "nothing of it was" in said
    assert task in said
    assert why in said
    assert workspace.tree("pipeline-data") == before
    assert provider.requests == []


def test_another_name_is_told(foreign: ForeignData, workspace: Workspace) -> None:
    """Where the other program gave an artifact another name, or only has the old output.json, that
    is said: it is not taken for the artifact."""
    workspace.task("analysis", task_yaml="")
    workspace.task("formatting", task_yaml="")
    place(workspace, foreign.job())
    said = done(workspace, "accept", JOB, code=1)
    assert "the task made analysis-result.json: `artifact` in task.yaml can name one" in said
    assert "tasks/formatting/output.json holds nothing that a schema of the task passes" in said


def test_only_the_old_output(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """A task of which only output.json is there is adopted from it where its schema passes that:
    the document as text, or as an object. A text could be anything, and so is none."""
    held = {
        "research": '{"title": "T"}',
        "analysis": {"title": "U"},
        "synthesis": "A text.",
        "formatting": "no title",
    }
    folder = foreign.job(artifacts={}, files={"artifacts": [], "logs": [], "tmp": []}, tasks={})
    text = {"type": "object", "properties": {"content": {"minLength": 3}}}
    for task, content in held.items():
        workspace.task(task, schema=text if task == "synthesis" else TITLED)
        (folder / f"tasks/{task}/output.json").write_text(json.dumps({task: {"content": content}}))
    workspace.task("synthesis", task_yaml={"artifact": "draft.json", "answer": "text"})
    before = tree(place(workspace, folder))
    said = done(workspace, "accept", JOB, code=1)
    assert "formatting  files/artifacts/final-content.json is missing" in said
    assert "synthesis   files/artifacts/draft.json is missing" in said
    assert "research" not in said
    done(workspace, "accept", JOB, "research", "analysis")
    workspace.task("formatting", schema={"type": "object"})
    provider.script(["A draft.", '{"any": 1}'])
    done(workspace, "run", JOB)
    assert len(provider.requests) == 2
    assert workspace.artifact(JOB, "research-output.json") == {"title": "T"}
    assert workspace.artifact(JOB, "analysis-result.json") == {"title": "U"}
    assert workspace.status(JOB)["tasks"]["research"]["files"]["artifacts"] == [
        "research-output.json"
    ]
    assert originals(workspace) == [before]
    done(workspace, "verify")


def test_names_of_any_kind(foreign: ForeignData, workspace: Workspace) -> None:
    """A name that is not UTF-8, a folder, a file that no index can have: kept through promotions,
    proven, and nothing that doctor or validate would mend."""
    folder = place(workspace, foreign.job())
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/files/tmp/\xff.txt"))
    odd.write_text("odd")
    assert "nothing to mend" in done(workspace, "doctor", "--yes")
    done(workspace, "accept", JOB)
    workspace.task("research", prompt="Anew: {{ seed.name }}\n")
    done(workspace, "run", JOB)
    assert odd.read_text() == "odd"
    assert list(strays(workspace, folder)) == []
    assert "files/tmp/\\xff.txt" in status(workspace)["unowned"]
    assert "proven" in done(workspace, "verify")
    assert "nothing to mend" in done(workspace, "doctor", "--yes")
    assert list(strays(workspace, folder)) == []
    assert "not in the index" not in workspace.popbuild("validate").out
    odd.write_text("altered")
    assert workspace.popbuild("verify").code == 1


def test_some_tasks_are_adopted(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """The named tasks need no call; the next run builds the others and promotes the job."""
    folder = foreign.job()
    (folder / "files/artifacts/final-content.json").unlink()
    before = tree(place(workspace, folder))
    done(workspace, "accept", JOB, code=1)
    done(workspace, "accept", JOB, "research", "analysis", "synthesis")
    assert workspace.states(JOB) == ["complete", "current"]
    assert tree(workspace.job(JOB)) == before
    done(workspace, "run", JOB)
    assert len(provider.requests) == 1
    assert workspace.states(JOB) == ["complete"]
    assert originals(workspace) == [before]
    done(workspace, "run", JOB)
    done(workspace, "verify")
    assert len(provider.requests) == 1


def test_adopted_after_a_build_failed(
    foreign: ForeignData, workspace: Workspace, provider: Provider
) -> None:
    """A run that came to nothing does not stand in the way; what it built itself is kept."""
    place(workspace, foreign.job())
    provider.script(["Built.", *(["", ""] * 3)])
    assert workspace.popbuild("run", JOB).code == 1
    calls = len(provider.requests)
    assert workspace.states(JOB) == ["complete", "rejected"]
    done(workspace, "accept", JOB)
    assert workspace.states(JOB) == ["complete"]
    assert workspace.artifact(JOB, "research-output.json") == {"content": "Built."}
    assert workspace.artifact(JOB, "final-content.json")["content"].startswith("What final")
    assert workspace.doit("run", f"job={JOB}").out == f"-- {JOB}  up to date\n"
    assert len(provider.requests) == calls
    done(workspace, "verify")


def test_not_complete(foreign: ForeignData, workspace: Workspace) -> None:
    """A job that the other program did not complete is not adopted."""
    place(workspace, foreign.job(where="current"))
    assert "it is not complete" in done(workspace, "accept", JOB, code=3)
