"""Every kind of dependency, as a table: what a change makes run, what it asks, what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
import truth
import two_jobs
from truth import Around, Change, Row, Table, config, edit, new, nothing, replace
from two_jobs import FACTS_SCHEMA, FIRST, NEEDS, SEED, letter_deleted, seed
from workspace import Workspace

# The jobs are those of two_jobs.py; how to read the table says truth.py.
TEXT = """
change                                     | runs                  | asks                  | code

nothing                                    |                       |                       | 0

seed field printed                         | lead facts            | lead facts            | 0
    lead: seed:/data/topic changed
seed field not printed                     |                       |                       | 0
seed field of another type                 | facts                 | facts                 | 0
    facts: seed:/data/weight changed
seed field gone that was not read          |                       |                       | 0
absent key tested, it appears              | lead facts            | lead facts            | 0
    lead: seed:/data/deadline added
absent key that was not tested appears     |                       |                       | 0
loop over a list, an item changes          | list                  | list                  | 0
    list: seed:/data/points changed
loop over a list, an item is added         | list                  | list                  | 0
    list: seed:/data/points changed
whole object printed, a member is added    | facts                 | facts                 | 0
    facts: seed:/data/audience changed
seed field read by pointer                 | check                 | check                 | 0
    check: seed:/data/tone changed
seed formatting                            |                       |                       | 0
seed formatting, then a rebuild            | facts                 |                       | 0
    facts: never built
seed becomes a row of the same values      |                       |                       | 0
seed becomes a row, field printed          | lead facts            | lead facts            | 0
    lead: seed:/data/topic changed
seed becomes a row, field not printed      |                       |                       | 0
seed becomes a row, a field's type         | facts                 | facts                 | 0
    facts: seed:/data/weight changed
seed becomes a row of a workbook           |                       |                       | 0
row among others that are odd              |                       |                       | 1

upstream value read                        | facts check           | facts check           | 0
    facts: seed:/data/angle changed
upstream value not read                    | facts                 | facts                 | 0
    facts: seed:/data/weight changed

prompt                                     | lead facts            | lead facts            | 0
    lead: file:tasks/lead/prompt.md changed
prompt, a comment in it                    | lead                  |                       | 0
    lead: file:tasks/lead/prompt.md changed
included template                          | list                  | list                  | 0
    list: file:shared/style.md changed
included template was missing, it appears  | list                  | list                  | 0
    list: file:shared/extra.md added
template that is not included              |                       |                       | 0
filters.py, the same result                | list                  |                       | 0
    list: file:filters.py changed
filters.py, another result                 | list                  | list                  | 0
    list: file:filters.py changed
module that filters.py imports             | list                  | list                  | 0
    list: file:helpers/marks.py changed
filters.py comes to import another module  | list                  |                       | 0
    list: file:filters.py changed; file:helpers/unused.py added
system message                             | lead facts            | lead facts            | 0
    lead: file:tasks/lead/system.md changed
schema                                     | facts                 | facts                 | 0
    facts: file:tasks/facts/output.schema.json changed
schema formatting                          |                       |                       | 0
schema, its properties in another order    | facts                 | facts                 | 0
    facts: file:tasks/facts/output.schema.json changed
referenced schema                          | facts                 | facts                 | 0
    facts: file:shared/title.schema.json changed
another file in a task's folder            | lead                  |                       | 0
    lead: file:tasks/lead/notes.md added
.pyc appears                               |                       |                       | 0
editor's backup appears                    |                       |                       | 0

scores.py and a module of it appear        |                       |                       | 0
score by rule, what is expected appears    |                       |                       | 0

condition, its value is another false one  | maybe                 |                       | 0
    maybe: seed:/data/mood changed
condition, its value makes it true         | maybe                 | maybe                 | 0
    maybe: seed:/data/mood changed
condition, its expression                  | maybe                 |                       | 0
    maybe: when changed
condition is removed                       | maybe                 | maybe                 | 0
    maybe: when removed
condition is added, and true               | lead                  |                       | 0
    lead: when added
prompt of a skipped task                   |                       |                       | 0
model of a skipped task                    |                       |                       | 0

model                                      | lead facts            | lead facts            | 0
    lead: setting:model changed
model, by environment                      | lead list facts check | lead list facts check | 0
    lead list facts check: setting:model changed
endpoint                                   | lead list facts check | lead list facts check | 0
    lead list facts check: endpoint changed
temperature                                | lead facts            | lead facts            | 0
    lead: setting:temperature added
unrelated setting: another task's          | list                  | list                  | 0
    list: setting:temperature added
unrelated setting: version and metadata    |                       |                       | 0
unrelated setting: timeout, a comment      |                       |                       | 0
unrelated setting: timeout of a call       |                       |                       | 0

another task, below all, is added          | more                  | more                  | 0
    more: never built
task is removed                            |                       |                       | 0

stages.py, another prompt                  | check                 | check                 | 0
    check: file:tasks/check/stages.py changed
stages.py, the same prompt                 | check                 |                       | 0
    check: file:tasks/check/stages.py changed
module that stages.py imports              | check                 | check                 | 0
    check: file:helpers/limits.py changed
module that this module imports            | check                 | check                 | 0
    check: file:helpers/numbers.py changed
module that a call names                   | check                 | check                 | 0
    check: file:helpers/named.py changed
imported module was missing, it appears    | check                 | check                 | 0
    check: file:helpers/extra.py added
module comes to shadow a standard one      | check                 |                       | 0
    check: file:textwrap.py added
module that is not imported                |                       |                       | 0
command script                             | tool                  |                       | 0
    tool: file:pipelines/tools/tasks/tool/count.sh changed
command's arguments                        | tool                  |                       | 0
    tool: command changed
command, any field of its seed             | tool                  |                       | 0
    tool: seed: changed
popbuild stage version                     | lead list facts check tool |                  | 0
    lead list facts check tool: stages changed
"""


def as_row(*before: str, **fields: Any) -> Change:
    """The seed as a row of JSON Lines, with other fields, below lines `before` it."""

    def change(workspace: Workspace) -> None:
        (workspace.root / "seeds/first.json").unlink()
        row = json.dumps({"id": "first", **SEED, **fields})
        workspace.write("seeds/table.jsonl", "\n".join([*before, row]))
        data = {name: f"{{{{ row.{name} }}}}" for name in SEED}
        spec = {"rows": "table.jsonl", "id": "{{ row.id }}", "data": data}
        workspace.write("seeds/table.yaml", json.dumps(spec))

    return change


def as_row_of_a_workbook(workspace: Workspace) -> None:
    """With the lists and objects made of cells."""
    as_row()(workspace)
    plain = {name: value for name, value in SEED.items() if isinstance(value, str | int)}
    cells = plain | SEED["audience"]
    workspace.write("seeds/table.xlsx", documents.workbook({"S": [list(cells), [*cells.values()]]}))
    own = {name: f"{{{{ row.{name} }}}}" for name in cells}
    data = {name: own[name] for name in plain}
    data |= {"points": SEED["points"], "audience": {name: own[name] for name in SEED["audience"]}}
    spec = {"rows": "table.xlsx", "id": "first", "data": data}
    workspace.write("seeds/table.yaml", json.dumps(spec))


def seed_formatting(workspace: Workspace) -> None:
    seed = workspace.read("seeds/first.json")
    for each in ("audience", None):
        part = seed["data"] if each is None else seed["data"][each]
        items = list(reversed(part.items()))
        part.clear()
        part.update(items)
    workspace.write("seeds/first.json", json.dumps(seed, indent=7))


def seed_formatting_then_a_rebuild(workspace: Workspace) -> None:
    """Its prompt prints an object whole: it finds its answer in the store."""
    seed_formatting(workspace)
    letter_deleted(workspace)


def schema_formatting(workspace: Workspace) -> None:
    path = "pipeline-config/tasks/facts/output.schema.json"
    workspace.write(path, json.dumps(workspace.read(path), indent=7))


def timeout_and_comment(workspace: Workspace) -> None:
    workspace.task("facts", task_yaml="# the facts\nneeds:   [lead]\ntimeout: 60\n")


def version_and_metadata(workspace: Workspace) -> None:
    body = workspace.read("pipeline-config/pipeline.json")
    more = {"version": "9", "description": "Another.", "metadata": {"author": "me"}}
    workspace.write("pipeline-config/pipeline.json", body | more)


def endpoint(workspace: Workspace) -> Around:
    """The same provider, by another address."""
    assert workspace.provider
    return Around({"OPENAI_BASE_URL": workspace.provider.base_url.removesuffix("/v1")})


def model_by_environment(workspace: Workspace) -> None:
    workspace.write(".env", "POPBUILD_MODEL=openai/gpt-4.1-mini\n")


def add_task(workspace: Workspace) -> None:
    prompt = "more: on {{ artifacts.check.content }}"
    workspace.task("more", prompt=prompt, task_yaml={"needs": ["check"]})
    workspace.pipeline([*FIRST, "more"])


TOOLS = "pipelines/tools/tasks"


def scores_by_rule(workspace: Workspace) -> None:
    rule = {"equals": {"expected": ""}}
    workspace.task("facts", task_yaml={"needs": ["lead"], "scores": {"said": rule}})
    workspace.write("expected/first.json", {"title": "What is expected"})


SCORES = "from . import only\n\ndef one(output, seed, expected):\n    return only.ONE\n"

CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "seed field printed": seed(topic="wind"),
    "seed field not printed": seed(note="still unread"),
    "seed field of another type": seed(weight=3.0),
    "seed field gone that was not read": seed(note=None),
    "absent key tested, it appears": seed(deadline="May"),
    "absent key that was not tested appears": seed(colour="red"),
    "loop over a list, an item changes": seed(points=["cost", "noise"]),
    "loop over a list, an item is added": seed(points=["cost", "safety", "noise"]),
    "whole object printed, a member is added": seed(audience={**SEED["audience"], "age": 9}),
    "seed field read by pointer": seed(tone="formal"),
    "seed formatting": seed_formatting,
    "seed formatting, then a rebuild": seed_formatting_then_a_rebuild,
    "seed becomes a row of the same values": as_row(),
    "seed becomes a row, field printed": as_row(topic="wind"),
    "seed becomes a row, field not printed": as_row(note="another"),
    "seed becomes a row, a field's type": as_row(weight=3.0),
    "seed becomes a row of a workbook": as_row_of_a_workbook,
    "row among others that are odd": as_row("{", "[1]"),
    "upstream value read": seed(angle="costs"),
    "upstream value not read": seed(weight=4),
    "prompt": replace("tasks/lead/prompt.md", "lead:", "lead: today,"),
    "prompt, a comment in it": replace("tasks/lead/prompt.md", "lead:", "{# hm #}lead:"),
    "included template": replace("shared/style.md", "brief", "kind"),
    "included template was missing, it appears": new("shared/extra.md", "Be kind."),
    "template that is not included": replace("shared/other.md", "long", "kind"),
    "filters.py, the same result": replace("filters.py", "def ", "# Hm.\ndef "),
    "filters.py, another result": replace("filters.py", "text + MARK", "MARK + text"),
    "module that filters.py imports": replace("helpers/marks.py", "*", "+"),
    "filters.py comes to import another module": replace(
        "filters.py", "from", "from helpers import unused\nfrom"
    ),
    "system message": replace("tasks/lead/system.md", "one", "half a"),
    "schema": new("tasks/facts/output.schema.json", {**FACTS_SCHEMA, "description": "Facts."}),
    "schema formatting": schema_formatting,
    "schema, its properties in another order": new(
        "tasks/facts/output.schema.json",
        {**FACTS_SCHEMA, "properties": dict(reversed(FACTS_SCHEMA["properties"].items()))},
    ),
    "referenced schema": new("shared/title.schema.json", {"type": "string", "minLength": 4}),
    "another file in a task's folder": new("tasks/lead/notes.md"),
    ".pyc appears": new("tasks/check/__pycache__/stages.cpython-311.pyc"),
    "editor's backup appears": new("tasks/lead/prompt.md~"),
    "scores.py and a module of it appear": truth.both(
        new("tasks/lead/scores.py", SCORES), new("tasks/lead/only.py", "ONE = 1\n")
    ),
    "score by rule, what is expected appears": scores_by_rule,
    "condition, its value is another false one": seed(mood="quiet"),
    "condition, its value makes it true": seed(mood="loud"),
    "condition, its expression": replace("tasks/maybe/task.yaml", "loud", "shrill"),
    "condition is removed": new("tasks/maybe/task.yaml", "needs: []\n"),
    "condition is added, and true": new("tasks/lead/task.yaml", "when: 1 < 2\n"),
    "prompt of a skipped task": replace("tasks/maybe/prompt.md", "maybe:", "maybe: now,"),
    "model of a skipped task": config("maybe", model="openai/gpt-4.1-mini"),
    "model": config("lead", model="openai/gpt-4.1-mini"),
    "model, by environment": model_by_environment,
    "endpoint": endpoint,
    "temperature": config("lead", temperature=0.5),
    "unrelated setting: another task's": config("list", temperature=0.5),
    "unrelated setting: version and metadata": version_and_metadata,
    "unrelated setting: timeout, a comment": timeout_and_comment,
    "unrelated setting: timeout of a call": config("lead", timeout=51),
    "another task, below all, is added": add_task,
    "task is removed": lambda workspace: workspace.pipeline(FIRST[:-1]) and None,
    "stages.py, another prompt": replace("tasks/check/stages.py", "words", "short words"),
    "stages.py, the same prompt": replace("tasks/check/stages.py", "def ", "# Hm.\ndef "),
    "module that stages.py imports": replace("helpers/limits.py", "= TEN", "= TEN + 1"),
    "module that this module imports": replace("helpers/numbers.py", "10", "0xA0"),
    "module that a call names": replace("helpers/named.py", "brief", "clear"),
    "imported module was missing, it appears": new("helpers/extra.py", 'HOW = "in verse"\n'),
    "module comes to shadow a standard one": new("textwrap.py", "def dedent(text): return text\n"),
    "module that is not imported": replace("helpers/unused.py", "1", "2"),
    "command script": replace(f"{TOOLS}/tool/count.sh", "-c", "-l"),
    "command's arguments": replace(f"{TOOLS}/index.yaml", "[sh,", "[sh, -e,"),
    "command, any field of its seed": lambda workspace: edit(
        workspace, "seeds/second.json", lambda seed: seed["data"], {"n": 2}
    ),
    "popbuild stage version": lambda workspace: Around(
        python="import popbuild.jobs.fingerprint as each; each.STAGES_VERSION = 'another'"
    ),
}

ROWS = truth.rows(TEXT)
TABLE = Table(ROWS, CHANGES, NEEDS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    yield from truth.built(tmp_path_factory.mktemp("built"), two_jobs.write, two_jobs.answer)


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_change_makes_run(row: Row, copied: Workspace) -> None:
    truth.follow(TABLE, row, copied)
