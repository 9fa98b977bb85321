"""No template takes the square of its input for ever: what it looks at is counted, and what is slow
by itself is bounded before it is done."""

from __future__ import annotations

from typing import Any

import pytest

from popbuild.base.errors import TaskError
from popbuild.task.read_trace import ReadTrace
from popbuild.task.reads import view
from popbuild.task.templates import bounds
from popbuild.task.templates.render import Templates


def rendered(text: str, data: Any = None) -> str:
    """A template that sees a document's value as `a`."""
    templates = Templates({"p.md": text}.get, {})
    trace = ReadTrace(templates.budget)
    variables = {"a": view(data, "seed", "", trace)}
    return templates.render("p.md", variables, trace)[0]


SUMS: dict[str, tuple[str, Any, str]] = {
    "lists": ("{{ a|sum(start=[]) }}", [[1], [2, 3], []], "[1, 2, 3]"),
    "lists behind another": ("{{ a|sum(start=[0]) }}", [[1], [2]], "[0, 1, 2]"),
    "a generator of lists": ("{{ a|map('list')|sum(start=[]) }}", ["ab", "c"], "['a', 'b', 'c']"),
    "an attribute": ("{{ a|sum(attribute='x', start=[]) }}", [{"x": [1]}, {"x": [2]}], "[1, 2]"),
    "tuples": ("{{ ((1,), (2,))|sum(start=()) }}", None, "(1, 2)"),
    "numbers": ("{{ a|sum }} {{ a|sum(start=4) }}", [1, 2.5], "3.5 7.5"),
    "numbers of an attribute": ("{{ a|sum('x.y') }}", [{"x": {"y": 1}}, {"x": {"y": 2}}], "3"),
    "nothing": ("{{ []|sum }} {{ []|sum(start=[]) }}", None, "0 []"),
}


@pytest.mark.parametrize("kind", SUMS)
def test_a_sum_is_what_it_was(kind: str) -> None:
    """Of lists too, from a generator too: that came out empty."""
    text, data, expected = SUMS[kind]
    assert rendered(text, data) == expected


def test_a_sum_of_lists_is_linear() -> None:
    """A hundred thousand of them, whose sum by copies would take half a minute."""
    assert rendered("{{ a|sum(start=[])|length }}", [[1]] * 200_000) == "200000"
    with pytest.raises(TaskError, match="a template failed"):
        rendered("{{ [[1], 'x']|sum(start=[]) }}")


# What is looked at again and again: 3,000 turns over as many values. Most would take minutes.
AGAIN = {
    "in a list": "{% for i in a %}{% if -1 in a %}{% endif %}{% endfor %}",
    "in a copy": "{% set b = a|list %}{% for i in b %}{% if -1 in b %}{% endif %}{% endfor %}",
    "equal": "{% set b = a|list %}{% for i in b %}{% if a == b %}{% endif %}{% endfor %}",
    "less": "{% set b = a|list %}{% for i in b %}{% if b < b %}{% endif %}{% endfor %}",
    "count": "{% set b = a|list %}{% for i in b %}{% set _ = b.count(-1) %}{% endfor %}",
    "index": "{% set b = a|list %}{% for i in b %}{% set _ = b.index(2999) %}{% endfor %}",
    "a slice": "{% set b = a|list %}{% for i in b %}{% set _ = b[i:] %}{% endfor %}",
    "a slice of a view": "{% for i in a %}{% set _ = a[:1] %}{% endfor %}",
    "sorted": "{% for i in a %}{% set _ = a|sort %}{% endfor %}",
    "selected": "{{ a|select('in', a|map('string')|list)|list|length }}",
    "rejected": "{% set b = a|list %}{{ b|reject('in', b|reverse|list)|list|length }}",
    "mapped": "{% set b = a|list %}{% set c = [b] * 3000 %}{{ c|map('first')|list|length }}",
    "looped over": "{% for i in a %}{% for j in a if false %}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("kind", AGAIN)
def test_what_is_looked_at_again_and_again_is_counted(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with an error; a tenth of it passes."""
    monkeypatch.setattr(bounds, "MAX_STEPS", 1_000_000)
    with pytest.raises(TaskError, match=r"a template (takes too many steps|makes too large)"):
        rendered(AGAIN[kind], list(range(3_000)))
    rendered(AGAIN[kind].replace("3000", "80").replace("2999", "79"), list(range(80)))


# One operation that holds the interpreter: it must be refused before it begins.
AT_ONCE: dict[str, str] = {
    "a search from behind": "{{ ('a' * 3000000).rfind('a' * 300000 ~ 'b' ~ 'a' * 300000) }}",
    "a split from behind": "{{ ('a' * 3000000).rsplit('a' * 300000 ~ 'b' ~ 'a' * 300000) }}",
    "a cut from behind": "{{ ('a' * 3000000).rpartition('a' * 300000 ~ 'b' ~ 'a' * 300000) }}",
    "an index from behind": "{{ ('a' * 3000000).rindex('a' * 300000 ~ 'b' ~ 'a' * 300000) }}",
    "stripped": "{{ ('é' * 3000000).strip('è' * 3000000 ~ 'é') }}",
    "slices": "{{ [1]|slice(4000000)|list }}",
    "slices of lists": "{{ [1]|slice(1000000)|list }}",
    "a long attribute": "{{ a|map(attribute='x' ~ '.x' * 100000, default=1)|list }}",
    "equal lists sorted": "{% set b = [[1] * 2000] * 190 %}{% for i in range(99) %}"
    "{% set _ = b|sort %}{% endfor %}",
    "lists of lists compared": (
        "{% set n = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}"
        "{% set n.m = [n.m, n.m] %}{% endfor %}{{ n.l == n.m }}"
    ),
}


@pytest.mark.parametrize("kind", AT_ONCE)
def test_an_operation_that_is_slow_by_itself_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_STEPS", 1_000_000)
    with pytest.raises(TaskError, match=r"a template (takes too many steps|makes too large)"):
        rendered(AT_ONCE[kind], [{"x": 1}] * 1000)


ALLOWED: dict[str, tuple[str, Any, str]] = {
    "long texts": (
        "{% for i in range(200) %}{% set _ = a|upper %}{% endfor %}x",
        "ab" * 9_999,
        "x",
    ),
    "a search": ("{{ a.rfind('b' * 1000) }}", "a" * 100_000, "-1"),
    "a chain of comparisons": ("{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }}", None, "True False"),
    "an undefined name tested": ("{{ x is defined }} {{ x|default(1) == 1 }}", None, "False True"),
    "slices": ("{{ a|slice(2)|list }}", [1, 2, 3], "[[1, 2], [3]]"),
    "a slice": ("{{ a[1:] }} {{ a[::-1] }} {{ 'text'[:2] }}", [1, 2], "[2] [2, 1] te"),
    "membership": ("{{ 2 in a }} {{ 'x' not in a }} {{ 'e' in 'text' }}", [1, 2], "True True True"),
    "division": ("{{ 7 // 2 }} {{ 7 / 2 }}", None, "3 3.5"),
    "a loop with a test": ("{% for i in a if i > 1 %}{{ i }}{% endfor %}", [1, 2, 3], "23"),
}


@pytest.mark.parametrize("kind", ALLOWED)
def test_what_prompts_need_is_as_it_was(kind: str) -> None:
    text, data, expected = ALLOWED[kind]
    assert rendered(text, data) == expected
