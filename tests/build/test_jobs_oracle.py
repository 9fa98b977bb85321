"""Random jobs over random jobs: what is stale and what is asked, against an oracle that knows
nothing of letters, digests and indexes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from provider import Provider, Reply, Request
from workspace import MODEL, Workspace

# A number here tries that many examples, other ones each time; without it, the same few.
EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")

SCHEMA = {"type": "object", "properties": {"label": {"enum": ["+", "-"]}}, "required": ["label"]}
LABELS = {"good": "+", "fine": "+", "bad": "-"}  # a text that is not here fails its gate
TEXTS = [*LABELS, "odd"]
MEMBERS = [f"{kind}_{number}" for kind in "ab" for number in range(3)]
GLOBS = ["a_*", "b_*", "?_1", "[ab]_*", "a_0"]
# A prompt for each job in a group, and what it reads of it.
PROMPTS = {
    "{{ e.id }}": ("id",),
    "{{ e.artifacts.rate.label }}": ("label",),
    "{{ e.seed.data.stars }}": ("stars",),
    "{{ e.artifacts.rate.label }}{{ e.seed.data.text }}": ("label", "text"),
    "x": (),
}
OVER = ["over_1", "over_2"]

# ("text" | "stars" | "unread", member, value), ("gone", member), ("glob" | "prompt" | "missing",
# job over others, value), ("artifact" | "letter" | "result", job).
Edit = tuple[Any, ...]
members = st.sampled_from(MEMBERS)
overs = st.sampled_from(OVER)
EDITS = st.one_of(
    st.tuples(st.just("text"), members, st.sampled_from(TEXTS)),
    st.tuples(st.just("stars"), members, st.integers(1, 2)),
    st.tuples(st.just("unread"), members, st.integers(1, 3)),
    st.tuples(st.just("gone"), members),
    st.tuples(st.just("glob"), overs, st.sampled_from(GLOBS)),
    st.tuples(st.just("prompt"), overs, st.sampled_from(sorted(PROMPTS))),
    st.tuples(st.just("missing"), overs, st.sampled_from(["fail", "skip", 0.6])),
    st.tuples(st.sampled_from(["artifact", "letter", "result"]), members | overs),
)
STEPS = st.lists(st.lists(EDITS, min_size=1, max_size=3), min_size=2, max_size=6)


@dataclass
class Over:
    """A job over others, and what it was last made from."""

    glob: str
    prompt: str
    missing: str | float = "fail"
    made_from: str = ""


@dataclass
class Oracle:
    """The inputs, and every prompt that was ever paid for."""

    seeds: dict[str, dict[str, Any]]
    overs: dict[str, Over]
    bought: set[str] = field(default_factory=set)

    def apply(self, edit: Edit) -> None:
        match edit:
            case ("text" | "stars" | "unread" as name, job, value):
                self.seeds.setdefault(job, {"text": "good", "stars": 1})[name] = value
            case ("gone", job):
                self.seeds.pop(job, None)
            case ("glob" | "prompt" | "missing" as name, job, value):
                setattr(self.overs[job], name, value)
            case (_, job) if job in self.overs:
                self.overs[job].made_from = ""

    def matching(self, job: str) -> list[str]:
        return [each for each in sorted(self.seeds) if fnmatchcase(each, self.overs[job].glob)]

    def members(self, job: str) -> list[str]:
        """The jobs that a group has: those that pass."""
        return [each for each in self.matching(job) if self.seeds[each]["text"] in LABELS]

    def can_be_built(self, job: str) -> bool:
        """Whether enough of the jobs below are there."""
        there, whole = len(self.members(job)), len(self.matching(job))
        missing = self.overs[job].missing
        share = float(missing != "skip") if isinstance(missing, str) else missing
        return there > 0 and there >= share * whole

    def pieces(self, job: str) -> list[str]:
        """What the prompt says of each job."""
        fields = PROMPTS[self.overs[job].prompt]
        said = [
            {**self.seeds[each], "id": each, "label": LABELS[self.seeds[each]["text"]]}
            for each in self.members(job)
        ]
        return ["".join(str(each[name]) for name in fields) or "x" for each in said]

    def prompt(self, job: str) -> str:
        if job in self.seeds:
            return f"{job} {self.seeds[job]['text']}"
        return " ".join([job, *self.pieces(job)])

    def build(self) -> tuple[list[str], list[str]]:
        """The jobs over others that run, and the prompts that are paid for."""
        runs = []
        for job, over in self.overs.items():
            made_from = json.dumps([over.prompt, self.members(job), self.pieces(job)])
            if self.can_be_built(job) and over.made_from != made_from:
                over.made_from = made_from
                runs.append(job)
        asks = {self.prompt(job) for job in (*self.seeds, *runs)} - self.bought
        self.bought |= asks
        return runs, sorted(asks)


def answer(request: Request) -> Reply:
    said = request.said("user")
    if request.schema is None:
        return Reply(f"Of {said}.")
    return Reply(json.dumps({"label": LABELS.get(said.split()[1], "?"), "why": said}))


# --- popbuild ---


def write(oracle: Oracle, workspace: Workspace) -> None:
    """The oracle's inputs as files."""
    for job in MEMBERS:
        path = workspace.root / f"seeds/{job}.json"
        if job in oracle.seeds:
            workspace.seed(job, oracle.seeds[job])
        else:
            path.unlink(missing_ok=True)
    for job, over in oracle.overs.items():
        seed = {"name": job, "pipeline": job, "jobs": {"group": over.glob}, "data": {}}
        workspace.write(f"seeds/{job}.json", seed | {"missing": over.missing})
        prompt = f"{{{{ seed.name }}}} {{% for e in jobs.group %}}{over.prompt} {{% endfor %}}"
        workspace.write(f"pipeline-config/pipelines/{job}/tasks/sum/prompt.md", prompt)


def write_pipelines(workspace: Workspace) -> None:
    gate = {"gate": {"refinements": 0}}
    prompt = "{{ seed.name }} {{ seed.data.text }}"
    workspace.task("rate", prompt, schema=SCHEMA, task_yaml=gate)
    workspace.pipeline(["rate"])
    for name in OVER:
        folder = f"pipeline-config/pipelines/{name}"
        body = {"name": name, "tasks": ["sum"], "taskConfig": {"sum": {"model": MODEL}}}
        workspace.write(f"{folder}/pipeline.json", body)
        workspace.write(f"{folder}/tasks/index.yaml", "sum: ./sum\n")


def delete(edit: Edit, workspace: Workspace) -> None:
    folder = workspace.job(str(edit[1]))
    match edit[0]:
        case "artifact":
            paths = [*folder.glob("files/artifacts/*")]
        case "letter":
            paths = [*folder.glob("tasks/*/letter.json")]
        case "result":
            shutil.rmtree(folder, ignore_errors=True)
            return
        case _:
            return
    for path in paths:
        path.unlink()


@pytest.mark.slow
def test_only_what_changed_below_is_asked_above(provider: Provider, tmp_path: Path) -> None:
    """Whatever was edited, a build asks what an oracle finds necessary; of the jobs over others
    those run that can, and of which something that they read is another; each says which jobs it
    was made of. A second build does nothing."""
    provider.answer = answer
    folders = (tmp_path / str(number) for number in itertools.count())

    @settings(max_examples=int(EXAMPLES or 6), derandomize=EXAMPLES is None)
    @given(STEPS)
    def check(steps: list[list[Edit]]) -> None:
        folder = next(folders)
        with Workspace(folder, provider) as workspace:
            follow(steps, workspace)
        shutil.rmtree(folder)

    check()


def follow(steps: list[list[Edit]], workspace: Workspace) -> None:
    assert workspace.provider is not None
    seeds = {job: {"text": "good", "stars": 1} for job in MEMBERS[:4]}
    first, second = sorted(PROMPTS)[1:3]
    oracle = Oracle(seeds, {OVER[0]: Over("a_*", first), OVER[1]: Over("[ab]_*", second)})
    write_pipelines(workspace)
    for number, step in enumerate(([], *steps)):
        note(f"step {number}: {step}")
        for edit in step:
            oracle.apply(edit)
            delete(edit, workspace)
        write(oracle, workspace)
        runs, asks = oracle.build()
        before, lines = len(workspace.provider.requests), len(workspace.runs())
        result = workspace.popbuild("run", "--continue")
        assert asked(workspace, before) == asks, result
        ran = {line["id"] for line in workspace.runs()[lines:]}
        assert sorted(ran & set(OVER)) == runs, result
        is_whole = all(seed["text"] in LABELS for seed in oracle.seeds.values())
        assert (result.code == 0) == (is_whole and all(map(oracle.can_be_built, OVER))), result
        for job in filter(oracle.can_be_built, OVER):
            groups = workspace.letter(job, "sum")["jobs"]
            assert groups["group"]["ids"] == oracle.members(job)
            said = workspace.artifact(job, "sum")["content"]
            assert said == f"Of {oracle.prompt(job)}."
        tree = workspace.tree("pipeline-data")
        assert workspace.popbuild("run", "--continue").code == result.code
        assert asked(workspace, before) == asks
        assert workspace.tree("pipeline-data") == tree


def asked(workspace: Workspace, since: int) -> list[str]:
    assert workspace.provider is not None
    return sorted(each.said("user") for each in workspace.provider.requests[since:])
