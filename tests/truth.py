"""Truth tables of dependencies: what a change makes run, what it asks, what it says.

A table is a text with a line for each change, and below it the reasons that `popbuild status` gives
before the run:

    change                         | runs         | asks       | code

    seed field printed             | lead facts   | lead facts | 0
        lead: seed:/data/topic changed

`runs` are the tasks whose stages run, `asks` those whose requests reach the provider; one that
runs and does not ask found its answer in the store. Of a task over items, `rate-1,2` runs the items
with these keys, and prompts that begin with `rate-bad:` and `rate-odd:` ask as `rate-bad,odd`.
`code` is the exit code of the run. That a task below a stale one is stale as well is left out, and
checked all the same.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import Result
from provider import Provider, Reply, Request
from workspace import Workspace


@dataclass(frozen=True)
class Around:
    """How commands run after a change: with these variables, and after this line of Python."""

    env: Mapping[str, str] = field(default_factory=dict)
    python: str = ""


Change = Callable[[Workspace], Around | None]


@dataclass(frozen=True)
class Row:
    """`reasons` are those of the table, by task."""

    change: str
    runs: list[str]
    asks: list[str]
    code: int
    reasons: Mapping[str, list[str]]


@dataclass(frozen=True)
class Table:
    """`needs` are all tasks in their order, each with those that it needs. `name` is what the table
    calls a task of a job, `key` what it calls an item. `items_of` is a job of
    which `explain` says beforehand which items will run."""

    rows: list[Row]
    changes: Mapping[str, Change]
    needs: Mapping[str, list[str]]
    name: Callable[[str, str], str] = lambda job, task: task
    key: Callable[[str], str] = lambda key: key
    items_of: str = ""

    def __post_init__(self) -> None:
        assert [row.change for row in self.rows] == list(self.changes)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """By their tasks; those of items by their own names."""
        order = list(self.needs)

        def place(name: str) -> tuple[int, str]:
            task = name if name in self.needs else name.rpartition("-")[0]
            return order.index(task), name

        return sorted(names, key=place)


def rows(text: str) -> list[Row]:
    return list(_rows([line for line in text.splitlines() if line]))


def _rows(lines: list[str]) -> Iterator[Row]:
    assert lines.pop(0).split() == ["change", "|", "runs", "|", "asks", "|", "code"]
    while lines:
        change, runs, asks, code = (cell.strip() for cell in lines.pop(0).split("|"))
        reasons: dict[str, list[str]] = {}
        while lines and lines[0].startswith(" "):
            tasks, _, given = lines.pop(0).strip().partition(": ")
            for task in tasks.split():
                reasons.setdefault(task, []).extend(given.split("; "))
        yield Row(change, _names(runs), _names(asks), int(code), reasons)


def _names(cell: str) -> list[str]:
    """`sum rate-1,2` as three names."""
    groups = (each.partition("-") for each in cell.split())
    return [f"{task}{dash}{item}" for task, dash, items in groups for item in items.split(",")]


# --- the roots ---

Built = tuple[Provider, Path]


def built(
    folder: Path, write: Callable[[Workspace], object], answer: Callable[[Request], Reply]
) -> Iterator[Built]:
    """A root in which all jobs are built, and their provider."""
    with Provider() as provider:
        provider.answer = answer
        with Workspace(folder, provider) as workspace:
            write(workspace)
            result = workspace.popbuild("run")
            assert result.code == 0, result.err
            yield provider, workspace.root


def copied(built: Built, folder: Path) -> Iterator[Workspace]:
    """A copy of that root for one row."""
    provider, root = built
    with Workspace(folder, provider) as workspace:
        shutil.copytree(root, workspace.root, dirs_exist_ok=True)
        yield workspace


# --- changes ---


def edit(
    workspace: Workspace, path: str, part: Callable[[Any], Any], members: Mapping[str, Any]
) -> None:
    """Set members of one part of a JSON file; those that are None go."""
    body = workspace.read(path)
    part(body).update(members)
    for name in [name for name, value in members.items() if value is None]:
        del part(body)[name]
    workspace.write(path, body)


def config(task: str, **settings: Any) -> Change:
    path = "pipeline-config/pipeline.json"
    return lambda workspace: edit(workspace, path, lambda body: body["taskConfig"][task], settings)


def replace(path: str, old: str, new: str) -> Change:
    """Replace a text in a file of pipeline-config/."""

    def change(workspace: Workspace) -> None:
        text = (workspace.root / "pipeline-config" / path).read_text()
        assert old in text
        workspace.write(f"pipeline-config/{path}", text.replace(old, new, 1))

    return change


def new(path: str, content: object = "x") -> Change:
    """Write a file of pipeline-config/."""

    def change(workspace: Workspace) -> None:
        workspace.write(f"pipeline-config/{path}", content)

    return change


def remove(path: str) -> Change:
    """Remove a file or a folder below the root."""

    def change(workspace: Workspace) -> None:
        gone = workspace.root / path
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

    return change


def move(*moves: tuple[str, str]) -> Change:
    def change(workspace: Workspace) -> None:
        for source, target in moves:
            (workspace.root / source).rename(workspace.root / target)

    return change


def touched(workspace: Workspace) -> None:
    for path in workspace.root.rglob("*"):
        path.touch()


def another_root(workspace: Workspace) -> None:
    """Each row works in a copy of the root already: without what is private to the first root,
    it is another one that seeds, configuration and jobs were copied to."""
    shutil.rmtree(workspace.root / ".popbuild")


def nothing(workspace: Workspace) -> None:
    pass


def both(*changes: Change) -> Change:
    def change(workspace: Workspace) -> None:
        for each in changes:
            each(workspace)

    return change


# --- the test ---


def follow(table: Table, row: Row, workspace: Workspace) -> None:
    """After a change exactly the tasks run whose result can differ, only new requests are sent,
    the reasons are given before, and a second run does nothing more."""
    provider = workspace.provider
    assert provider
    around = table.changes[row.change](workspace) or Around()
    calls, before = len(provider.requests), logs(table, workspace)
    assert_reasons(table, row, told(table, popbuild(workspace, around, "status", "--json")))
    assert (logs(table, workspace), asked(table, provider, calls)) == (before, [])
    if table.items_of and row.code == 0:
        told_of = popbuild(workspace, around, "explain", table.items_of, "--json")
        items = [each for each in row.runs if each not in table.needs]
        assert table.in_order(foretold(table, told_of)) == items
    result = popbuild(workspace, around, "run")
    assert result.code == row.code, result.out + result.err
    assert ran(table, logs(table, workspace) - before) == row.runs
    assert asked(table, provider, calls) == row.asks
    calls, before = len(provider.requests), logs(table, workspace)
    again = popbuild(workspace, around, "run")
    assert again.code == row.code
    assert asked(table, provider, calls) == []
    if row.code != 2:  # what crashed is tried again
        assert logs(table, workspace) == before
    if row.code == 0:
        states = {line.split(maxsplit=2)[2] for line in again.out.splitlines()}
        assert states == {"up to date"}
        for path in (workspace.root / "seeds").glob("*.json"):
            job = workspace.job(path.stem)
            assert same(json.loads((job / "seed.json").read_bytes()), json.loads(path.read_bytes()))


def same(one: object, other: object) -> bool:
    """As JSON, to which 3 is not 3.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def popbuild(workspace: Workspace, around: Around, *args: str) -> Result:
    if not around.python:
        return workspace.popbuild(*args, env=around.env)
    code = f"{around.python}\nfrom popbuild.cli.main import entry\nentry()"
    return workspace.run("python", "-c", code, *args, env=around.env)


def told(table: Table, status: Result) -> dict[str, list[str]]:
    """The reasons that `popbuild status --json` gives for each task, an edit by hand among them;
    no task that has none."""
    assert status.code == 0, status.err
    found: dict[str, list[str]] = {}
    for job in json.loads(status.out):
        for task, body in job["tasks"].items():
            # Of a seed that cannot be read it is unknown, null, and no reason is given.
            assert bool(body["stale"]) == bool(body["reasons"])
            name = table.name(job["id"], task)
            found.setdefault(name, []).extend(body["reasons"])
            found[name] += ["edited by hand"] if body["edited"] else []
    return {task: reasons for task, reasons in found.items() if reasons}


def foretold(table: Table, explained: Result) -> Iterator[str]:
    """The items that are to be run."""
    assert explained.code == 0, explained.err
    for each in json.loads(explained.out):
        for key in each.get("items", {}).get("toRun", {}):
            yield f"{each['task']}-{table.key(key)}"


def assert_reasons(table: Table, row: Row, told: Mapping[str, list[str]]) -> None:
    """The table's reasons, and for the tasks below a stale one that it is. What follows a reason
    after a colon, the difference say, is left to tests of its own."""
    needs_of = table.needs
    wanted = {task: list(row.reasons.get(task, [])) for task in needs_of}
    stale = {task for task, reasons in wanted.items() if set(reasons) - {"edited by hand"}}
    for task, needs in needs_of.items():
        below = [f"upstream {need} is stale" for need in needs if need in stale]
        stale |= {task} if below else set()
        unknown = wanted[task] in (["never built"], ["letter damaged or altered"])
        wanted[task] += [] if unknown else below
    given = {task: list(told.get(task, [])) for task in needs_of}
    for task, reasons in given.items():
        reasons[:] = [
            next((each for each in wanted[task] if reason.startswith(f"{each}:")), reason)
            for reason in reasons
        ]
        assert sorted(reasons) == sorted(wanted[task]), (task, told)


def logs(table: Table, workspace: Workspace) -> set[tuple[str, bytes]]:
    """What every task and every item that ever ran has logged, with times: each run makes
    another."""
    found: set[tuple[str, bytes]] = set()
    for path in workspace.root.glob("pipeline-data/*/*/tasks/*/*"):
        name = table.name(path.parts[-4], path.parent.name)
        if path.name == "execution-logs.json":
            found.add((name, path.read_bytes()))
        elif path.name == "items.jsonl":
            found |= {(f"{name}-{table.key(key)}", line) for key, line in _receipts(path)}
    return found


def _receipts(path: Path) -> Iterator[tuple[str, bytes]]:
    """The receipts in a file with their keys. One that is torn is none."""
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            body = json.loads(line)
            if "key" in body:
                yield body["key"], line


def ran(table: Table, logs: Iterable[tuple[str, bytes]]) -> list[str]:
    """The tasks that ran, by their new logs. One of which items ran goes without saying."""
    names = [name for name, _ in logs]
    of_items = {each.rpartition("-")[0] for each in names if each not in table.needs}
    return table.in_order(each for each in names if each not in of_items)


def asked(table: Table, provider: Provider, since: int) -> list[str]:
    """What the provider was asked, by the beginnings of the prompts."""
    return table.in_order(_text(each).partition(":")[0] for each in provider.requests[since:])


def _text(request: Request) -> str:
    """The text of a prompt, beside which files may be attached."""
    content = request.messages[-1]["content"]
    return content if isinstance(content, str) else next(e["text"] for e in content if "text" in e)
