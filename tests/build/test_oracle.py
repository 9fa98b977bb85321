"""Random pipelines and edits: what popbuild builds, asks and makes, against an oracle that knows
nothing of letters, digests and traces."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import jinja2
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from provider import Provider, Reply, Request
from workspace import Workspace

# A number here tries that many examples, other ones each time; without it, the same few.
EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")

# --- what a pipeline is made of ---

# Few values: many edits go back to what was built before, and many requests are the same.
ABSENT = "absent"
FIELDS: dict[str, list[Any]] = {
    "word": ["x", "y", 1, 1.0, True, None],
    "other": ["x", "y"],
    "list": [[], ["p"], ["p", "q"], ["q", "p"]],
    "object": [{"k": "v"}, {"k": "v", "m": 1}, {"m": 1, "k": "v"}, {"k": "w", "m": 1}],
    "optional": [ABSENT, "x", "y"],
    "unread": [ABSENT, "x", "y"],
}
SHARED = ["Be brief.", "Be kind.", "Be {{ seed.data.other }}."]
FILES = ["# One\n\nSome text.\n", "# One\n\nMore text.\n", "# Two\n\nSome text.\n"]
TEMPERATURES = [None, 0.25, 0.75]
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["title", "score"],
}

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A piece of a template, and the places whose values it shows."""

    text: str
    reads: tuple[Path_, ...]


def of_seed(text: str, *path: str) -> Part:
    return Part(text, (("seed", "data", *path),))


SEED_PARTS = [
    Part("Fixed.", ()),
    of_seed("{{ seed.data.word }}", "word"),
    of_seed("{{ seed.data.other | upper }}", "other"),
    of_seed("List: {% for each in seed.data.list %}{{ each }}, {% endfor %}", "list"),
    of_seed("{{ seed.data.list | length }}", "list"),
    of_seed("{{ seed.data.object }}", "object"),
    of_seed("Keys: {% for each in seed.data.object %}{{ each }}, {% endfor %}", "object"),
    of_seed("{{ seed.data.object.k }}", "object", "k"),
    of_seed("{{ seed.data.object.m | default('-') }}", "object", "m"),
    of_seed("It: {% if seed.data.optional is defined %}optional{% endif %}", "optional"),
    of_seed("{{ seed.data.get('optional', '-') }}", "optional"),
    Part("{% include 'shared.md' %}", (("shared",),)),
    Part("{{ files.doc.text }}", (("files", "doc", "text"),)),
    Part("{{ files.doc.title | upper }}", (("files", "doc", "title"),)),
]


def artifact_parts(task: str, is_json: bool) -> list[Part]:
    """Of an artifact that may not be there: its task may be skipped."""
    names = ["title", "score"] if is_json else ["content"]
    there = f"{{% if artifacts.{task} is defined %}}{{{{ artifacts.{task}"
    one = [
        Part(f"{there}.{n} }}}}{{% else %}}none{{% endif %}}", (("artifacts", task, n),))
        for n in names
    ]
    return [*one, Part(f"{there} }}}}{{% else %}}none{{% endif %}}", (("artifacts", task),))]


# Conditions: expressions, and the places that each reads.
SEED_CONDITIONS = [
    of_seed("seed.data.other == 'x'", "other"),
    of_seed("seed.data.optional is defined", "optional"),
    of_seed("seed.data.list", "list"),
    Part("files.doc.title == 'One'", (("files", "doc", "title"),)),
]


def artifact_conditions(task: str, is_json: bool) -> list[Part]:
    name, value = ("title", "title 0") if is_json else ("content", "word 0")
    there = f"artifacts.{task} is defined"
    place = ("artifacts", task, name)
    return [Part(f"{there} and artifacts.{task}.{name} != '{value}'", (place,))]


@dataclass(frozen=True)
class Task:
    """`prompts` and `conditions` are the versions that edits choose among."""

    name: str
    needs: tuple[str, ...]
    is_json: bool
    prompts: tuple[tuple[Part, ...], ...]
    conditions: tuple[Part | None, ...]


# A kind, and what it is about: ("field", name, value), ("prompt", task, version),
# ("condition", task, version), ("temperature", task, value), ("shared", text), ("file", text),
# ("artifact", task), ("letter", task).
Edit = tuple[Any, ...]


@dataclass(frozen=True)
class Scenario:
    """Each step is several edits, and a build."""

    tasks: tuple[Task, ...]
    data: Mapping[str, Any]
    steps: tuple[tuple[Edit, ...], ...]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    tasks: list[Task] = []
    for number in range(draw(st.integers(2, 5))):
        needs = [each for each in tasks if draw(st.booleans())]
        parts = SEED_PARTS + [p for each in needs for p in artifact_parts(each.name, each.is_json)]
        prompt = st.lists(st.sampled_from(parts), min_size=1, max_size=3).map(tuple)
        prompts = draw(st.lists(prompt, min_size=2, max_size=3))
        names = tuple(each.name for each in needs)
        above = (artifact_conditions(each.name, each.is_json) for each in needs)
        asked = [*SEED_CONDITIONS, *itertools.chain.from_iterable(above)]
        conditions = tuple(draw(st.sampled_from([None, None, *asked])) for _ in range(2))
        tasks.append(Task(f"t{number}", names, draw(st.booleans()), tuple(prompts), conditions))
    everyone = st.sampled_from([each.name for each in tasks])
    edits = st.one_of(
        *(st.tuples(st.just("field"), st.just(n), st.sampled_from(v)) for n, v in FIELDS.items()),
        *(
            st.tuples(st.just("prompt"), st.just(each.name), st.integers(0, len(each.prompts) - 1))
            for each in tasks
        ),
        st.tuples(st.just("condition"), everyone, st.integers(0, 1)),
        st.tuples(st.just("temperature"), everyone, st.sampled_from(TEMPERATURES)),
        st.tuples(st.just("shared"), st.sampled_from(SHARED)),
        st.tuples(st.just("file"), st.sampled_from(FILES)),
        st.tuples(st.sampled_from(["artifact", "letter"]), everyone),
    )
    step = st.lists(edits, min_size=1, max_size=3).map(tuple)
    steps = draw(st.lists(step, min_size=1, max_size=6))
    data = {name: draw(st.sampled_from(values)) for name, values in FIELDS.items()}
    return Scenario(tuple(tasks), data, tuple(steps))


# --- what a model answers ---


def answer_text(messages: Any, temperature: Any, schema: Any) -> str:
    """One of few answers, so that different requests often get the same one; the keys of an
    object in either order."""
    number = int(hashlib.sha256(key(messages, temperature, schema).encode()).hexdigest(), 16)
    if schema is None:
        return f"word {number % 3}"
    members = [("title", f"title {number % 3}"), ("score", number // 3 % 3)]
    return json.dumps(dict(members if number % 2 else members[::-1]))


def answer(request: Request) -> Reply:
    return Reply(answer_text(*asked(request)))


def asked(request: Request) -> tuple[Any, Any, Any]:
    return request.messages, request.body.get("temperature"), request.schema


def key(*values: Any) -> str:
    """Equal for what is equal as JSON: to Python, 1 is 1.0 and true."""
    return json.dumps(values, sort_keys=True)


# --- the oracle ---


@dataclass
class Oracle:
    """The inputs as they are, the requests that were ever paid for, and what each task was last
    made from."""

    tasks: tuple[Task, ...]
    data: dict[str, Any]
    prompts: dict[str, tuple[Part, ...]]
    temperatures: dict[str, float | None]
    conditions: dict[str, Part | None]
    shared: str = SHARED[0]
    file: str = FILES[0]
    bought: set[str] = field(default_factory=set)
    made_from: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def apply(self, edit: Edit) -> None:
        match edit:
            case ("field", name, value):
                self.data[name] = value
            case ("prompt", name, version):
                self.prompts[name] = self._task(name).prompts[version]
            case ("condition", name, version):
                self.conditions[name] = self._task(name).conditions[version]
            case ("temperature", name, value):
                self.temperatures[name] = value
            case ("shared", text):
                self.shared = text
            case ("file", text):
                self.file = text
            case ("artifact", name) if name in self.skipped:
                pass  # there is none
            case ("artifact" | "letter", name):
                self.made_from.pop(name, None)
            case _:
                raise ValueError(edit)

    def _task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    @property
    def seed(self) -> Any:
        data = {name: value for name, value in self.data.items() if value is not ABSENT}
        return {"name": "job", "files": {"doc": "inputs/doc.md"}, "data": data}

    def build(self) -> tuple[list[str], list[str], dict[str, Any]]:
        """The least that can be done: the tasks that must run, the requests that must be paid for,
        and the artifacts after it."""
        title = self.file.partition("\n")[0].removeprefix("# ")
        documents = {
            "seed": in_order(self.seed),
            "files": {"doc": {"text": self.file, "title": title}},
            "artifacts": {},
            "shared": self.shared,
        }
        runs, asks = [], []
        self.skipped.clear()
        for task in self.tasks:
            condition = self.conditions[task.name]
            decided = self._values(condition.reads if condition else (), documents)
            if condition is not None and not self._holds(condition.text, documents):
                self.skipped.add(task.name)
                skip = key("skipped", condition.text, decided)
                if self.made_from.get(task.name) != skip:
                    self.made_from[task.name] = skip
                    runs.append(task.name)
                continue
            made_from = key(condition and condition.text, decided, self._made_from(task, documents))
            request = self._request(task, documents)
            if self.made_from.get(task.name) != made_from:
                self.made_from[task.name] = made_from
                runs.append(task.name)
                if key(*request) not in self.bought:
                    self.bought.add(key(*request))
                    asks.append(key(*request))
            text = answer_text(*request)
            value = json.loads(text) if task.is_json else {"content": text}
            documents["artifacts"][task.name] = dict(sorted(value.items()))
        return runs, asks, documents["artifacts"]

    def _made_from(self, task: Task, documents: Mapping[str, Any]) -> str:
        paths = {path for part in self.prompts[task.name] for path in part.reads}
        if ("shared",) in paths and "other" in self.shared:
            paths.add(("seed", "data", "other"))
        values = self._values(paths, documents)
        return key(self.template(task), self.temperatures[task.name], values)

    @staticmethod
    def _values(paths: Iterable[Path_], documents: Mapping[str, Any]) -> dict[str, Any]:
        return {".".join(path): value_at(documents, path) for path in paths}

    @staticmethod
    def _holds(expression: str, documents: Mapping[str, Any]) -> bool:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - no web page
        return bool(environment.compile_expression(expression)(documents))

    def _request(self, task: Task, documents: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        files = jinja2.DictLoader({"shared.md": self.shared})
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=files)  # noqa: S701 - prompts are no web pages
        text = environment.from_string(self.template(task)).render(documents).strip()
        schema = SCHEMA if task.is_json else None
        return [{"role": "user", "content": text}], self.temperatures[task.name], schema

    def template(self, task: Task) -> str:
        return " ".join(part.text for part in self.prompts[task.name])


def in_order(value: Any) -> Any:
    """A copy whose keys are sorted: their order in a file is none that a prompt may show."""
    return json.loads(json.dumps(value, sort_keys=True))


def value_at(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        if name not in document:
            return ABSENT
        document = document[name]
    return [document]  # apart from a text that says "absent"


# --- popbuild ---


def write(oracle: Oracle, workspace: Workspace) -> None:
    """The oracle's inputs as files."""
    workspace.write("seeds/job.json", oracle.seed)
    workspace.write("inputs/doc.md", oracle.file)
    workspace.write("pipeline-config/shared.md", oracle.shared)
    for task in oracle.tasks:
        workspace.task(
            task.name,
            prompt=oracle.template(task),
            schema=SCHEMA if task.is_json else None,
            task_yaml={"needs": list(task.needs), **when(oracle.conditions[task.name])},
        )
    temperatures = {
        name: {} if value is None else {"temperature": value}
        for name, value in oracle.temperatures.items()
    }
    workspace.pipeline([task.name for task in oracle.tasks], temperatures)


def when(condition: Part | None) -> dict[str, str]:
    return {} if condition is None else {"when": condition.text}


def delete(edit: Edit, workspace: Workspace) -> None:
    match edit:
        case ("artifact", name):
            path = workspace.job("job") / f"files/artifacts/{name}-output.json"
        case ("letter", name):
            path = workspace.job("job") / f"tasks/{name}/letter.json"
        case _:
            return
    path.unlink(missing_ok=True)


def artifacts(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.job("job") / "files/artifacts"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


BUILDS = """
import json, os, pathlib, socket, sys
from popbuild.build import session
from popbuild.base.paths import Root

os.fsync = lambda file: None  # no power is cut here, and disks are slow
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:
    with line.makefile("r") as roots, line.makefile("w") as results:
        for root in roots:
            code, (result,) = session.run(Root(pathlib.Path(root.strip())), None, ["job"])
            print(json.dumps([code, str(result.error), result.built]), file=results, flush=True)
"""


class Builds:
    """A process that builds the root that it is told, again and again: to start a command for
    each build would take many times as long."""

    def __init__(self, orders: IO[str], results: IO[str]) -> None:
        self._orders = orders
        self._results = results

    def build(self, workspace: Workspace) -> list[str]:
        """The tasks that were built, in the order of their names."""
        print(workspace.root, file=self._orders, flush=True)
        code, error, built = json.loads(self._results.readline())
        assert code == 0, error
        return sorted(built)


@pytest.fixture
def builds(workspace: Workspace) -> Iterator[Builds]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        running = workspace.start("python", "-c", BUILDS, str(server.getsockname()[1]))
        line = server.accept()[0]
        with line, line.makefile("w") as orders, line.makefile("r") as results:
            line.settimeout(PATIENCE_S)
            yield Builds(orders, results)
        assert running.wait().code == 0, running.err


# --- the test ---


@pytest.mark.slow
def test_an_incremental_build_is_a_clean_build(
    builds: Builds, provider: Provider, tmp_path: Path
) -> None:
    """Whatever was edited, a build runs the tasks and sends the requests that an oracle finds
    necessary, and no other; a clean build with the same stored answers sends nothing, and makes
    the same artifacts byte for byte; a second build does nothing."""
    provider.answer = answer
    folders = (tmp_path / str(number) for number in itertools.count())

    @settings(
        max_examples=int(EXAMPLES or 8),
        derandomize=EXAMPLES is None,
    )
    @given(scenarios())
    def check(scenario: Scenario) -> None:
        folder = next(folders)
        with Workspace(folder, provider) as workspace:
            follow(scenario, workspace, builds, folder)
        shutil.rmtree(folder)

    check()


def follow(scenario: Scenario, workspace: Workspace, builds: Builds, folder: Path) -> None:
    """Take the steps of a scenario; an empty one first, the first build."""
    oracle = Oracle(
        scenario.tasks,
        dict(scenario.data),
        {task.name: task.prompts[0] for task in scenario.tasks},
        {task.name: None for task in scenario.tasks},
        {task.name: task.conditions[0] for task in scenario.tasks},
    )
    for number, step in enumerate(((), *scenario.steps)):
        note(f"step {number}: {step}")
        for edit in step:
            oracle.apply(edit)
            delete(edit, workspace)
        write(oracle, workspace)
        runs, asks, values = oracle.build()
        sent = functools.partial(requests_since, workspace, len(provider_of(workspace).requests))
        assert (builds.build(workspace), sent()) == (runs, sorted(asks))
        made = artifacts(workspace)
        assert {name: json.loads(data) for name, data in made.items()} == {
            f"{task}-output.json": value for task, value in values.items()
        }
        assert builds.build(workspace) == []
        with Workspace(folder / f"clean-{number}", workspace.provider) as clean:
            write(oracle, clean)
            store = ".popbuild/store"
            if (workspace.root / store).exists():  # not before a task asked
                shutil.copytree(workspace.root / store, clean.root / store)
            assert builds.build(clean) == sorted(task.name for task in scenario.tasks)
            assert artifacts(clean) == made
        assert len(sent()) == len(asks)


def provider_of(workspace: Workspace) -> Provider:
    assert workspace.provider
    return workspace.provider


def requests_since(workspace: Workspace, since: int) -> list[str]:
    return sorted(key(*asked(request)) for request in provider_of(workspace).requests[since:])
