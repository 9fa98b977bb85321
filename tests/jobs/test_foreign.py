"""Data that another program wrote after the storage document: its letters are not ours, and nothing
of it is taken for damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign import ERROR, JOB, example, write_all, write_demo
from provider import Provider
from served import serve
from workspace import MODEL, Workspace

from popbuild.base.paths import JobFolder, Root
from popbuild.jobs.records import is_foreign_letter
from popbuild.model.letter import looks_ours
from popbuild.upkeep import ailments

LETTERS = {
    "task and time": {"task": "research", "at": "2025-10-02T06:37:48.243Z"},
    "what the document names": {
        "task": "research",
        "configuration": {"model": "gpt-5-nano"},
        "execution": {"startedAt": "2025-10-02T06:37:30.061Z"},
        "calls": [{"model": "gpt-5-nano", "cost": 0.1}],
        "usage": {"inputTokens": 45},
        "validation": [],
    },
    "a version of its own": {"formatVersion": 3, "meta": {"task": "research"}},
    "a digest of its own": {"digest": "sha256:00", "outputs": ["a.json"]},
    "empty object": {},
    "list": [1, {"formatVersion": 1}],
    "text": "ok",
    "number": 7,
    "null": None,
}


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
def test_a_letter_of_another_shape_is_not_ours(letter: Any) -> None:
    """The storage document says that a letter's shape varies."""
    assert not looks_ours(json.dumps(letter).encode())
    assert not looks_ours(json.dumps(letter, indent=2).encode())


MARKED = ("altered", "cut short", "cut to a line", "without a version", "without a digest")
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "altered": lambda data: data.replace(b'"research"', b'"other"'),
    "cut short": lambda data: data[:-5],
    "cut to a line": lambda data: data[:30],
    "without a version": lambda data: data.replace(b'"formatVersion"', b'"format"'),
    "without a digest": lambda data: data.replace(b'"digest"', b'"dig"'),
    "emptied": lambda _: b"",
    "zeroed": lambda data: bytes(len(data)),
    "replaced": lambda _: b'{"task": "research", "at": "2025-10-02T06:37:48.243Z"}',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_letter_of_ours_stays_damage(
    workspace: Workspace, damage: Callable[[bytes], bytes]
) -> None:
    """Whatever became of a letter of ours, it is not taken for another program's."""
    assert workspace.popbuild("run", "first").code == 0
    letter = workspace.job("first") / "tasks/research/letter.json"
    letter.write_bytes(damage(letter.read_bytes()))
    marked = looks_ours(letter.read_bytes())
    assert marked == (damage in [DAMAGE[name] for name in MARKED])  # without asking the status
    assert not is_foreign_letter(JobFolder(workspace.job("first")), "research")
    (ailment,) = ailments.find_ailments(Root(workspace.root))
    assert (ailment.kind, ailment.path) == (ailments.LETTER, letter)


# Through every command that reads.

NO_MAP = "import research from './research/index.js';\nexport default { research };\n"
REGISTRIES = {
    "letter for letter": (None, "no task of popbuild stands behind"),
    "no plain map": (NO_MAP, "write tasks/index.yaml"),
}
# What each command ends with, and what it says; {job} is the complete one.
READS: dict[str, tuple[int, tuple[str, ...]]] = {
    "list": (0, ("{job}  complete, cannot be built here", "failed                   failed,")),
    "list --json": (0, ('"statusSays": "paused"',)),
    "status": (0, ("going                    running, cannot be built here",)),
    "status {job}": (0, ("research  done        18 s  unknown tokens  unknown cost",)),
    "status failed": (0, ("failed: failed,", "analysis  failed", "error: Error: quota is used up")),
    "status erring": (0, ("erring: failed,", "research  error")),
    "status going": (0, ("going: running,", "analysis  running", "research  done")),
    "status odd": (0, ("its status says: paused", "research  skipped", 'error: {{"code": 7}}')),
    "status bare begun refused": (0, ("bare: stopped,", "begun: stopped,", "refused: rejected,")),
    "show {job}": (0, ("22  final-content.json", "missing  analysis-result.json")),
    "show {job} analysis": (0, ("missing  analysis-result.json", "analysis/letter.json")),
    "show {job} research/letter.json": (0, ('"at": "2025-10-02T06:37:48.243Z"',)),
    "show going": (0, ("12  research.log", "research/output.json")),
    "show odd ../../../seed.json": (3, ("no such file",)),
    "export {job} out.json": (0, ("out.json",)),
    "export {job} out.json --artifact research-output.json": (0, ("out.json",)),
    "export {job} out.json --artifact synthesis-draft.json": (3, ("in the index, and not there",)),
    "export failed out.json": (3, ("not complete",)),
    "report -o report.html": (0, ("report.html",)),
    "report -o -": (0, ("quota is used up", "at call (llm.js:7:3)", ">unknown cost<")),
    "summary": (
        0,
        ("| `{job}` | `complete, cannot be built here` | unknown cost | unknown | 30 s",),
    ),
    "validate": (0, (": warning: ", "{why}", "all valid, ")),
    "check": (1, ("{job}: complete, cannot be built here", "0 problems in")),
    "verify": (0, ("{job}: nothing to prove", "its letter is not ours")),
    "trace {job}/research-output.json": (3, ("another program made this artifact",)),
    "trace {job}/research": (3, ("no such artifact",)),
    "diff {job}": (3, ("there is no previous result",)),
    "doctor": (0, ("nothing to mend",)),
    "doctor --yes": (0, ("nothing to mend",)),
    "prune --older-than 0s": (0, ("would drop pipeline-data/complete/{job}",)),
    "archive {job} -o {folder}/a.tar.zst": (0, ("1 job",)),
    "restore {folder}/a.tar.zst": (0, ("is there already",)),
    **{
        f"{command}": (3, ("{why}",))
        for command in (
            "plan",
            "plan {job}",
            "run",
            "explain {job}",
            "prompt {job} research",
            "graph",
            "graph {job}",
            "accept {job}",
            "freeze {job} research",
            "retry refused",
        )
    },
}


NEVER = ("$0", "Traceback", "damaged", "altered", "bad pipeline")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Workspace]:
    """An empty folder that is to hold another program's data."""
    with Workspace(tmp_path) as workspace:
        shutil.rmtree(workspace.root)
        workspace.root.mkdir()
        yield workspace


@pytest.mark.parametrize("pipeline", ["pipeline-names", "pipeline-objects"])
@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_command_that_reads(
    registry: str, pipeline: str, demo: Workspace, tmp_path: Path
) -> None:
    """Each says what there is, or in an error what it cannot do there, and none writes anything."""
    text, why = REGISTRIES[registry]
    if pipeline == "pipeline-objects" and registry == "letter for letter":
        why = "a task is not in the registry"  # the document's registry has other tasks
    write_demo(demo.root, pipeline, text)
    write_all(demo.root)
    before = demo.tree("seeds"), demo.tree("pipeline-config"), demo.tree("pipeline-data")
    wrong = []
    for command, (code, said) in READS.items():
        words = {"job": JOB, "why": why, "folder": str(tmp_path)}
        result = demo.popbuild(*command.format(**words).split())
        told = " ".join((result.out + result.err).split())
        wanted = [" ".join(each.format(**words).split()) for each in said]
        found = [each for each in NEVER if each in told]
        if result.code != code or found or not all(each in told for each in wanted):
            wrong.append((command, result.code, found, wanted, told))
    assert wrong == []
    assert before == (demo.tree("seeds"), demo.tree("pipeline-config"), demo.tree("pipeline-data"))


def test_a_status_is_shown_as_it_stands(demo: Workspace) -> None:
    """For programs: states and errors are another program's own, and what it does not say is
    unknown."""
    write_demo(demo.root)
    write_all(demo.root)
    told = json.loads(demo.popbuild("status", "--json", "failed", "odd", "going", "begun").out)
    failed, odd, going, begun = told
    assert failed["error"] == ERROR
    assert failed["tasks"]["analysis"]["state"] == "failed"
    assert failed["tasks"]["analysis"]["error"] == ERROR
    unknown = {"inputTokens": None, "outputTokens": None, "cost": None}
    assert [each["usage"] for each in going["tasks"].values()] == [unknown, unknown]
    assert odd["tasks"]["research"]["usage"] == {"total_tokens": 5, "cost": "much"}
    assert odd["tasks"]["research"]["attempts"] == 0
    assert odd["tasks"]["coded"]["error"] == {"code": 7}
    assert odd["tasks"].keys() == {"research", "coded", "analysis"}
    assert odd["tasks"]["analysis"]["state"] == "unknown"  # it has a folder, and no entry
    assert begun["tasks"]["research"]["state"] == "unknown"


PAGES = ("/", "/jobs/{job}", "/pipelines", "/runs", "/builds", "/submit")
VERBS = ("jobs", "jobs/{job}", "jobs/{job}/files", "pipelines", "runs")


def test_it_is_served(demo: Workspace) -> None:
    """Every page, and what programs get."""
    write_demo(demo.root)
    jobs = write_all(demo.root)
    before = demo.tree("pipeline-data")
    with serve(demo) as served:
        assert served.wait_for(JOB, "complete")["why"] == "cannot be built here"
        rows = {row["id"]: row for row in served.get("/api/v1/jobs").json["jobs"]}
        assert [rows[job]["cost"] for job in jobs[:-1]] == [None] * len(jobs[:-1])
        assert served.wait_for("failed", "failed")["why"].startswith("analysis: Error: quota")
        assert served.wait_for("refused", "rejected")["done"] == 1
        for path in [*PAGES, *(f"/api/v1/{verb}" for verb in VERBS)]:
            for job in jobs[:-1] if "{job}" in path else [""]:  # the last one only waits
                answer = served.get(path.format(job=job))
                assert answer.status == 200, (path, job, answer.text)
                # There jobs of which nothing ran cost $0, and the axis of the plot begins with it.
                never = NEVER[path in ("/", "/runs") :]
                assert not [each for each in never if each in answer.text], (path, job)
        page = served.get(f"/jobs/{JOB}").text
        assert "cannot be built here" in page
        assert "storage grows" in page
        assert "research began" in page
        assert "at call (llm.js:7:3)" in served.get("/jobs/failed").text
    assert demo.tree("pipeline-data") == before


LOOKS = (
    "list",
    "status",
    "show failed",
    "explain {job}",
    "plan",
    "report -o r.html",
    "graph {job}",
)


def test_with_tasks_of_ours_it_can_be_built(demo: Workspace, provider: Provider) -> None:
    """Why each task is stale is told in every look, which changes nothing. A run takes up what
    another program left in current/ and in rejected/, whatever its status says, once."""
    write_demo(demo.root)
    jobs = write_all(demo.root)[1:]
    document = example("pipeline-names")
    for settings in document["taskConfig"].values():
        settings["model"] = MODEL
    demo.write("pipeline-config/pipeline.json", document)
    for name in document["tasks"]:
        demo.task(name, prompt=f"{name} of {{{{ seed.name }}}}\n")
    before = demo.tree("pipeline-data")
    demo.provider = provider
    for command in LOOKS:
        result = demo.popbuild(*command.format(job=JOB).split())
        assert result.code == 0, (command, result)
    assert "stale: built by another program" in demo.popbuild("status", JOB).out
    assert "nothing to mend" in demo.popbuild("doctor", "--yes").out
    assert demo.tree("pipeline-data") == before
    for _ in range(2):
        assert demo.popbuild("run", *jobs).code == 0
        assert len(provider.requests) == 2 * 4  # two seeds: all but one job have the same
    assert demo.popbuild("verify").code == 0
    assert [line for line in before if JOB in line[0]] == [
        line for line in demo.tree("pipeline-data") if JOB in line[0]
    ]
