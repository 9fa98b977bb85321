"""A task over many items: each has its own prompt, calls, gate and receipt, and only those whose
dependencies changed are run."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from accounts import Accounts
from provider import Provider, Reply, Request
from workspace import Workspace

from popbuild.base import jsonio
from popbuild.llm.tokens import count_text
from popbuild.task.chunks import batches

EVERY = bool(os.environ.get("POPBUILD_TEST_EVERY_STEP"))
SCHEMA = {
    "type": "object",
    "required": ["label"],
    "properties": {"label": {"enum": ["good", "bad", "fair"]}},
}
TASK = {"foreach": "seed.data.rows", "key": "id", "gate": {"refinements": 1}}
PROMPT = "Classify in a {{ seed.data.tone }} tone: {{ item.text }}"
ROWS = [{"id": 1, "text": "good"}, {"id": 2, "text": "bad"}, {"id": 3, "text": "fair"}]


def answer(request: Request) -> Reply:
    """The last word of the first prompt, as a label; of another task, what it was asked."""
    prompt = request.messages[0]["content"]
    label = json.dumps({"label": prompt.split()[-1]})
    return Reply(label if prompt.startswith("Classify") else prompt)


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`classify` runs for each row; `sum` reads the labels."""
    provider.answer = answer
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("classify", PROMPT, schema=SCHEMA, task_yaml=TASK)
        workspace.task(
            "sum",
            "{% for each in artifacts.classify.items %}{{ each.output.label }} {% endfor %}",
            task_yaml={"answer": "text"},
        )
        workspace.pipeline(["classify", "sum"])
        yield workspace


def asked(
    workspace: Workspace, rows: object, *options: str, code: int = 0, tone: str = "dry"
) -> list[str]:
    """What a build asks, in order of its words: the end of each prompt. Built again, nothing."""
    workspace.seed("all", {"rows": rows, "tone": tone})
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    result = workspace.popbuild("run", "job=all", *options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.out + result.err
    requests = workspace.provider.requests
    again = workspace.popbuild("run", "job=all")
    assert (again.code, len(workspace.provider.requests)) == (code, len(requests))
    return sorted(each.messages[0]["content"].split(": ")[-1] for each in requests[before:])


def labels(workspace: Workspace, state: str = "complete") -> list[str]:
    found = workspace.artifact("all", "classify", state)["items"]
    return [f"{each['key']} {each['output']['label']}" for each in found]


def receipts(workspace: Workspace, state: str = "complete") -> dict[str, Any]:
    lines = (workspace.job("all", state) / "tasks/classify/items.jsonl").read_text().splitlines()
    bodies = map(json.loads, lines)
    return {body["key"]: body for body in bodies if "key" in body}


def test_each_item_is_asked_about_once(reviews: Workspace) -> None:
    assert asked(reviews, ROWS) == ["bad", "fair", "good", "good bad fair"]
    assert reviews.artifact("all", "classify") == {
        "items": [{"key": str(row["id"]), "output": {"label": row["text"]}} for row in ROWS],
        "failed": [],
    }
    found = receipts(reviews)
    assert list(found) == ["1", "2", "3"]
    assert found["2"]["answers"] == ['{"label": "bad"}']
    assert found["2"]["prompts"][0][0]["content"] == "Classify in a dry tone: bad"
    assert found["2"]["item"].keys() == {"item:/text"}
    assert [call["stored"] for call in found["2"]["calls"]] == [False]
    letter = reviews.letter("all", "classify")
    assert letter["usage"]["calls"] == 3
    assert letter["items"]["count"] == 3
    assert "seed:/data/rows/*/text" in letter["fingerprint"]
    assert "seed:/data/rows" not in letter["fingerprint"]
    assert sorted(path.name for path in reviews.job("all").glob("files/*/*")) == [
        "classify-output.json",
        "sum-answer-0.txt",
        "sum-output.json",
        "sum-prompt-0.json",
    ]
    assert reviews.popbuild("validate").code == 0
    said = reviews.popbuild("verify", "all")
    assert said.code == 0
    assert "4 stored answers" in said.out


# How the list changes, what is asked then, and the labels.
CHANGES: dict[str, tuple[list[dict[str, Any]], list[str], list[str]]] = {
    "nothing": (ROWS, [], ["1 good", "2 bad", "3 fair"]),
    "a field that no prompt reads": (
        [{**ROWS[0], "note": "new"}, *ROWS[1:]],
        [],
        ["1 good", "2 bad", "3 fair"],
    ),
    "one item": (
        [ROWS[0], {"id": 2, "text": "really good"}, ROWS[2]],
        ["good good fair", "really good"],
        ["1 good", "2 good", "3 fair"],
    ),
    "one more": (
        [*ROWS, {"id": "x y", "text": "so bad"}],
        ["good bad fair bad", "so bad"],
        ["1 good", "2 bad", "3 fair", "x y bad"],
    ),
    "one less": ([ROWS[0], ROWS[2]], ["good fair"], ["1 good", "3 fair"]),
    "the order": ([ROWS[2], ROWS[0], ROWS[1]], ["fair good bad"], ["3 fair", "1 good", "2 bad"]),
    "none is left": ([], ["[]"], []),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_only_items_that_changed_are_asked_about(reviews: Workspace, kind: str) -> None:
    rows, calls, found = CHANGES[kind]
    if not rows:  # a prompt that renders to nothing is an error
        reviews.task("sum", "{{ artifacts.classify.items }}")
    asked(reviews, ROWS)
    assert asked(reviews, rows) == calls
    assert labels(reviews) == found
    assert reviews.popbuild("verify", "all").code == 0


def test_what_all_items_read_makes_all_of_them_stale(reviews: Workspace) -> None:
    asked(reviews, ROWS)
    # The labels stay what they are, so that the task below has nothing to do.
    assert asked(reviews, ROWS, tone="warm") == ["bad", "fair", "good"]
    reviews.task("classify", PROMPT.replace("Classify", "Classify now"))
    assert asked(reviews, ROWS, tone="warm") == ["bad", "fair", "good"]
    # What only makes the list is a dependency of no item.
    reviews.task("classify", task_yaml={**TASK, "foreach": "seed.data.rows[:2]"})
    assert asked(reviews, ROWS, tone="warm") == ["good bad"]
    assert asked(reviews, ROWS, "--always-execute", tone="warm") == []
    assert asked(reviews, ROWS, "fresh=classify", tone="warm") == ["bad", "good"]


def test_a_bad_item_is_refined_alone_and_rejects_the_job(reviews: Workspace) -> None:
    asked(reviews, ROWS)
    odd = [ROWS[0], {"id": 2, "text": "odd"}, ROWS[2]]
    assert asked(reviews, odd, code=1) == ["odd", "odd"]
    rejection = json.loads((reviews.job("all", "rejected") / "rejection.json").read_bytes())
    assert rejection["problems"][0]["message"].startswith("item 2: /label: must be one of")
    assert receipts(reviews, "rejected")["2"]["problems"]
    assert labels(reviews) == ["1 good", "2 bad", "3 fair"]  # the last good result
    # Its receipt says what is wrong; the other items' receipts stand.
    assert asked(reviews, [ROWS[0], {"id": 2, "text": "all bad"}, ROWS[2]]) == ["all bad"]
    assert labels(reviews) == ["1 good", "2 bad", "3 fair"]


def test_a_share_of_items_may_fail(reviews: Workspace) -> None:
    reviews.task("classify", task_yaml={**TASK, "gate": {"refinements": 0, "failed_share": 0.4}})
    odd = [ROWS[0], {"id": 2, "text": "odd"}, ROWS[2]]
    assert asked(reviews, odd) == ["fair", "good", "good fair", "odd"]
    assert labels(reviews) == ["1 good", "3 fair"]
    failed = reviews.artifact("all", "classify")["failed"]
    assert [each["key"] for each in failed] == ["2"]
    assert failed[0]["problems"][0]["pointer"] == "/label"
    assert reviews.letter("all", "classify")["items"]["failed"] == 1
    # Another item: the failed one is left as it is.
    assert asked(reviews, [*odd, {"id": 4, "text": "bad"}]) == ["bad", "good fair bad"]
    more = [*odd, {"id": 4, "text": "odder"}]
    assert asked(reviews, more, code=1) == ["odder"]
    assert reviews.popbuild("verify", "all").code == 0


def test_equal_items_without_a_key_have_one_receipt(reviews: Workspace) -> None:
    reviews.task("classify", "Classify: {{ item }}", task_yaml={"foreach": "seed.data.rows"})
    assert asked(reviews, ["good", "bad", "good"]) == ["bad", "good", "good bad good"]
    found = reviews.artifact("all", "classify")["items"]
    assert found[0] == found[2] != found[1]
    assert len(receipts(reviews)) == 2
    assert asked(reviews, ["good", "good"]) == ["good good"]


def test_a_position_counts_where_it_is_asked_for(reviews: Workspace) -> None:
    reviews.task("classify", "Classify number {{ position }}: {{ item.text }}")
    asked(reviews, ROWS)
    assert receipts(reviews)["2"]["item"].keys() == {"item:/text", "position"}
    assert asked(reviews, [*ROWS[1:], ROWS[0]]) == ["bad", "bad fair good", "fair", "good"]


def test_stages_see_the_item(reviews: Workspace) -> None:
    stages = """\
    def pre_processing(context):
        context.files.write_artifact(f"note-{context.item['id']}.txt", str(context.position))
        context.log.info("about %s", context.item["text"])
        return {"shout": context.item["text"].upper()}

    def validate_quality(context):
        return ["too bad"] if context.item["text"] == "bad" else []
    """
    reviews.task(
        "classify",
        "Classify {{ variables.shout }}: {{ item.text }}",
        stages="\n".join(line[4:] for line in stages.splitlines()),
        task_yaml={**TASK, "gate": {"refinements": 0, "failed_share": 0.5}},
    )
    assert asked(reviews, ROWS) == ["bad", "fair", "good", "good fair"]
    assert [each["key"] for each in reviews.artifact("all", "classify")["failed"]] == ["2"]
    assert receipts(reviews)["3"]["log"][0]["message"] == "about fair"
    # The file of an item that stays stays, and that of one that is gone goes.
    asked(reviews, [{"id": 4, "text": "good"}, *ROWS[1:]])
    notes = sorted(path.name for path in reviews.job("all").glob("files/artifacts/note-*"))
    assert notes == ["note-2.txt", "note-3.txt", "note-4.txt"]
    assert reviews.popbuild("verify", "all").code == 0


def test_two_items_write_no_file_of_the_same_name(reviews: Workspace) -> None:
    stages = "def integration(context):\n    context.files.write_artifact('x.txt', 'x')\n"
    reviews.task("classify", stages=stages)
    reviews.seed("all", {"rows": ROWS, "tone": "dry"})
    result = reviews.popbuild("run", "job=all")
    assert result.code == 2
    assert "two items write the same file" in result.out + result.err


def test_a_command_is_given_the_item(reviews: Workspace) -> None:
    code = "import json, sys; print(json.dumps({'label': json.load(sys.stdin)['item']['text']}))"
    entries = {"classify": {"command": ["python3", "-c", code], "folder": "./classify"}}
    reviews.write("pipeline-config/tasks/index.yaml", yaml.safe_dump(entries | {"sum": "./sum"}))
    (reviews.root / "pipeline-config/tasks/classify/prompt.md").unlink()
    assert asked(reviews, ROWS) == ["good bad fair"]


def test_a_killed_build_loses_no_item_that_ended(reviews: Workspace, provider: Provider) -> None:
    rows = [{"id": number, "text": f"{number} good"} for number in range(12)]
    reviews.seed("all", {"rows": rows, "tone": "dry"})
    provider.hold(after=5)
    with reviews.start("popbuild", "run", "job=all") as running:
        provider.wait_for(12)
        while len(receipts_so_far(reviews)) < 5:
            pass
        running.kill()
    provider.release()
    sent = len(provider.requests)
    answered = [each.messages[0]["content"] for each in provider.requests if each.answered]
    assert reviews.popbuild("run", "job=all").code == 0
    again = [each.messages[0]["content"] for each in provider.requests[sent:]]
    assert not set(again) & set(answered)
    assert labels(reviews) == [f"{number} good" for number in range(12)]
    assert reviews.popbuild("verify", "all").code == 0


def receipts_so_far(workspace: Workspace) -> dict[str, Any]:
    try:
        return receipts(workspace, "current")
    except (OSError, ValueError):  # not begun, or torn
        return {}


@pytest.mark.slow
def test_killed_at_many_moments_nothing_settled_is_sent_again(
    reviews: Workspace, provider: Provider
) -> None:
    """Kills, each some calls after the last: what was in the store then is never asked again."""
    rows = [{"id": number, "text": f"{number} good"} for number in range(80)]
    reviews.seed("all", {"rows": rows, "tone": "dry"})
    reviews.pipeline(["classify", "sum"], limits={"openai": {"inFlight": 3}})
    draw, kills = random.Random(5), 20 if EVERY else 6
    for _ in range(kills):
        settled = prompts_stored(reviews)
        sent = len(provider.requests)
        with reviews.start("popbuild", "run", "job=all") as running:
            provider.kill_at(sent + draw.randint(4, 7), lambda it=running: it.pid)  # type: ignore[misc]
            assert running.wait().code == -9
        again = [each.messages[0]["content"] for each in provider.requests[sent:]]
        assert settled.isdisjoint(again)
    settled = prompts_stored(reviews)
    sent = len(provider.requests)
    assert reviews.popbuild("run", "job=all").code == 0
    assert settled.isdisjoint(each.messages[0]["content"] for each in provider.requests[sent:])
    assert labels(reviews) == [f"{number} good" for number in range(80)]
    assert list(Accounts(reviews.root, provider.requests).wrong(3 * kills)) == []
    assert reviews.popbuild("verify", "all").code == 0


def prompts_stored(workspace: Workspace) -> set[str]:
    paths = workspace.root.glob(".popbuild/store/*/*.json")
    bodies = (json.loads(path.read_bytes()) for path in paths)
    return {body["request"]["messages"][0]["content"] for body in bodies}


def test_an_altered_receipt_is_found(reviews: Workspace) -> None:
    asked(reviews, ROWS)
    path = reviews.job("all") / "tasks/classify/items.jsonl"
    path.write_text(path.read_text().replace('"good"', '"fair"'))
    said = reviews.popbuild("verify", "all")
    assert said.code == 1
    assert "tasks/classify/items.jsonl" in said.out
    # It counts for nothing: its item is run again, from the store, where another one changed.
    assert asked(reviews, [*ROWS[:2], {"id": 3, "text": "so bad"}]) == ["good bad bad", "so bad"]
    assert labels(reviews) == ["1 good", "2 bad", "3 bad"]
    assert reviews.popbuild("verify", "all").code == 0
    path.write_text("{torn")
    assert reviews.popbuild("verify", "all").code == 1
    assert reviews.popbuild("validate").code == 1
    odd = ["[]", '{"key": 1}', '{"shared": 1, "fingerprint": []}', '{"key": "2", "item": 3}']
    path.write_text("\n".join(['{"formatVersion":1,"task":"classify"}', *odd, ""]))
    assert asked(reviews, [*ROWS[1:], ROWS[0]]) == ["bad fair good"]  # answers are stored
    assert reviews.popbuild("verify", "all").code == 0


def test_chunks_of_a_file_are_items(reviews: Workspace) -> None:
    paragraphs = [f"{'word ' * 60}number {number} is good" for number in range(20)]
    reviews.write("inputs/report.md", "\n\n".join(paragraphs))
    reviews.task(
        "classify",
        "Classify: {{ item }}",
        task_yaml={"foreach": "files.report.chunks(tokens=150, overlap=0)"},
    )
    document = {"name": "all", "data": {}, "files": {"report": "inputs/report.md"}}

    def calls() -> int:
        assert reviews.provider is not None
        before = len(reviews.provider.requests)
        assert reviews.popbuild("run", "job=all").code == 0
        return len(reviews.provider.requests) - before

    reviews.write("seeds/all.json", document)
    assert calls() > 8
    assert calls() == 0
    paragraphs[7] = paragraphs[7].replace("word", "term")
    reviews.write("inputs/report.md", "\n\n".join(paragraphs))
    assert 1 <= calls() <= 4  # at most three chunks, and the sum
    assert reviews.popbuild("verify", "all").code == 0


# A seed or a setting that is wrong, and what is said of it. Nothing is sent.
BAD: dict[str, tuple[object, dict[str, Any], int, list[str]]] = {
    "an object": ({"a": 1}, {}, 2, ["foreach gives no list", "an object"]),
    "a text": ("good", {}, 2, ["foreach gives no list", "a text"]),
    "nothing": (None, {}, 2, ["foreach gives no list", "nothing"]),
    "a field that is not there": (
        ROWS,
        {"foreach": "seed.data.reviews"},
        2,
        ["seed.data has no 'reviews'", "rows"],
    ),
    "too many": ([*ROWS] * 400, {}, 2, ["more items than a task may have", "1,200", "max_items"]),
    "an equal key": (
        [*ROWS, ROWS[1]],
        {},
        2,
        ["items have the same key", "'2'", "items 1, 3"],
    ),
    "no key": ([ROWS[0], {"text": "bad"}], {}, 2, ["an item has no key", "item 1", "nothing"]),
    "a key of another kind": (
        [{"id": {"a": 1}}, {"id": None}, {"id": ""}],
        {},
        2,
        ["3 items have no key", "item 0", '{"a":1}'],
    ),
    "items without fields": (["a", "b"], {}, 2, ["2 items have no key"]),
    "no expression": (ROWS, {"foreach": "seed.data.rows["}, 3, ["syntax error"]),
    "two expressions": (ROWS, {"foreach": "seed.data.rows x"}, 3, ["syntax error"]),
    "a share without items": (
        ROWS,
        {"foreach": None, "key": None, "gate": {"failed_share": 0.5}},
        3,
        ["a share of items may fail, of a task without items"],
    ),
    "a share above one": (ROWS, {"gate": {"failed_share": 1}}, 3, ["/gate/failed_share"]),
    "a huge item": (
        [{"id": 1, "text": "x" * 5_000_000}],
        {},
        2,
        ["a template makes too large a prompt", "item", "1"],
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_list_is_one_error_before_anything_is_sent(reviews: Workspace, kind: str) -> None:
    rows, settings, code, said = BAD[kind]
    merged = {name: value for name, value in {**TASK, **settings}.items() if value is not None}
    reviews.task("classify", task_yaml=merged)
    reviews.seed("all", {"rows": rows, "tone": "dry"})
    result = reviews.popbuild("run", "job=all")
    text = result.out + result.err
    assert result.code == code, text
    for each in said:
        assert each in text
    assert "Traceback" not in text
    assert reviews.provider is not None
    assert reviews.provider.requests == []


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sed.data.rows", "did you mean: seed"),
        ("artifacts.summ.items", "an artifact that the task does not get"),
        ("seed.data.rows |", "syntax error"),
    ],
)
def test_a_wrong_expression_is_found_by_validate(
    reviews: Workspace, expression: str, said: str
) -> None:
    reviews.task("classify", task_yaml={**TASK, "foreach": expression})
    result = reviews.popbuild("validate")
    assert result.code == 1
    assert said in result.out
    assert "tasks/classify/task.yaml" in result.out


def test_an_item_is_shown_explained_and_asked_by_its_key(reviews: Workspace) -> None:
    asked(reviews, ROWS)
    reviews.seed("all", {"rows": [ROWS[0], {"id": 2, "text": "so bad"}], "tone": "dry"})
    said = reviews.popbuild("explain", "all").out
    assert "1 of 2 items to run\n    2: item:/text changed\n" in said
    found = json.loads(reviews.popbuild("explain", "all", "classify", "--json").out)
    assert found[0]["items"] == {"count": 2, "toRun": {"2": ["item:/text changed"]}}
    said = reviews.popbuild("prompt", "all", "classify", "--item", "2").out
    assert said == "--- user\nClassify in a dry tone: so bad\n"
    said = reviews.popbuild("prompt", "all", "classify").out
    assert said == "--- user\nClassify in a dry tone: good\n"
    shown = json.loads(reviews.popbuild("show", "all", "classify", "--item", "3").out)
    assert (shown["key"], shown["output"]) == ("3", {"label": "fair"})
    for command in ("show", "prompt"):
        result = reviews.popbuild(command, "all", "classify", "--item", "17")
        assert (result.code, "no such item" in result.err) == (3, True)
        result = reviews.popbuild(command, "all", "sum", "--item", "1")
        assert (result.code, "the task has no items" in result.err) == (3, True)


def test_retry_draws_again_for_items_that_failed(reviews: Workspace, provider: Provider) -> None:
    reviews.task("classify", task_yaml={**TASK, "gate": {"refinements": 0, "failed_share": 0.5}})
    odd = [ROWS[0], {"id": 2, "text": "odd"}, {"id": "a b", "text": "bad"}]
    asked(reviews, odd)
    provider.answer = lambda request: Reply('{"label": "fair"}')
    sent = len(provider.requests)
    result = reviews.popbuild("retry", "all:classify", "--failed")
    assert (result.code, "item 2 of classify draws" in result.err) == (0, True)
    assert len(provider.requests) == sent + 2  # the item, and the sum
    assert labels(reviews) == ["1 good", "2 fair", "a b bad"]
    assert reviews.read("samples/all.json") == {"classify:2": 1}
    assert receipts(reviews)["2"]["calls"][0]["sample"] == 1
    result = reviews.popbuild("retry", "all:classify", "--failed")
    assert (result.code, "no item of the task failed" in result.err) == (3, True)
    # One that passed, by its key.
    result = reviews.popbuild("retry", "all", "--item", "a b")
    assert (result.code, "item a b of classify draws" in result.err) == (0, True)
    assert labels(reviews) == ["1 good", "2 fair", "a b fair"]
    assert reviews.popbuild("run", "job=all").code == 0
    assert len(provider.requests) == sent + 4
    assert reviews.popbuild("verify", "all").code == 0
    # All of them, above whatever sample an item was at.
    assert reviews.popbuild("run", "job=all", "fresh=classify").code == 0
    assert {each["calls"][0]["sample"] for each in receipts(reviews).values()} == {2}


def test_retry_of_a_rejected_job_draws_for_its_failed_items(
    reviews: Workspace, provider: Provider
) -> None:
    assert asked(reviews, [ROWS[0], {"id": 2, "text": "odd"}], code=1) == ["good", "odd", "odd"]
    provider.answer = lambda request: Reply('{"label": "bad"}')
    sent = len(provider.requests)
    assert reviews.popbuild("retry", "all").code == 0
    assert len(provider.requests) == sent + 2
    assert labels(reviews) == ["1 good", "2 bad"]


def planned(workspace: Workspace, task: str = "classify") -> tuple[int, int | None, str]:
    """The calls of a task that a plan expects, from and to, and the basis of it."""
    plan = json.loads(workspace.popbuild("plan", "all", "--json").out)
    found = next(each for each in plan["jobs"][0]["tasks"] if each["task"] == task)
    return found["calls"]["low"], found["calls"]["high"], found["basis"]


def test_a_plan_prices_the_items_that_are_to_be_run(reviews: Workspace) -> None:
    reviews.seed("all", {"rows": ROWS, "tone": "dry"})
    low, high, basis = planned(reviews)
    assert (low, high) == (3, 6)
    assert basis.startswith("3 of 3 items: ")
    assert len(asked(reviews, ROWS)) == 4
    reviews.seed("all", {"rows": [*ROWS, {"id": 4, "text": "bad bad"}], "tone": "dry"})
    low, high, basis = planned(reviews)
    assert (low, high) == (1, 2)
    assert basis.startswith("1 of 4 items: ")


def test_a_plan_says_what_it_does_not_know_of_a_list(reviews: Workspace) -> None:
    reviews.task(
        "split",
        "Split",
        schema={
            "type": "object",
            "required": ["parts"],
            "properties": {"parts": {"type": "array"}},
        },
    )
    settings = {"foreach": "artifacts.split.parts", "max_items": 40}
    reviews.task("classify", "Classify: {{ item }}", task_yaml=settings)
    reviews.pipeline(["split", "classify"])
    assert reviews.provider is not None
    reviews.provider.answer = lambda request: (
        Reply('{"parts": ["good", "bad"]}') if request.said("user") == "Split" else answer(request)
    )
    reviews.seed("all", {})
    low, high, basis = planned(reviews)
    assert (low, high) == (0, 120)
    assert "at most 40 items (max_items)" in basis
    assert reviews.popbuild("run", "job=all").code == 0
    reviews.task("split", "Split once more")
    assert "at most 40 items (max_items), 2 at the last build" in planned(reviews)[2]


def test_a_list_in_an_item_that_a_prompt_loops_over(reviews: Workspace) -> None:
    reviews.task("classify", "Classify: {% for each in item.parts %}{{ each.word }}{% endfor %}")
    rows = [{"id": 1, "parts": [{"word": "so "}, {"word": "good"}]}, {"id": 2, "parts": []}]
    rows[1]["parts"] = [{"word": "bad", "note": 1}]
    assert asked(reviews, rows) == ["bad", "good bad", "so good"]
    assert receipts(reviews)["1"]["item"].keys() == {"item:/parts/*/word"}
    rows[1]["parts"] = [{"word": "fair", "note": 1}]
    assert asked(reviews, rows) == ["fair", "good fair"]
    rows[1]["parts"] = [{"word": "fair", "note": 2}]  # the list is stale, no item is
    assert asked(reviews, rows) == []
    assert reviews.popbuild("verify", "all").code == 0


@pytest.mark.parametrize("seed", range(6))
def test_one_item_more_changes_its_batch_and_its_neighbours(seed: int) -> None:
    draw = random.Random(seed)
    items = [{"key": f"k{n}", "output": "x" * draw.randint(10, 400)} for n in range(400)]
    before = batches(items, tokens=500)
    assert [each for batch in before for each in batch] == items
    assert all(sum(count_text(jsonio.compact(e)) for e in batch) <= 500 for batch in before)
    assert len(before) < 200
    place = draw.randrange(400)
    more = [*items[:place], {"key": "new", "output": "y" * 100}, *items[place:]]
    changed = [batch for batch in batches(more, tokens=500) if batch not in before]
    assert 1 <= len(changed) <= 5
    edited = [*items[:place], {**items[place], "output": "y"}, *items[place + 1 :]]
    assert len([batch for batch in batches(edited, tokens=500) if batch not in before]) <= 5


def test_batches_are_items_of_a_task_above(reviews: Workspace) -> None:
    """A map, a reduce of batches, and a reduce of these: one row is one call of each."""
    reviews.task("classify", "Classify number {{ item.id }}: {{ item.text }}")
    reviews.task(
        "parts",
        "Part: {% for each in item %}{{ each.key }}={{ each.output.label }} {% endfor %}",
        task_yaml={"foreach": "batches(artifacts.classify.items, tokens=120)", "answer": "text"},
    )
    reviews.task(
        "sum",
        "Whole: {% for each in artifacts.parts.items %}{{ each.output.content }}\n{% endfor %}",
    )
    reviews.pipeline(["classify", "parts", "sum"])
    rows = [{"id": number, "text": "good"} for number in range(60)]
    first = asked(reviews, rows)
    parts = len(reviews.artifact("all", "parts")["items"])
    assert parts > 5
    assert len(first) == 60 + parts + 1
    rows[17]["text"] = "bad"
    assert len(asked(reviews, rows)) == 3
    assert asked(reviews, rows) == []


def test_a_report_shows_failed_items_first(reviews: Workspace) -> None:
    reviews.task("classify", task_yaml={**TASK, "gate": {"refinements": 0, "failed_share": 0.5}})
    asked(reviews, [ROWS[0], {"id": "an <odd> one", "text": "odd"}])
    assert reviews.popbuild("report", "all", "-o", "page.html").code == 0
    page = (reviews.root / "page.html").read_text()
    panel = page[page.index('id="job:all:items"') : page.index('id="job:all:calls"')]
    assert "2 items, 1 failed" in panel
    first, second = panel.index("an &lt;odd&gt; one"), panel.index("<bdi>1</bdi>")
    assert first < second
    assert "must be one of" in panel
    assert "Classify in a dry tone: odd" in panel
    assert "belong to no task" not in page
    said = reviews.popbuild("status", "all", "--json").out
    assert json.loads(said)[0]["unowned"] == []
