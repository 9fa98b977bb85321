"""Whatever was edited, and whenever: an index says what is said without one."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from provider import Provider
from workspace import Workspace

from popbuild.base import file_clock
from popbuild.base.paths import Root
from popbuild.jobs import lookup
from popbuild.jobs.index import Index
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.config import config

EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")
JOBS = ("first", "second", "other")
TASKS = ("research", "analysis")
Edit = tuple[Any, ...]


@dataclass
class FakeClock:
    """The clock of a file system that shows nothing of an edit but its time of change: the time of
    the last change to the content is always put back, and no edit changes a file's size.

    Files that are edited between two ticks get the same time. A clock that is moved back never
    comes by a time of before exactly: that is what is left to chance.
    """

    now_ns: int = 10**18
    changed: dict[int, int] = field(default_factory=dict)  # by inode
    _odd: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def move(self, by_ns: int) -> None:
        self.now_ns += by_ns + next(self._odd) * 7

    def touch(self, path: Path) -> None:
        self.changed[path.stat().st_ino] = self.now_ns

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, this is what popbuild sees."""
        with (
            mock.patch.object(os, "lstat", self._seen(os.lstat)),
            mock.patch.object(os, "fstat", self._seen(os.fstat)),
            mock.patch.object(
                file_clock,
                "now",
                lambda folder: file_clock.Moment(self.now_ns, folder.parent.stat().st_dev),
            ),
        ):
            yield

    def _seen(self, look: Callable[..., os.stat_result]) -> Callable[..., Any]:
        def seen(*given: Any, **more: Any) -> Any:
            found = look(*given, **more)
            return SimpleNamespace(
                st_mode=found.st_mode,
                st_size=found.st_size,
                st_mtime_ns=0,
                st_ctime_ns=self.changed.get(found.st_ino, 0),
                st_ino=found.st_ino,
                st_dev=found.st_dev,
            )

        return seen


# --- edits: each of them undoes itself when it is done again ---


def toggle(path: Path, clock: FakeClock, one: bytes, other: bytes, *, anew: bool = False) -> None:
    """Exchange two texts of one length in a file, in place or in a new file."""
    if not path.is_file():
        return
    data = path.read_bytes()
    new = data.replace(one, other) if one in data else data.replace(other, one)
    if anew:
        path.with_name("anew").write_bytes(new)
        path.with_name("anew").rename(path)
    else:
        with path.open("r+b") as file:
            file.write(new)
    clock.touch(path)


def apply(edit: Edit, root: Path, clock: FakeClock) -> None:
    match edit:
        case ("toggle", place, text, anew):
            toggle(root / place, clock, text.encode(), text.swapcase().encode(), anew=anew)
        case ("exchange", one, other, below):
            aside = root / "aside"
            paths = [root / COMPLETE / job / below for job in (one, other)]
            paths[0].rename(aside)
            paths[1].rename(paths[0])
            aside.rename(paths[1])
        case ("leftover", job):
            current = root / "pipeline-data/current" / job
            if current.exists():
                shutil.rmtree(current)
            else:
                shutil.copytree(root / COMPLETE / job, current)
        case ("sample", job):
            path = root / f"samples/{job}.json"
            if path.exists():
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text('{"research": 1}')
                clock.touch(path)
        case ("frozen", job):
            path = root / f".popbuild/frozen/{job}.json"
            path.parent.mkdir(exist_ok=True)
            if path.exists():
                path.unlink()
            else:
                path.write_text('["research"]')
        case ("clock", by_ns):
            clock.move(by_ns)
        case _:
            raise ValueError(edit)


def of_jobs(*places: str) -> st.SearchStrategy[str]:
    return st.builds(str.format, st.sampled_from(places), job=a_job, task=a_task)


COMPLETE = "pipeline-data/complete"
a_job, a_task = st.sampled_from(JOBS), st.sampled_from(TASKS)
toggles = {
    '"content"': f"{COMPLETE}/{{job}}/files/artifacts/{{task}}-output.json",
    "st": f"{COMPLETE}/{{job}}/tasks/{{task}}/letter.json",
    "grid": f"{COMPLETE}/{{job}}/seed.json",
    '"done"': f"{COMPLETE}/{{job}}/tasks-status.json",
    "plain": "seeds/{job}.json",
    "batteries": "seeds/{job}.json",
    "of": "pipeline-config/tasks/{task}/prompt.md",
}
a_toggle = st.one_of(
    st.tuples(st.just("toggle"), of_jobs(place), st.just(text), st.booleans())
    for text, place in toggles.items()
)
an_exchange = st.builds(
    lambda pair, below: ("exchange", *pair[:2], below),
    st.permutations(JOBS),
    st.sampled_from(["", "tasks", "files"]),
)
a_mark = st.tuples(st.sampled_from(["leftover", "frozen", "sample"]), a_job)
a_clock = st.tuples(
    st.just("clock"),
    st.sampled_from([4_000_000, 90_000_000, 1_000_000_000, 10_000_000_000, -5_000_000_000]),
)
a_look = st.just(("look",))


@st.composite
def scenarios(draw: st.DrawFn) -> list[Edit]:
    """Few edits, again and again: that is where something that is stale may look as it was."""
    edits = draw(st.lists(st.one_of(a_toggle, an_exchange, a_mark), min_size=1, max_size=2))
    edit = st.sampled_from(edits)
    return draw(st.lists(st.one_of(edit, edit, a_look, a_look, a_clock), min_size=6, max_size=20))


# --- the test ---


@pytest.fixture
def built(workspace: Workspace) -> Root:
    """Complete jobs of two pipelines."""
    for job in JOBS:
        pipeline = {"pipeline": "more"} if job == "other" else {}
        data = {"topic": f"grid batteries of {len(job)}", "tone": "plain"}
        workspace.write(f"seeds/{job}.json", {"name": job, "data": data, **pipeline})
    workspace.task("research", prompt="Research of {{ seed.data.topic }}.\n")
    shutil.copytree(
        workspace.root / "pipeline-config/tasks",
        workspace.root / "pipeline-config/pipelines/more/tasks",
    )
    pipeline = workspace.read("pipeline-config/pipeline.json")
    workspace.write("pipeline-config/pipelines/more/pipeline.json", {**pipeline, "name": "more"})
    assert workspace.popbuild("run").code == 0
    return Root(workspace.root)


def said(found: lookup.Job) -> dict[str, Any]:
    """Everything that is told of a job."""
    verdicts = found.exam.verdicts if found.exam else {}
    return {
        "state": found.state,
        "description": found.description,
        "up to date": found.up_to_date,
        "folder": found.folder and str(found.folder.path),
        "tasks": {name: str(verdict) for name, verdict in sorted(verdicts.items())},
    }


@pytest.mark.slow
def test_an_index_says_what_is_said_without_one(
    built: Root, provider: Provider, tmp_path: Path
) -> None:
    """After any sequence of edits that keep sizes and times, within a tick or over many, with the
    clock moved back or not, every verdict is the one of a look at all files."""
    calls = len(provider.requests)
    numbers, known = itertools.count(), list[str]()
    with mock.patch.dict(os.environ, provider.environment()):

        @settings(
            max_examples=int(EXAMPLES or 30),
            derandomize=EXAMPLES is None,
        )
        @given(scenarios())
        def check(steps: list[Edit]) -> None:
            root = Root(tmp_path / f"copy-{next(numbers)}")
            shutil.copytree(built.path, root.path)
            clock = FakeClock()
            for step in [("look",), *steps, ("look",), ("clock", 1_000_000_000), ("look",)]:
                note(f"{clock.now_ns}: {step}")
                if step != ("look",):
                    apply(step, root.path, clock)
                    continue
                with clock.shown():
                    around = Surroundings(config.load(root))
                    wanted = {job: said(lookup.find(job, around)) for job in JOBS}
                    with Index(around, JOBS) as index:
                        known.extend(job for job in JOBS if index.knows(job))
                        found = {job: said(index.find(job)) for job in JOBS}
                assert found == wanted
            shutil.rmtree(root.path)

        check()
    assert len(known) > 50, "the index was hardly ever asked"
    assert len(provider.requests) == calls
