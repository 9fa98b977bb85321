"""Every kind of dependency, as a table: what a change makes run, what it asks, what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import documents
import pytest
from commands import Result
from provider import Provider, Reply, Request, default_answer
from workspace import Workspace

# The job `first`:
#
#   lead   prints seed.data.topic, tests seed.data.deadline, which is absent; has a system message
#   list   loops over seed.data.points; includes shared/style.md, and shared/extra.md if there;
#          uses a filter of filters.py, which imports helpers/marks.py
#   facts  needs lead; prints all of seed.data.audience, angle and weight, and lead's text; has a
#          schema that refers to shared/title.schema.json; answers with a title and a weight
#   check  needs facts; its stages.py reads facts' title and seed.data.tone by pointer, and imports
#          helpers/limits.py, which imports helpers/numbers.py, by a call helpers/named.py, and
#          helpers/extra.py if it is there
#   maybe  is skipped: its condition asks whether seed.data.mood is "loud"
#
# The job `second`, of the pipeline `tools`:
#
#   tool   a command: it is given its whole seed
#
# `facts` answers by its angle and weight alone, whatever else stands in its prompt: what is new in
# `lead` makes it run, and then stops there. The other answers differ for each request.
NEEDS = {
    "lead": [],
    "list": [],
    "facts": ["lead"],
    "maybe": [],
    "check": ["facts"],
    "tool": [],
    "more": [],
}

FIRST = ["lead", "list", "facts", "maybe", "check"]

# `runs`: the tasks whose stages run. `asks`: the tasks whose requests reach the provider; a task
# that runs and does not ask found its answer in the store. `code`: the run's exit code. Below each
# change: the reasons that `popbuild status` gave before the run. A task below a stale one is
# "upstream … is stale" as well; that is left out here, and checked all the same.
TABLE = """
change                                     | runs                  | asks                  | code

nothing                                    |                       |                       | 0

seed field printed                         | lead facts            | lead facts            | 0
    lead: seed:/data/topic changed
seed field not printed                     |                       |                       | 0
seed field of another type                 | facts                 | facts                 | 0
    facts: seed:/data/weight changed
seed field gone that nobody read           |                       |                       | 0
absent key tested, it appears              | lead facts            | lead facts            | 0
    lead: seed:/data/deadline added
absent key that nobody tested appears      |                       |                       | 0
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
template that nobody includes              |                       |                       | 0
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
module that nobody imports                 |                       |                       | 0
command script                             | tool                  |                       | 0
    tool: file:pipelines/tools/tasks/tool/count.sh changed
command's arguments                        | tool                  |                       | 0
    tool: command changed
command, any field of its seed             | tool                  |                       | 0
    tool: seed: changed
popbuild stage version                     | lead list facts check tool |                  | 0
    lead list facts check tool: stages changed

artifact deleted                           | facts                 |                       | 0
    facts: artifact missing
    check: artifact:facts:/title removed
artifact reformatted                       |                       |                       | 0
artifact edited and valid, where read      | check                 | check                 | 0
    facts: edited by hand
    check: artifact:facts:/title changed
artifact edited and valid, where not read  |                       |                       | 0
    facts: edited by hand
artifact edited and invalid                |                       |                       | 1
    facts: edited by hand
    check: artifact:facts:/title changed
artifact edited and no JSON any more       |                       |                       | 1
    facts: edited by hand
    check: artifact:facts:/title removed
artifact edited while stale                |                       |                       | 4
    facts: seed:/data/angle changed; edited by hand
    check: artifact:facts:/title changed
letter deleted                             | facts                 |                       | 0
    facts: never built
letter truncated                           | facts                 |                       | 0
    facts: letter damaged or altered
letter of another task                     | facts                 |                       | 0
    facts: letter damaged or altered

whole job copied to another root           |                       |                       | 0
job and its seed renamed                   |                       |                       | 0
job directory moved by hand: its name      | lead list facts maybe check |                 | 0
    lead list facts maybe check: never built
job directory moved by hand: to current/   |                       |                       | 0
job directory moved by hand: to rejected/  |                       |                       | 0
file touched                               |                       |                       | 0
clock moved back                           |                       |                       | 0
clock moved back, seed field printed       | lead facts            | lead facts            | 0
    lead: seed:/data/topic changed
"""


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


def rows(table: str) -> Iterator[Row]:
    header, *lines = [line for line in table.splitlines() if line]
    assert header.split() == ["change", "|", "runs", "|", "asks", "|", "code"]
    while lines:
        change, runs, asks, code = (cell.strip() for cell in lines.pop(0).split("|"))
        reasons: dict[str, list[str]] = {}
        while lines and lines[0].startswith(" "):
            tasks, _, given = lines.pop(0).strip().partition(": ")
            reasons.update((task, given.split("; ")) for task in tasks.split())
        yield Row(change, runs.split(), asks.split(), int(code), reasons)


ROWS = list(rows(TABLE))


# --- the two jobs ---

SEED: dict[str, Any] = {
    "topic": "grid batteries",
    "note": "nobody reads this",
    "points": ["cost", "safety"],
    "audience": {"who": "engineers", "level": "expert"},
    "angle": "prices",
    "weight": 3,
    "tone": "plain",
    "mood": "calm",
}
FACTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "weight": {"type": "number"},
        "title": {"$ref": "../../shared/title.schema.json"},
    },
    "required": ["title", "weight"],
}
STAGES = """\
import textwrap
from importlib import import_module

from helpers import limits

try:
    from helpers.extra import HOW
except ImportError:
    HOW = import_module("helpers.named").HOW


def prompt_templating(context):
    title, tone = context.read("/title", task="facts"), context.read("/data/tone")
    return textwrap.dedent(f"check: {title}, {tone}, {HOW} in {limits.WORDS} words")
"""


FILTERS = "from helpers.marks import MARK\n\n\ndef marked(text):\n    return text + MARK\n"


def write_both_jobs(workspace: Workspace) -> None:
    workspace.seed("first", SEED)
    workspace.task(
        "lead",
        prompt="lead: {{ seed.data.topic }}"
        "{% if seed.data.deadline is defined %} before {{ seed.data.deadline }}{% endif %}",
        system="You write one sentence.",
    )
    workspace.task(
        "list",
        prompt="list: {% for point in seed.data.points %}{{ point | marked }}, {% endfor %}"
        '{% include "shared/style.md" %}{% include "shared/extra.md" ignore missing %}',
        task_yaml={"needs": []},
    )
    workspace.task(
        "facts",
        prompt="facts: {{ artifacts.lead.content }} For {{ seed.data.audience }},"
        " angle {{ seed.data.angle }}, weight {{ seed.data.weight }}",
        schema=FACTS_SCHEMA,
        task_yaml={"needs": ["lead"]},
    )
    workspace.task("check", stages=STAGES, task_yaml={"needs": ["facts"]})
    mood = {"needs": [], "when": 'seed.data.mood == "loud"'}
    workspace.task("maybe", prompt="maybe: {{ seed.data.topic }}", task_yaml=mood)
    workspace.pipeline(FIRST)
    workspace.write("pipeline-config/shared/style.md", "Be brief.")
    workspace.write("pipeline-config/shared/other.md", "Be long.")
    workspace.write("pipeline-config/shared/title.schema.json", {"type": "string", "minLength": 3})
    workspace.write("pipeline-config/helpers/limits.py", "from .numbers import TEN\n\nWORDS = TEN")
    workspace.write("pipeline-config/helpers/numbers.py", "TEN = 10\n")
    workspace.write("pipeline-config/helpers/named.py", 'HOW = "briefly"\n')
    workspace.write("pipeline-config/helpers/unused.py", "X = 1\n")
    workspace.write("pipeline-config/helpers/marks.py", 'MARK = "*"\n')
    workspace.write("pipeline-config/filters.py", FILTERS)
    tools = "pipeline-config/pipelines/tools"
    workspace.write("seeds/second.json", {"name": "2", "pipeline": "tools", "data": {"n": 1}})
    workspace.write(f"{tools}/pipeline.json", {"name": "tools", "tasks": ["tool"]})
    workspace.write(f"{tools}/tasks/index.yaml", "tool: {folder: ./tool, command: [sh, count.sh]}")
    workspace.write(f"{tools}/tasks/tool/count.sh", "wc -c\n")


def answer(request: Request) -> Reply:
    found = re.match(r"facts: .*, angle (\w+), weight (\S+)$", request.said("user"))
    if found is None:
        return default_answer(request)
    return Reply(json.dumps({"weight": float(found[2]), "title": f"On {found[1]}"}))


# --- the changes ---


def seed(**fields: Any) -> Change:
    return lambda workspace: edit(workspace, "seeds/first.json", lambda seed: seed["data"], fields)


def config(task: str, **settings: Any) -> Change:
    path = "pipeline-config/pipeline.json"
    return lambda workspace: edit(workspace, path, lambda body: body["taskConfig"][task], settings)


def edit(
    workspace: Workspace, path: str, part: Callable[[Any], Any], members: Mapping[str, Any]
) -> None:
    """Set members of one part of a JSON file; those that are None go."""
    body = workspace.read(path)
    part(body).update(members)
    for name in [name for name, value in members.items() if value is None]:
        del part(body)[name]
    workspace.write(path, body)


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


def letter_deleted(workspace: Workspace) -> None:
    (workspace.root / LETTERS / "facts/letter.json").unlink()


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


FACTS = "pipeline-data/complete/first/files/artifacts/facts-output.json"
LETTERS = "pipeline-data/complete/first/tasks"


def artifact(**members: Any) -> Change:
    """Edit the artifact of `facts` by hand."""
    return lambda workspace: edit(workspace, FACTS, lambda body: body, members)


def artifact_torn(workspace: Workspace) -> None:
    workspace.write(FACTS, "{")


def artifact_while_stale(workspace: Workspace) -> None:
    artifact(title="On me")(workspace)
    seed(angle="costs")(workspace)


def artifact_reformatted(workspace: Workspace) -> None:
    body = workspace.read(FACTS)
    workspace.write(FACTS, json.dumps(dict(reversed(body.items()))))


def letter_truncated(workspace: Workspace) -> None:
    path = workspace.root / LETTERS / "facts/letter.json"
    path.write_bytes(path.read_bytes()[:200])


def letter_of_another_task(workspace: Workspace) -> None:
    shutil.copy(*(workspace.root / LETTERS / task / "letter.json" for task in ("lead", "facts")))


def another_root(workspace: Workspace) -> None:
    """Each row works in a copy of the root already: without what is private to the first root,
    it is another one that seeds, configuration and jobs were copied to."""
    shutil.rmtree(workspace.root / ".popbuild")


def move(*moves: tuple[str, str]) -> Change:
    def change(workspace: Workspace) -> None:
        for source, target in moves:
            (workspace.root / source).rename(workspace.root / target)

    return change


def touched(workspace: Workspace) -> None:
    for path in workspace.root.rglob("*"):
        os.utime(path)


CLOCK_MOVED_BACK = Around(
    python="import time; now = time.time; time.time = lambda: now() - 30 * 86_400"
)


def edit_after_the_clock_moved_back(workspace: Workspace) -> Around:
    seed(topic="wind")(workspace)
    os.utime(workspace.root / "seeds/first.json", (0, 0))
    return CLOCK_MOVED_BACK


def add_task(workspace: Workspace) -> None:
    prompt = "more: on {{ artifacts.check.content }}"
    workspace.task("more", prompt=prompt, task_yaml={"needs": ["check"]})
    workspace.pipeline([*FIRST, "more"])


COMPLETE, CURRENT, REJECTED = (
    f"pipeline-data/{each}" for each in "complete current rejected".split()
)
TOOLS = "pipelines/tools/tasks"
CHANGES: dict[str, Change] = {
    "nothing": lambda workspace: None,
    "seed field printed": seed(topic="wind"),
    "seed field not printed": seed(note="still nobody"),
    "seed field of another type": seed(weight=3.0),
    "seed field gone that nobody read": seed(note=None),
    "absent key tested, it appears": seed(deadline="May"),
    "absent key that nobody tested appears": seed(colour="red"),
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
    "template that nobody includes": replace("shared/other.md", "long", "kind"),
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
    "module that nobody imports": replace("helpers/unused.py", "1", "2"),
    "command script": replace(f"{TOOLS}/tool/count.sh", "-c", "-l"),
    "command's arguments": replace(f"{TOOLS}/index.yaml", "[sh,", "[sh, -e,"),
    "command, any field of its seed": lambda workspace: edit(
        workspace, "seeds/second.json", lambda seed: seed["data"], {"n": 2}
    ),
    "popbuild stage version": lambda workspace: Around(
        python="import popbuild.jobs.fingerprint as each; each.STAGES_VERSION = 'another'"
    ),
    "artifact deleted": lambda workspace: (workspace.root / FACTS).unlink(),
    "artifact reformatted": artifact_reformatted,
    "artifact edited and valid, where read": artifact(title="On me"),
    "artifact edited and valid, where not read": artifact(weight=9),
    "artifact edited and invalid": artifact(title="x"),
    "artifact edited and no JSON any more": artifact_torn,
    "artifact edited while stale": artifact_while_stale,
    "letter deleted": letter_deleted,
    "letter truncated": letter_truncated,
    "letter of another task": letter_of_another_task,
    "whole job copied to another root": another_root,
    "job and its seed renamed": move(
        ("seeds/first.json", "seeds/other.json"), (f"{COMPLETE}/first", f"{COMPLETE}/other")
    ),
    "job directory moved by hand: its name": move((f"{COMPLETE}/first", f"{COMPLETE}/other")),
    "job directory moved by hand: to current/": move((f"{COMPLETE}/first", f"{CURRENT}/first")),
    "job directory moved by hand: to rejected/": move((f"{COMPLETE}/first", f"{REJECTED}/first")),
    "file touched": touched,
    "clock moved back": lambda workspace: CLOCK_MOVED_BACK,
    "clock moved back, seed field printed": edit_after_the_clock_moved_back,
}


# --- the test ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, Path]]:
    """A root in which both jobs are built, and their provider."""
    with Provider() as provider:
        provider.answer = answer
        with Workspace(tmp_path_factory.mktemp("built"), provider) as workspace:
            write_both_jobs(workspace)
            result = workspace.popbuild("run")
            assert result.code == 0, result.err
            assert asked(provider, 0) == ["lead", "list", "facts", "check"]
            yield provider, workspace.root


@pytest.fixture
def copied(built: tuple[Provider, Path], tmp_path: Path) -> Iterator[Workspace]:
    """A copy of that root for one row."""
    provider, root = built
    with Workspace(tmp_path, provider) as workspace:
        shutil.copytree(root, workspace.root, dirs_exist_ok=True)
        yield workspace


def test_the_table_is_whole() -> None:
    """Every row has its change, and every change its row."""
    assert [row.change for row in ROWS] == list(CHANGES)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_change_makes_run(row: Row, copied: Workspace) -> None:
    """After a change exactly the tasks run whose result can differ, only new requests are sent,
    the reasons are given before, and a second run does nothing more."""
    assert copied.provider
    around = CHANGES[row.change](copied) or Around()
    calls, before = len(copied.provider.requests), logs(copied)
    assert_reasons(row, told(popbuild(copied, around, "status", "--json")))
    assert (logs(copied), asked(copied.provider, calls)) == (before, [])
    result = popbuild(copied, around, "run")
    assert result.code == row.code, result.err
    assert in_order(task for task, _ in logs(copied) - before) == row.runs
    assert asked(copied.provider, calls) == row.asks
    calls, before = len(copied.provider.requests), logs(copied)
    again = popbuild(copied, around, "run")
    assert again.code == row.code
    assert (logs(copied), asked(copied.provider, calls)) == (before, [])
    if row.code == 0:
        states = {line.split(maxsplit=2)[2] for line in again.out.splitlines()}
        assert states == {"up to date"}
        for path in (copied.root / "seeds").glob("*.json"):
            job = copied.job(path.stem)
            assert same(json.loads((job / "seed.json").read_bytes()), json.loads(path.read_bytes()))


def same(one: object, other: object) -> bool:
    """As JSON, to which 3 is not 3.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def popbuild(workspace: Workspace, around: Around, *args: str) -> Result:
    if not around.python:
        return workspace.popbuild(*args, env=around.env)
    code = f"{around.python}\nfrom popbuild.cli.main import entry\nentry()"
    return workspace.run("python", "-c", code, *args, env=around.env)


def told(status: Result) -> dict[str, list[str]]:
    """The reasons that `popbuild status --json` gives for each task, an edit by hand among them;
    no task that has none."""
    assert status.code == 0, status.err
    found: dict[str, list[str]] = {}
    for job in json.loads(status.out):
        for task, body in job["tasks"].items():
            assert body["stale"] == bool(body["reasons"])
            edit = ["edited by hand"] if body["edited"] else []
            found[task] = found.get(task, []) + body["reasons"] + edit
    return {task: reasons for task, reasons in found.items() if reasons}


def assert_reasons(row: Row, told: Mapping[str, list[str]]) -> None:
    """The table's reasons, and for the tasks below a stale one that it is. What follows a reason
    after a colon, the difference say, is left to tests of its own."""
    wanted = {task: list(row.reasons.get(task, [])) for task in NEEDS}
    stale = {task for task, reasons in wanted.items() if set(reasons) - {"edited by hand"}}
    for task, needs in NEEDS.items():
        below = [f"upstream {need} is stale" for need in needs if need in stale]
        stale |= {task} if below else set()
        unknown = wanted[task] in (["never built"], ["letter damaged or altered"])
        wanted[task] += [] if unknown else below
    given = {task: list(told.get(task, [])) for task in NEEDS}
    for task, reasons in given.items():
        reasons[:] = [
            next((each for each in wanted[task] if reason.startswith(f"{each}:")), reason)
            for reason in reasons
        ]
        assert sorted(reasons) == sorted(wanted[task]), (task, told)


def logs(workspace: Workspace) -> set[tuple[str, bytes]]:
    """What every task that ever ran has logged, with times: each run makes another."""
    paths = workspace.root.glob("pipeline-data/*/*/tasks/*/execution-logs.json")
    return {(path.parent.name, path.read_bytes()) for path in paths}


def asked(provider: Provider, since: int) -> list[str]:
    """The tasks whose requests the provider saw, each as often as it asked."""
    return in_order(each.said("user").partition(":")[0] for each in provider.requests[since:])


def in_order(tasks: Iterable[str]) -> list[str]:
    return sorted(tasks, key=list(NEEDS).index)


# --- what needs a pipeline of its own ---

LATER = "importlib.import_module('lib.later')"
# How stages.py comes to lib/later.py, and whether the source says that it is this one.
IMPORTS = {
    "a statement where no run comes by": ("if 1:\n    import lib.later as later\n", True),
    "a call that names it": (f"import importlib\nlater = {LATER}\n", True),
    "__import__ that names it": ("later = __import__('lib.later').later\n", True),
    "a call with a variable": (
        "import importlib\nname = 'later'\nlater = importlib.import_module(f'lib.{name}')\n",
        False,
    ),
    "__import__ with more than a name": (
        "later = __import__('lib', fromlist=['later']).later\n",
        False,
    ),
    "a call by another name": (
        "from importlib import import_module as load\nlater = load('lib.later')\n",
        False,
    ),
    "a function that is handed on": (
        "import importlib\n(later,) = map(importlib.import_module, ['lib.later'])\n",
        False,
    ),
    "a function got by its name": (
        "import importlib\nlater = getattr(importlib, 'import_module')('lib.later')\n",
        False,
    ),
    "a text that is run": ("exec('import lib.later as later')\n", False),
}


@pytest.mark.parametrize(("code", "named"), IMPORTS.values(), ids=IMPORTS)
def test_a_module_is_imported(
    code: str, named: bool, workspace: Workspace, provider: Provider
) -> None:
    """However stages.py comes to a module, it depends on it; where its source does not say on
    which, on every Python file of the configuration, new ones too. A module that it comes to by
    its name alone makes others free to change."""
    stages = f"{code}\ndef prompt_templating(context):\n    return later.WORD\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    for word in ("one", "two"):
        workspace.write("pipeline-config/lib/later.py", f"WORD = {word!r}\n")
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert provider.requests[-1].said("user") == word
    workspace.write("pipeline-config/lib/other.py", "X = 1\n")
    other = {"research": ["file:lib/other.py added"]}
    assert told(workspace.popbuild("status", "--json")) == ({} if named else other)
    assert len(provider.requests) == 2


def test_all_of_a_package_is_imported(workspace: Workspace, provider: Provider) -> None:
    """`from lib import *` imports the modules that __all__ of the package names."""
    stages = "from lib import *\n\ndef prompt_templating(context):\n    return later.WORD\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    workspace.write("pipeline-config/lib/__init__.py", "__all__ = ['later']\n")
    for word in ("one", "two"):
        workspace.write("pipeline-config/lib/later.py", f"WORD = {word!r}\n")
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert provider.requests[-1].said("user") == word


def test_a_package_that_a_task_lies_in(workspace: Workspace, provider: Provider) -> None:
    """tasks/__init__.py runs before a stages.py below it: it counts from when it appears."""
    body = "return os.environ.get('WORD', '-')"
    stages = f"import os\n\ndef prompt_templating(context):\n    {body}\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    assert workspace.popbuild("run").code == 0
    workspace.write("pipeline-config/tasks/__init__.py", "import os\nos.environ['WORD'] = 'x'\n")
    assert workspace.popbuild("run").code == 0
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert [each.said("user") for each in provider.requests] == ["-", "x"]


LOOPS = {
    "a template loops over them": "{% for name in artifacts %}{{ name }}, {% endfor %}",
    "a template prints them": "{% for each in artifacts.values() %}{{ each }}{% endfor %}",
    "a template counts them": "{{ artifacts | length }}",
    "a template looks for it": "{% if artifacts.notes is defined %}Mind the notes.{% endif %}",
    "a template looks for it in them": "{% if 'notes' in artifacts %}Mind the notes.{% endif %}",
    "a stage loops over them": "return 'analysis: ' + ', '.join(context.artifacts)",
    "a stage looks for it": "return f'analysis: {context.artifacts.get(\"notes\")}'",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_need_is_added(loop: str, workspace: Workspace, provider: Provider) -> None:
    """A further needed task makes those run that look at which artifacts there are; there is no
    reason to build the others."""
    workspace.task("notes", prompt="notes: {{ seed.data.tone }}", task_yaml={"needs": []})
    workspace.task("other", prompt="other: {{ artifacts.research.content }}")
    if loop.startswith("return"):
        stages = f"def prompt_templating(context):\n    {loop}\n"
        (workspace.root / "pipeline-config/tasks/analysis/prompt.md").unlink()
        workspace.task("analysis", stages=stages)
    else:
        workspace.task("analysis", prompt=f"analysis: {loop}")
    for needs in (["research"], ["research", "notes"]):
        for task in ("analysis", "other"):
            workspace.task(task, task_yaml={"needs": needs})
        workspace.pipeline(["research", "notes", "analysis", "other"])
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert len(provider.requests) == 5


def test_a_command_is_given_another_artifact(workspace: Workspace, provider: Provider) -> None:
    """A command runs again when it needs one task more: it is given its artifact."""
    workspace.write("pipeline-config/tasks/count/count.sh", "wc -c\n")
    workspace.task("count", task_yaml={"needs": ["research"]})
    workspace.pipeline(["research", "analysis", "count"])
    index = "research: ./research\nanalysis: ./analysis\ncount: {command: [sh, count.sh]}\n"
    workspace.write("pipeline-config/tasks/index.yaml", index)
    assert workspace.popbuild("run").code == 0
    workspace.task("count", task_yaml={"needs": ["research", "analysis"]})
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["count"]
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


def test_a_prompt_built_again_is_the_same(workspace: Workspace, provider: Provider) -> None:
    """An object printed whole stands in the prompt in one order, whether its task answered just
    now or a while ago: what is built again finds its answer in the store."""
    workspace.task("research", schema={"type": "object"})
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research }}")
    provider.answer = lambda request: Reply('{"size": 1, "cost": {"to": 3, "from": 2}}')
    assert workspace.popbuild("run").code == 0
    (workspace.job("first") / "tasks/analysis/letter.json").unlink()
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert len(provider.requests) == 2


def test_an_artifact_of_one_value(workspace: Workspace, provider: Provider) -> None:
    """A template that prints an artifact which is a single text or number depends on it."""
    workspace.task("research", schema={"type": "number"})
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research }}")
    for topic, built in (("1", ["research", "analysis"]), ("2", ["research", "analysis"])):
        workspace.seed("first", {"topic": topic})
        provider.script([topic])
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert workspace.runs()[-1]["built"] == built
    assert provider.requests[-1].said("user") == "Analysis of: 2"


def test_the_weights_of_a_local_model(workspace: Workspace) -> None:
    """A task of a local model depends on what is in the file of weights, wherever it lies."""
    for name, content in (("one", "weights"), ("same", "weights"), ("other", "others")):
        workspace.write(f"{name}.gguf", content)
    workspace.popbuild("run")
    workspace.pipeline(["research", "analysis"], model="local/mine")

    def reasons(file: str) -> list[list[str]]:
        (job,) = json.loads(workspace.popbuild("status", "--json", env=weights(file)).out)
        return [task["reasons"] for task in job["tasks"].values()]

    def weights(file: str) -> dict[str, str]:
        return {"POPBUILD_LOCAL_MODEL": str(workspace.root / file)}

    # No such model can answer: letters for what stands there say what it would have depended on.
    assert workspace.popbuild("accept", "first", env=weights("one.gguf")).code == 0
    assert reasons("one.gguf") == [[], []]
    assert reasons("same.gguf") == [[], []]
    assert reasons("other.gguf") == [
        ["weights changed"],
        ["weights changed", "upstream research is stale"],
    ]


KINDS: dict[str, tuple[str, list[Any]]] = {
    "a list, by an index": ("it is mapping }} {{ seed.data.it[0]", [["a"], {"0": "a"}]),
    "an object, by a key": ("it is mapping }} {{ seed.data.it['0']", [{"0": "a"}, ["a"]]),
    "in a list": ("it[0] is mapping }} {{ seed.data.it[0][0]", [[["a"]], [{"0": "a"}]]),
}


@pytest.mark.parametrize(("prompt", "values"), KINDS.values(), ids=KINDS)
def test_a_list_becomes_an_object(
    prompt: str, values: list[Any], workspace: Workspace, provider: Provider
) -> None:
    """A template that asked what kind of value there is runs again when it is another one, though
    the value below it is found by the same pointer."""
    workspace.task("research", prompt=f"{{{{ seed.data.{prompt} | default('none') }}}}")
    workspace.pipeline(["research"])
    for value in values:
        workspace.seed("first", {"it": value})
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len({each.said("user") for each in provider.requests}) == 2


ADDRESSES = {
    "claude-haiku-4-5": ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"],
    "gemini-2.5-flash": ["VERTEXAI_API_BASE"],
    "ai21.jamba-1-5-large-v1:0": ["AWS_BEDROCK_RUNTIME_ENDPOINT"],
    "gpt-5-nano": ["OPENAI_BASE_URL", "OPENAI_API_BASE"],
    "anthropic/claude-haiku-4-5": ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"],
    "gemini/gemini-2.5-flash": ["GEMINI_API_BASE"],
    "nobody-knows-it": ["OPENAI_BASE_URL", "OPENAI_API_BASE"],
}


@pytest.mark.parametrize("model", ADDRESSES)
def test_whose_address_counts(model: str, workspace: Workspace) -> None:
    """Without a provider in its name a model is its maker's: that one's address counts, and no
    other's."""
    workspace.popbuild("run")
    workspace.pipeline(["research", "analysis"], model=model)
    # No provider answers for it here: letters for what stands there say what it would depend on.
    none = {"OPENAI_BASE_URL": ""}
    assert workspace.popbuild("accept", "first", env=none).code == 0
    for name in sorted(set().union(*ADDRESSES.values())):
        env = none | {name: "http://127.0.0.1:9/v1"}
        (job,) = json.loads(workspace.popbuild("status", "--json", env=env).out)
        reasons = job["tasks"]["research"]["reasons"]
        added = f"endpoint added: {name} was not set when it was built"
        assert reasons == ([added] if name in ADDRESSES[model] else []), name


def test_another_sample(workspace: Workspace, provider: Provider) -> None:
    """Which draw a task is at comes with the sources: a number that a colleague counted up makes
    the task run, one that goes back finds what was drawn before, one that is torn is an error."""
    assert workspace.popbuild("run").code == 0
    first = workspace.artifact("first", "research")
    provider.script(["Another text of it."])
    for sample, asks in ((1, 2), (0, 0), (1, 0)):
        workspace.write("samples/first.json", {"research": sample})
        (job,) = json.loads(workspace.popbuild("status", "--json").out)
        what = "added: 1" if sample else "removed: 1"
        assert job["tasks"]["research"]["reasons"] == [f"sample {what}"]
        calls = len(provider.requests)
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) - calls == asks
        assert (workspace.artifact("first", "research") == first) == (sample == 0)
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    workspace.write("samples/first.json", "<<<<<<< ours\n{}")
    for command in (["run"], ["list"], ["plan"]):
        result = workspace.popbuild(*command)
        assert result.code == 3
        assert "samples/first.json" in result.err
    workspace.write("samples/first.json", {"research": -1})
    assert "samples/first.json: /research: " in workspace.popbuild("validate").out


JOBS = {
    "a stage": "def prompt_templating(context):\n    return f'analysis: {context.job}'\n",
    "a command": None,
}


@pytest.mark.parametrize("stages", JOBS.values(), ids=JOBS)
def test_the_jobs_id_is_told(stages: str | None, workspace: Workspace, provider: Provider) -> None:
    """A task whose stage asked for the job's ID, or that is a command, runs again when the job was
    renamed with its seed; the others do not."""
    if stages is None:
        workspace.write("pipeline-config/tasks/analysis/count.sh", "wc -c\n")
        index = "research: ./research\nanalysis: {command: [sh, count.sh]}\n"
        workspace.write("pipeline-config/tasks/index.yaml", index)
    else:
        (workspace.root / "pipeline-config/tasks/analysis/prompt.md").unlink()
        workspace.task("analysis", stages=stages)
    assert workspace.popbuild("run").code == 0
    move(("seeds/first.json", "seeds/other.json"), (f"{COMPLETE}/first", f"{COMPLETE}/other"))(
        workspace
    )
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    reasons = {task: body["reasons"] for task, body in job["tasks"].items()}
    assert reasons == {"research": [], "analysis": ["job changed: first → other"]}
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert workspace.popbuild("run").out == "-- other  up to date\n"
    assert len(provider.requests) == (1 if stages is None else 3)


COUNTING = """\
import json, pathlib, sys
sys.path.insert(0, "../../lib")
import rates
text = pathlib.Path("../../shared/words.txt").read_text()
print(json.dumps({"content": f"{rates.RATE} {text}"}))
"""
FURTHER: dict[str, tuple[Change, list[str]]] = {
    "a file": (new("shared/words.txt", "Other."), ["file:shared/words.txt changed"]),
    "one of a glob": (new("lib/rates.py", "RATE = 2\n"), ["file:lib/rates.py changed"]),
    "one more of a glob": (new("lib/more/other.py"), ["file:lib/more/other.py added"]),
    "one that does not fit": (new("lib/notes.txt"), []),
    "one that is not named": (new("shared/other.txt"), []),
}


@pytest.mark.parametrize(("change", "reasons"), FURTHER.values(), ids=FURTHER)
@pytest.mark.parametrize("kind", ["a command", "stages.py"])
def test_further_files(
    kind: str, change: Change, reasons: list[str], workspace: Workspace, provider: Provider
) -> None:
    """What a command or stages.py reads by itself outside of its folder is a dependency once
    task.yaml names it, by its path or by a glob."""
    workspace.write("pipeline-config/shared/words.txt", "Words.")
    workspace.write("pipeline-config/lib/rates.py", "RATE = 1\n")
    workspace.task("count", task_yaml={"files": ["shared/words.txt", "lib/**/*.py"]})
    workspace.pipeline(["count"])
    if kind == "a command":
        workspace.write("pipeline-config/tasks/count/count.py", COUNTING)
        # Python takes two edits within a second, of one size, for the same.
        index = "count: {command: [python3, -B, count.py]}\n"
        workspace.write("pipeline-config/tasks/index.yaml", index)
    else:
        stages = (
            "import pathlib\n\n\n"
            "def inference(context):\n"
            "    here = pathlib.Path(__file__).parent\n"
            "    lib = (here / '../../lib/rates.py').read_text()\n"
            "    return lib + (here / '../../shared/words.txt').read_text()\n"
        )
        workspace.task("count", prompt="-", stages=stages)
    assert workspace.popbuild("run").code == 0
    before = workspace.artifact("first", "count")
    change(workspace)
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    assert job["tasks"]["count"]["reasons"] == reasons
    assert workspace.popbuild("run").code == 0
    assert len(workspace.runs()) == 1 + bool(reasons)
    differs = any(reason.endswith("changed") for reason in reasons)
    assert (workspace.artifact("first", "count") != before) == differs
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert provider.requests == []


def test_a_stage_renders_a_shared_template(workspace: Workspace, provider: Provider) -> None:
    """As an include does: beside the task's own files first, else from pipeline-config/."""
    (workspace.root / "pipeline-config/tasks/research/prompt.md").unlink()
    stages = "def prompt_templating(context):\n    return context.render('shared/x.md')\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    texts = {"shared/x.md": "One.", "tasks/research/shared/x.md": "Two."}
    for path, text in texts.items():
        workspace.write(f"pipeline-config/{path}", text)
        assert workspace.popbuild("run").code == 0
        assert provider.requests[-1].said("user") == text
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == 2


RENAMED = {"removed": ["research"], "removed, another one added": ["research", "sum"]}


@pytest.mark.parametrize("tasks", RENAMED.values(), ids=RENAMED)
def test_a_task_that_is_gone_leaves_nothing(
    tasks: list[str], workspace: Workspace, provider: Provider
) -> None:
    """The next run drops what it made, so that the job is as a clean build makes it: its files,
    its index, its line in status; the replaced result still has all of it."""
    stages = "def integration(context):\n    context.files.write_artifact('more.json', [1])\n"
    workspace.task("analysis", stages=stages)
    workspace.task("sum", prompt="Sum: {{ artifacts.research.content }}\n")
    assert workspace.popbuild("run").code == 0
    before = [path for path, _ in workspace.tree("pipeline-data/complete/first")]
    assert any("analysis" in path for path in before)
    workspace.pipeline(tasks)
    assert "complete" in workspace.popbuild("list").out
    assert "no longer its task: analysis" in workspace.popbuild("list").out
    assert workspace.popbuild("check").code == 1
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == tasks[1:]
    for command in (["check"], ["verify"], ["validate"]):
        assert workspace.popbuild(*command).code == 0
    assert "analysis-output.json removed" in workspace.popbuild("diff", "first").out
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    incremental = files_of(workspace)
    shutil.rmtree(workspace.root / "pipeline-data")
    assert workspace.popbuild("run", "--store", "only").code == 0
    assert files_of(workspace) == incremental
    assert len(provider.requests) == 1 + len(tasks)


def files_of(workspace: Workspace) -> tuple[list[str], Any]:
    """The names of all files of the job, what its artifacts say, and its index."""
    names = [path for path, _ in workspace.tree("pipeline-data/complete/first")]
    artifacts = workspace.tree("pipeline-data/complete/first/files/artifacts")
    return names, (artifacts, workspace.status("first")["files"])
