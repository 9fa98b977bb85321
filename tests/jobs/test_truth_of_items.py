"""A task over many items, as a table: which of them a change makes run, which it asks about, what
it says, and what that makes of the tasks that read the outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import truth
from provider import Reply, Request, default_answer
from truth import (
    Change,
    Row,
    Table,
    another_root,
    both,
    config,
    edit,
    new,
    nothing,
    remove,
    touched,
)
from workspace import Workspace

from popbuild.base import jsonio

# The job `first`, whose seed has rows with IDs 1 to 3 and codes k1 to k3, and words without either:
#
#   rate   over the rows, by ID: prints item.text and seed.data.tone; at most 40 % may fail
#   at     over the rows, by code: prints item.text and position
#   high   over the rows, by code, of which item.stars is above 2, a condition: prints item.note
#   word   over the words, without a key: prints item
#   sum    needs rate; loops over its items and prints their labels
#   keys   needs rate; loops over its items and prints their keys
#
# `rate` answers with the label "+" for the texts good and fine, "-" for bad, odd and new, and with
# one that its schema does not have for any other.
NEEDS = {"rate": [], "at": [], "high": [], "word": [], "sum": ["rate"], "keys": ["rate"]}
TEXT = """
change                         | runs                        | asks                       | code

nothing                        |                             |                            | 0
field of one item, where read  | rate-2 at-k2 sum            | rate-fine at-fine sum      | 0
    rate at: seed:/data/rows/*/text changed
field, and the answer is as good | rate-1 at-k1                | rate-fine at-fine          | 0
    rate at: seed:/data/rows/*/text changed
field that no prompt reads     |                             |                            | 0
field that no prompt reads, new |                             |                            | 0
field that one task reads      | high-k3                     | high-other                 | 0
    high: seed:/data/rows/*/note changed
field of an item left out      | high                        |                            | 0
    high: seed:/data/rows/*/note changed
field of another type          | high-k3                     |                            | 0
    high: seed:/data/rows/*/stars changed
field that a condition reads   | high-k2                     | high-second                | 0
    high: seed:/data/rows/*/stars changed
field that now leaves it out   | high-k3                     |                            | 0
    high: seed:/data/rows/*/stars changed
field of the seed, of all items | rate-1,2,3                  | rate-bad,good,odd          | 0
    rate: seed:/data/tone changed
item added at the end | rate-4 at-k4 high-k4 sum keys | rate-new at-new sum keys | 0
    rate: seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
    at: seed:/data/rows/*/code changed; seed:/data/rows/*/text changed
    high: seed:/data/rows/*/code changed; seed:/data/rows/*/note changed
    high: seed:/data/rows/*/stars changed
item put first | rate-4 at-k1,k2,k3,k4 high-k4 sum keys | rate-new at-bad,good,new,odd sum keys | 0
    rate: seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
    at: seed:/data/rows/*/code changed; seed:/data/rows/*/text changed
    high: seed:/data/rows/*/code changed; seed:/data/rows/*/note changed
    high: seed:/data/rows/*/stars changed
item removed                   | rate at high sum keys       | sum keys                   | 0
    rate: seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
    at: seed:/data/rows/*/code changed; seed:/data/rows/*/text changed
    high: seed:/data/rows/*/code changed; seed:/data/rows/*/note changed
    high: seed:/data/rows/*/stars changed
items in another order         | rate at-k1,k2,k3 high sum keys | at-bad,good,odd sum keys   | 0
    rate: seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
    at: seed:/data/rows/*/code changed; seed:/data/rows/*/text changed
    high: seed:/data/rows/*/code changed; seed:/data/rows/*/note changed
    high: seed:/data/rows/*/stars changed
all items removed              | rate at high sum keys       | sum keys                   | 0
    rate: seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
    at: seed:/data/rows/*/code changed; seed:/data/rows/*/text changed
    high: seed:/data/rows/*/code changed; seed:/data/rows/*/note changed
    high: seed:/data/rows/*/stars changed
key of an item                 | rate-9 keys                 | keys                       | 0
    rate: seed:/data/rows/*/id changed
key that another item has      | rate                        |                            | 2
    rate: seed:/data/rows/*/id changed
key removed                    | rate                        |                            | 2
    rate: seed:/data/rows/*/id changed
item without a key changes     | word-c                      | word-c                     | 0
    word: seed:/data/words/* changed
items without keys, in another order | word                        |                            | 0
    word: seed:/data/words/* changed
item without a key, twice      | word                        |                            | 0
    word: seed:/data/words/* changed
list is no list any more       | word                        |                            | 2
    word: seed:/data/words/* removed
item fails                     | rate-2 at-k2 sum keys       | rate-wrong at-wrong sum keys | 0
    rate at: seed:/data/rows/*/text changed
items fail, more than may      | rate-2,3 at-k2,k3           | rate-worse,wrong at-worse,wrong | 1
    rate at: seed:/data/rows/*/text changed

prompt                         | rate-1,2,3                  | rate-bad,good,odd          | 0
    rate: file:tasks/rate/prompt.md changed
prompt, a comment in it        | rate-1,2,3                  |                            | 0
    rate: file:tasks/rate/prompt.md changed
prompt of the task that reads all | sum                         | sum                        | 0
    sum: file:tasks/sum/prompt.md changed
schema                         | rate-1,2,3                  | rate-bad,good,odd          | 0
    rate: file:tasks/rate/output.schema.json changed
model                          | rate-1,2,3                  | rate-bad,good,odd          | 0
    rate: setting:model changed
condition                      | high-k1,k2,k3               | high-second                | 0
    high: when changed
foreach, a part of the list    | rate sum keys               | sum keys                   | 0
    rate: foreach changed
key                            | rate-k1,k2,k3 keys          | keys                       | 0
    rate: key changed
share that may fail            | rate                        |                            | 0
    rate: failed_share changed
most items that there may be   |                             |                            | 0
sample of an item              | rate-2                      | rate-bad                   | 0
    rate: samples added
popbuild stage version | rate-1,2,3 at-k1,k2,k3 high-k3 word-a,b sum keys |          | 0
    rate at high word sum keys: stages changed

artifact deleted               | rate                        |                            | 0
    rate: artifact missing
    sum: artifact:rate:/items/*/output/label removed
    keys: artifact:rate:/items/*/key removed
artifact edited, where read    | sum                         | sum                        | 0
    rate: edited by hand
    sum: artifact:rate:/items/*/output/label changed
artifact edited, where not read |                             |                            | 0
    rate: edited by hand
letter deleted                 | rate                        |                            | 0
    rate: never built
receipts deleted               |                             |                            | 0
receipts deleted, a field      | rate-1,2,3 at-k1            | rate-fine at-fine          | 0
    rate at: seed:/data/rows/*/text changed
receipt altered, another's field | rate-1,3 at-k1              | rate-fine at-fine          | 0
    rate at: seed:/data/rows/*/text changed
receipt torn, another's field  | rate-1,3 at-k1              | rate-fine at-fine          | 0
    rate at: seed:/data/rows/*/text changed
files touched                  |                             |                            | 0
whole root copied              |                             |                            | 0
"""
ROW_1, ROW_2, ROW_3 = (
    {"id": number, "code": f"k{number}", "text": text, "stars": number, "note": note}
    for number, text, note in ((1, "good", "first"), (2, "bad", "second"), (3, "odd", "third"))
)
ROW_4 = {"id": 4, "code": "k4", "text": "new", "stars": 0, "note": "fourth"}
LABELS = {"good": "+", "fine": "+", "bad": "-", "odd": "-", "new": "-"}
SCHEMA: dict[str, Any] = {"properties": {"label": {"enum": ["+", "-"]}}, "required": ["label"]}
TASK: dict[str, Any] = {
    "foreach": "seed.data.rows",
    "key": "id",
    "gate": {"refinements": 0, "failed_share": 0.4},
}


def write(workspace: Workspace) -> None:
    data = {"rows": [ROW_1, ROW_2, ROW_3], "words": ["a", "b", "b"], "tone": "dry"}
    workspace.seed("first", data)
    by_code = {"foreach": "seed.data.rows", "key": "code", "needs": []}
    high = {**by_code, "when": "item.stars > 2"}
    each = "{%% for each in artifacts.rate.items %%}{{ each.%s }} {%% endfor %%}"
    workspace.task("rate", "rate-{{ item.text }}: {{ seed.data.tone }}", schema=SCHEMA)
    workspace.task("rate", task_yaml=TASK)
    workspace.task("at", "at-{{ item.text }}: {{ position }}", task_yaml=by_code)
    workspace.task("high", "high-{{ item.note }}: high", task_yaml=high)
    words = {"foreach": "seed.data.words", "needs": []}
    workspace.task("word", "word-{{ item }}: a word", task_yaml=words)
    workspace.task("sum", "sum: " + each % "output.label", task_yaml={"needs": ["rate"]})
    workspace.task("keys", "keys: " + each % "key", task_yaml={"needs": ["rate"]})
    workspace.pipeline(NEEDS)


def answer(request: Request) -> Reply:
    task, _, text = request.said("user").partition(":")[0].partition("-")
    if task != "rate":
        return default_answer(request)
    return Reply(json.dumps({"label": LABELS.get(text, "?"), "why": text}))


# --- the changes ---


def data(**members: Any) -> Change:
    return lambda workspace: edit(workspace, "seeds/first.json", lambda seed: seed["data"], members)


def row(number: int, **members: Any) -> Change:
    """Other members of the row with this ID."""
    return lambda workspace: edit(
        workspace, "seeds/first.json", lambda seed: seed["data"]["rows"][number - 1], members
    )


def task(name: str = "rate", **members: Any) -> Change:
    return lambda workspace: workspace.task(name, task_yaml={**TASK, **members}) and None


JOB = "pipeline-data/complete/first"
ARTIFACT, RECEIPTS = f"{JOB}/files/artifacts/rate-output.json", f"{JOB}/tasks/rate/items.jsonl"


def artifact(**members: Any) -> Change:
    """Edit the first output by hand."""
    return lambda workspace: edit(
        workspace, ARTIFACT, lambda body: body["items"][0]["output"], members
    )


def third_receipt(change: Callable[[str], str]) -> Change:
    def altered(workspace: Workspace) -> None:
        lines = (workspace.root / RECEIPTS).read_text().splitlines(keepends=True)
        assert '"key":"3"' in lines[-1]
        workspace.write(RECEIPTS, "".join([*lines[:-1], change(lines[-1])]))

    return altered


CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "field of one item, where read": row(2, text="fine"),
    "field, and the answer is as good": row(1, text="fine"),
    "field that no prompt reads": row(1, code="k1", unread="x"),
    "field that no prompt reads, new": row(2, other="x"),
    "field that one task reads": row(3, note="other"),
    "field of an item left out": row(1, note="other"),
    "field of another type": row(3, stars=3.0),
    "field that a condition reads": row(2, stars=5),
    "field that now leaves it out": row(3, stars=1),
    "field of the seed, of all items": data(tone="warm"),
    "item added at the end": data(rows=[ROW_1, ROW_2, ROW_3, ROW_4]),
    "item put first": data(rows=[ROW_4, ROW_1, ROW_2, ROW_3]),
    "item removed": data(rows=[ROW_1, ROW_2]),
    "items in another order": data(rows=[ROW_3, ROW_1, ROW_2]),
    "all items removed": data(rows=[]),
    "key of an item": row(2, id=9),
    "key that another item has": row(2, id=1),
    "key removed": row(2, id=None),
    "item without a key changes": data(words=["a", "c", "b"]),
    "items without keys, in another order": data(words=["b", "a", "b"]),
    "item without a key, twice": data(words=["a", "b", "b", "a"]),
    "list is no list any more": data(words="a"),
    "item fails": row(2, text="wrong"),
    "items fail, more than may": both(row(2, text="wrong"), row(3, text="worse")),
    "prompt": truth.replace("tasks/rate/prompt.md", "{{ seed", "so {{ seed"),
    "prompt, a comment in it": truth.replace("tasks/rate/prompt.md", "{{ seed", "{# hm #}{{ seed"),
    "prompt of the task that reads all": truth.replace("tasks/sum/prompt.md", "sum:", "sum: of"),
    "schema": new("tasks/rate/output.schema.json", {**SCHEMA, "description": "A label."}),
    "model": config("rate", model="openai/gpt-4.1-mini"),
    "condition": truth.replace("tasks/high/task.yaml", "> 2", "> 1"),
    "foreach, a part of the list": task(foreach="seed.data.rows[:2]"),
    "key": task(key="code"),
    "share that may fail": task(gate={"refinements": 0, "failed_share": 0.5}),
    "most items that there may be": task(max_items=3),
    "sample of an item": lambda workspace: (
        workspace.write("samples/first.json", {"rate:2": 1}) and None
    ),
    "popbuild stage version": lambda workspace: truth.Around(
        python="import popbuild.jobs.fingerprint as each; each.STAGES_VERSION = 'another'"
    ),
    "artifact deleted": remove(ARTIFACT),
    "artifact edited, where read": artifact(label="-"),
    "artifact edited, where not read": artifact(why="I say so"),
    "letter deleted": remove(f"{JOB}/tasks/rate/letter.json"),
    "receipts deleted": remove(RECEIPTS),
    "receipts deleted, a field": both(remove(RECEIPTS), row(1, text="fine")),
    "receipt altered, another's field": both(
        third_receipt(lambda line: line.replace('"label":"-"', '"label":"+"')), row(1, text="fine")
    ),
    "receipt torn, another's field": both(
        third_receipt(lambda line: line[:40]), row(1, text="fine")
    ),
    "files touched": touched,
    "whole root copied": another_root,
}


WORDS = {jsonio.digest(word)[7:23]: word for word in "abc"}


def letter(key: str) -> str:
    """A word by its digest."""
    return WORDS.get(key, key)


ROWS = truth.rows(TEXT)
TABLE = Table(ROWS, CHANGES, NEEDS, key=letter, items_of="first")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    yield from truth.built(tmp_path_factory.mktemp("built"), write, answer)


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_changed_item_makes_run(row: Row, copied: Workspace) -> None:
    truth.follow(TABLE, row, copied)
