"""What a loop over a list reads: the fields that it uses of all items, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.jobs.fingerprint import Inputs, resolve
from popbuild.model.pipeline import Task
from popbuild.task.read_trace import ReadTrace
from popbuild.task.reads import view
from popbuild.task.templates.render import Templates

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "good", "meta": {"lang": "en", "tags": ["a", "b"]}},
    {"id": 2, "text": "bad", "meta": {"lang": "de", "tags": []}, "note": "odd"},
]
SEED = {"data": {"rows": ROWS, "words": ["x", "y"], "none": []}}
ALL = "seed:/data/rows/*"
TASK = Task("t", "t", "tasks/t", {}, (), "t.json", "json")


def read(template: str, seed: object = SEED) -> tuple[str, dict[str, str]]:
    """What a template renders to, and its dependencies but for itself."""
    templates = Templates({"p.md": template}.get, {})
    trace = ReadTrace(templates.budget)
    text, _ = templates.render("p.md", {"seed": view(seed, "seed", "", trace)}, trace)
    return text, {e: d for e, d in trace.dependencies().items() if not e.startswith("file:")}


# A template, what it renders to, and what it reads.
TEMPLATES = {
    "a field": (
        "{% for r in seed.data.rows %}{{ r.text }} {% endfor %}",
        "good bad",
        [f"{ALL}/text"],
    ),
    "below a field": (
        "{% for r in seed.data.rows %}{{ r.meta.lang }}{% endfor %}",
        "ende",
        [f"{ALL}/meta/lang"],
    ),
    "a field that some lack": (
        "{% for r in seed.data.rows %}{{ r.note | default('-') }}{% endfor %}",
        "-odd",
        [f"{ALL}/note"],
    ),
    "the kind of a field": (
        "{% for r in seed.data.rows if r.meta is defined %}.{% endfor %}",
        "..",
        ["seed-kind:/data/rows/*/meta"],
    ),
    "nothing of the items": (
        "{% for r in seed.data.rows %}.{% endfor %}",
        "..",
        ["seed-length:/data/rows"],
    ),
    "how many": ("{{ seed.data.rows | length }}", "2", ["seed-length:/data/rows"]),
    "whether there are any": (
        "{{ 'y' if seed.data.none else 'n' }}",
        "n",
        ["seed-length:/data/none"],
    ),
    "a whole item": (
        "{% for r in seed.data.rows %}{{ r }}{% endfor %}",
        f"{ROWS[0]}{ROWS[1]}",
        [ALL],
    ),
    "one by its place": (
        "{{ seed.data.rows[1].text }}",
        "bad",
        ["seed-kind:/data/rows", "seed:/data/rows/1/text"],
    ),
    "texts": ("{% for w in seed.data.words %}{{ w }}{% endfor %}", "xy", ["seed:/data/words"]),
    "a filter over a field": (
        "{{ seed.data.rows | map(attribute='text') | join(',') }}",
        "good,bad",
        [f"{ALL}/text"],
    ),
    "items that are chosen": (
        "{{ seed.data.rows | selectattr('id', 'gt', 1) | map(attribute='text') | join }}",
        "bad",
        [f"{ALL}/id", f"{ALL}/text"],
    ),
    "a list in an item": (
        "{% for r in seed.data.rows %}{% for t in r.meta.tags %}{{ t }}{% endfor %}{% endfor %}",
        "ab",
        [f"{ALL}/meta/tags"],
    ),
    "sorted by a list in an item": (
        "{% for r in seed.data.rows | sort(attribute='meta.tags') %}{{ r.id }}{% endfor %}",
        "21",
        [f"{ALL}/id", f"{ALL}/meta/tags"],
    ),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_loop_reads_the_fields_that_it_uses(kind: str) -> None:
    template, expected, names = TEMPLATES[kind]
    text, dependencies = read(template)
    assert text == expected
    assert sorted(dependencies) == names
    for dependency, digest in dependencies.items():  # what a later command finds
        assert resolve(dependency, TASK, Inputs(SEED, {}, {})) == digest


# How the rows change, and whether a prompt of their texts does.
CHANGES: dict[str, tuple[Any, bool]] = {
    "another field": ([{**ROWS[0], "id": 9}, ROWS[1]], False),
    "the field": ([{**ROWS[0], "text": "fine"}, ROWS[1]], True),
    "the order": ([ROWS[1], ROWS[0]], True),
    "one more": ([*ROWS, ROWS[0]], True),
    "one less": (ROWS[:1], True),
    "the field goes": ([{"id": 1}, ROWS[1]], True),
    "no list any more": ({"*": {"text": "good"}}, True),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_field_of_all_items_is_one_dependency(kind: str) -> None:
    rows, is_change = CHANGES[kind]
    _, dependencies = read("{% for r in seed.data.rows %}{{ r.text }}{% endfor %}")
    now = Inputs({"data": {"rows": rows}}, {}, {})
    found = {each: resolve(each, TASK, now) for each in dependencies}
    assert (found != dependencies) == is_change


def test_an_object_may_have_a_key_that_is_a_star() -> None:
    seed = {"data": {"*": {"rows": [{"text": "a"}]}}}
    text, dependencies = read("{% for r in seed.data['*'].rows %}{{ r.text }}{% endfor %}", seed)
    assert (text, list(dependencies)) == ("a", ["seed:/data/*/rows/*/text"])
    now = Inputs(seed, {}, {})
    assert resolve("seed:/data/*/rows/*/text", TASK, now) in dependencies.values()


@pytest.mark.parametrize("name", ["items", "keys", "values", "get"])
def test_a_key_wins_over_a_method(name: str) -> None:
    data = {"rows": [{name: "mine", "below": {name: "mine too"}}]}
    template = (
        f"{{{{ (seed.data.rows | list | first).{name} }}}} "
        f"{{{{ seed.data.rows[:1][0].below.{name} }}}} {{{{ {{'{name}': 1}}.{name} }}}}"
    )
    assert read(template, {"data": data})[0] == "mine mine too 1"


def test_only_a_field_that_a_prompt_reads_makes_its_task_stale(
    tmp_path: Path, provider: Provider
) -> None:
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("sum", "{% for r in seed.data.rows %}{{ r.text }}\n{% endfor %}")
        workspace.pipeline(["sum"])

        def ends(rows: list[dict[str, Any]], calls: int, reason: str = "up to date") -> None:
            workspace.seed("all", {"rows": rows})
            assert reason in workspace.popbuild("explain", "all").out
            for _ in range(2):
                assert workspace.popbuild("run", "job=all").code == 0
                assert len(provider.requests) == calls
            assert workspace.popbuild("verify", "all").code == 0

        changed = "seed:/data/rows/*/text changed"
        ends(ROWS, 1, "never built")
        ends([{**ROWS[0], "id": 7}, ROWS[1]], 1)
        ends([ROWS[0], {**ROWS[1], "text": "worse"}], 2, f"{changed}: item 1: bad → worse")
        ends([ROWS[1], ROWS[0]], 3, f"{changed}: 2 of 2 items")
        ends([*ROWS, ROWS[0]], 4, f"{changed}: 2 → 3 items")
        workspace.seed("all", {"rows": "none"})
        removed = 'seed:/data/rows/*/text removed: ["good","bad","good"]'
        assert removed in workspace.popbuild("explain", "all").out
