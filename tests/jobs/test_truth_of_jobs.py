"""A job over many jobs, as a table: what a change of one of these makes run, of it and above it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import truth
from provider import Reply, Request, default_answer
from truth import Change, Row, Table, another_root, both, edit, move, new, nothing, remove, touched
from workspace import MODEL, Workspace

# Each job has one task, so the table names jobs:
#
#   review_1, review_2 print seed.data.text, and answer with a label and a reason
#   all   over review_*: prints the label and seed.data.stars of each
#   ids   over review_*: prints their IDs alone
#   top   over all: prints its text
#
# At first there is no review_3, and no `other`, which no job is over. The label is "+" for "good"
# and "fine", "-" for "bad", and for "odd" one that the schema does not have.
JOBS = ["review_1", "review_2", "review_3", "other", "all", "ids", "top"]
TEXT = """
change                              | runs                 | asks                 | code

nothing                             |                      |                      | 0
member's field, another label       | review_2 all top     | review_2 all top     | 0
    review_2: seed:/data/text changed
    all: jobs:reviews: review_2 is stale
    ids: jobs:reviews: review_2 is stale
    top: jobs:parts: all is stale
member's field, the same label      | review_1             | review_1             | 0
    review_1: seed:/data/text changed
    all ids: jobs:reviews: review_1 is stale
    top: jobs:parts: all is stale
member's field that only `all` reads | all top             | all top              | 0
    all: jobs:reviews:/*/seed/data/stars changed: review_1
    top: jobs:parts: all is stale
member's field that no prompt reads |                      |                      | 0
member is added                     | review_3 all ids top | review_3 all ids top | 0
    review_3: never built
    all ids: jobs:reviews: review_3 is new
    top: jobs:parts: all is stale
job beside the members is added     | other                | other                | 0
    other: never built
member is removed                   | all ids top          | all ids top          | 0
    all ids: jobs:reviews changed: review_2 gone
    top: jobs:parts: all is stale
member is renamed with its seed     | all ids top          | all ids top          | 0
    all ids: jobs:reviews changed: review_3 added, review_1 gone
    top: jobs:parts: all is stale
member becomes a row of a table     |                      |                      | 0
member is rejected                  | review_2             | review_2             | 1
    review_2: seed:/data/text changed
    all ids: jobs:reviews: review_2 is stale
    top: jobs:parts: all is stale
member is rejected, and may be      | review_2 all ids top | review_2 all ids top | 1
    review_2: seed:/data/text changed
    all ids: jobs:reviews: review_2 is stale
    top: jobs:parts: all is stale
member may be missing, and none is  |                      |                      | 0
member's prompt                     | review_1 review_2    | review_1 review_2    | 0
    review_1 review_2: file:tasks/rate/prompt.md changed
    all ids: jobs:reviews: review_1, review_2 are stale
    top: jobs:parts: all is stale
member's prompt, a comment in it    | review_1 review_2    |                      | 0
    review_1 review_2: file:tasks/rate/prompt.md changed
    all ids: jobs:reviews: review_1, review_2 are stale
    top: jobs:parts: all is stale
member's artifact is deleted        | review_1             |                      | 0
    review_1: artifact missing
    all ids: jobs:reviews: review_1 is stale
    top: jobs:parts: all is stale
member's artifact edited, where read | all top             | all top              | 0
    review_1: edited by hand
    all ids: jobs:reviews: review_1 is stale
    top: jobs:parts: all is stale
member's artifact edited, not read  |                      |                      | 0
    review_1: edited by hand
    all ids: jobs:reviews: review_1 is stale
    top: jobs:parts: all is stale
member's result is removed          | review_1             |                      | 0
    review_1: never built
    all ids: jobs:reviews: review_1 is new
    top: jobs:parts: all is stale

glob that matches the same jobs     |                      |                      | 0
glob that matches fewer             | all top              | all top              | 0
    all: jobs:reviews changed: review_2 gone
    top: jobs:parts: all is stale
group by another name               | ids                  |                      | 2
    ids: jobs:reviews removed
prompt of the job above             | all top              | all top              | 0
    all: file:pipelines/all/tasks/work/prompt.md changed
    top: jobs:parts: all is stale
prompt comes to read more           | ids                  | ids                  | 0
    ids: file:pipelines/ids/tasks/work/prompt.md changed
letter of the job above is deleted  | all                  |                      | 0
    all: never built
    top: jobs:parts: all is stale
files touched                       |                      |                      | 0
whole root copied                   |                      |                      | 0
"""
SCHEMA: dict[str, Any] = {"properties": {"label": {"enum": ["+", "-"]}}, "required": ["label"]}
LABELS = {"good": "+", "fine": "+", "bad": "-"}
PROMPTS = {
    "all": "all: {% for each in jobs.reviews %}{{ each.artifacts.rate.label }}"
    "{{ each.seed.data.stars }} {% endfor %}",
    "ids": "ids: {% for each in jobs.reviews %}{{ each.id }} {% endfor %}",
    "top": "top: {% for each in jobs.parts %}{{ each.artifacts.work.content }} {% endfor %}",
}


def write(workspace: Workspace) -> None:
    gate = {"gate": {"refinements": 0}}
    workspace.task("rate", "{{ seed.name }}: {{ seed.data.text }}", schema=SCHEMA, task_yaml=gate)
    workspace.pipeline(["rate"])
    for name, prompt in PROMPTS.items():
        folder = f"pipeline-config/pipelines/{name}"
        body = {"name": name, "tasks": ["work"], "taskConfig": {"work": {"model": MODEL}}}
        workspace.write(f"{folder}/pipeline.json", body)
        workspace.write(f"{folder}/tasks/index.yaml", "work: ./work\n")
        workspace.write(f"{folder}/tasks/work/prompt.md", prompt)
        groups = {"parts": "all"} if name == "top" else {"reviews": "review_*"}
        seed = {"name": name, "pipeline": name, "jobs": groups, "data": {}}
        workspace.write(f"seeds/{name}.json", seed)
    review("review_1")(workspace)
    review("review_2", "bad")(workspace)


def answer(request: Request) -> Reply:
    text = request.said("user").partition(": ")[2]
    if request.schema is None:
        return default_answer(request)
    return Reply(json.dumps({"label": LABELS.get(text.split()[-1], "?"), "why": text}))


# --- the changes ---


def review(job: str, text: str = "good", stars: int = 3, **more: Any) -> Change:
    data = {"text": text, "stars": stars, **more}
    return lambda workspace: workspace.seed(job, data) and None


def over(job: str, **members: Any) -> Change:
    """Other members of the seed of a job that is over others."""
    return lambda workspace: edit(workspace, f"seeds/{job}.json", lambda seed: seed, members)


def artifact(**members: Any) -> Change:
    """Edit what the first review's task made, by hand."""
    path = f"{COMPLETE}/review_1/files/artifacts/rate-output.json"
    return lambda workspace: edit(workspace, path, lambda body: body, members)


def as_row(workspace: Workspace) -> None:
    remove("seeds/review_2.json")(workspace)
    row = {"id": "review_2", "text": "bad", "stars": 3}
    workspace.write("seeds/table.jsonl", json.dumps(row))
    data = {name: f"{{{{ row.{name} }}}}" for name in ("text", "stars")}
    spec = {"rows": "table.jsonl", "id": "{{ row.id }}", "name": "{{ row.id }}", "data": data}
    workspace.write("seeds/table.yaml", spec)


COMPLETE = "pipeline-data/complete"
MAY_BE_MISSING = both(over("all", missing="skip"), over("ids", missing="skip"))
CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "member's field, another label": review("review_2", "fine"),
    "member's field, the same label": review("review_1", "fine"),
    "member's field that only `all` reads": review("review_1", stars=5),
    "member's field that no prompt reads": review("review_1", note="x"),
    "member is added": review("review_3"),
    "job beside the members is added": review("other"),
    "member is removed": remove("seeds/review_2.json"),
    "member is renamed with its seed": move(
        ("seeds/review_1.json", "seeds/review_3.json"),
        (f"{COMPLETE}/review_1", f"{COMPLETE}/review_3"),
    ),
    "member becomes a row of a table": as_row,
    "member is rejected": review("review_2", "odd"),
    "member is rejected, and may be": both(review("review_2", "odd"), MAY_BE_MISSING),
    "member may be missing, and none is": MAY_BE_MISSING,
    "member's prompt": truth.replace("tasks/rate/prompt.md", "{{ seed.data", "so {{ seed.data"),
    "member's prompt, a comment in it": truth.replace("tasks/rate/prompt.md", ":", "{# hm #}:"),
    "member's artifact is deleted": remove(f"{COMPLETE}/review_1/files/artifacts/rate-output.json"),
    "member's artifact edited, where read": artifact(label="-"),
    "member's artifact edited, not read": artifact(why="I say so"),
    "member's result is removed": remove(f"{COMPLETE}/review_1"),
    "glob that matches the same jobs": over("all", jobs={"reviews": "review_[12]"}),
    "glob that matches fewer": over("all", jobs={"reviews": "review_1"}),
    "group by another name": over("ids", jobs={"others": "review_*"}),
    "prompt of the job above": truth.replace(
        "pipelines/all/tasks/work/prompt.md", "all:", "all: of"
    ),
    "prompt comes to read more": new(
        "pipelines/ids/tasks/work/prompt.md",
        PROMPTS["ids"].replace("each.id", "each.seed.data.stars"),
    ),
    "letter of the job above is deleted": remove(f"{COMPLETE}/all/tasks/work/letter.json"),
    "files touched": touched,
    "whole root copied": another_root,
}


ROWS = truth.rows(TEXT)
TABLE = Table(ROWS, CHANGES, {job: [] for job in JOBS}, name=lambda job, task: job)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    yield from truth.built(tmp_path_factory.mktemp("built"), write, answer)


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_changed_job_makes_run(row: Row, copied: Workspace) -> None:
    truth.follow(TABLE, row, copied)
