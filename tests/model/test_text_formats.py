"""What `format` says of texts of unexpected kinds: an answer, never an error, and never late.

That each format is the right one is shown with the public suite, in test_schema_suite.py.
"""

from __future__ import annotations

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.model.schema import gate, schemas
from popbuild.model.schema.text_formats import TEXT_FORMATS

CHARS = 100_000  # a check that takes the square of this takes minutes
STARTS = ("", "http://", "http://[", "a@", "a@[", "P", "2026-11-30T09:30:00.", '"', "{", "1/")
PARTS = (
    "a",
    "1",
    ".",
    "/",
    ":",
    "%41",
    "%",
    "~0",
    "~",
    "xn--",
    "(",
    "[a-",
    "\\",
    "\ud800",
    "\0",
    "\u3002",
)


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_hostile_texts_are_judged(name: str) -> None:
    """Half a surrogate pair, NUL, a million of the same: most are refused, none fails."""
    check = TEXT_FORMATS[name].check
    for start in STARTS:
        for part in PARTS:
            assert check(start + part * (CHARS // len(part))) in (True, False)
    for text in ("", " ", "\n", "\ud800", "\0", "\udfff\ud800", "a\n"):
        assert check(text) is (name == "regex" or (text == "" and name in EMPTY))


# An empty reference leads to the document itself, and an empty pointer to all of it.
EMPTY = ("uri-reference", "iri-reference", "uri-template", "json-pointer")


def test_what_the_suite_does_not_try() -> None:
    """Ends of lines, foreign digits and large numbers."""
    good = {
        "date": ["2024-02-29", "0000-01-01"],
        "date-time": ["2016-12-31T18:59:60-05:00"],
        "duration": ["PT36H", "P1Y10D"],
        "email": ["ada@example.com", "ada@[IPv6:::1]"],
        "uri": ["urn:x", "http://[v1.a]:80/", "data:," + "a" * 2_000_000],
        "iri": ["http://例え.jp/?\ue000"],
        "uri-template": ["/{+path*}{?q,lang:2}"],
        "regex": [r"\u{1F600}", r"(?<a>b)\k<a>"],
    }
    bad = {
        "date": [
            "2023-02-29",
            "2024-01-\u0660\u0661",
            "2024-01-01\n",
        ],
        "date-time": ["2016-12-31T23:59:60-05:00", "2024-01-01 00:00:00Z"],
        "time": ["09:30", "24:00:00Z"],
        "duration": ["P", "PT", "P1", "P1W1D", "P1DT"],
        "email": ["ada@", "@example.com", "ada@example..com", "ada@[1.2.3.4"],
        "ipv6": ["::1%eth0", "1::2::3"],
        "uri": ["a", "http://a b", "http://[::1", "1a:b", "http://a:b"],
        "uuid": ["123e4567e89b12d3a456426614174000"],
        "regex": ["(?i)a", r"\Z", "("],
    }
    for wanted, table in ((True, good), (False, bad)):
        for name, texts in table.items():
            assert {text[:40]: TEXT_FORMATS[name].check(text) for text in texts} == {
                text[:40]: wanted for text in texts
            }, name


@pytest.mark.parametrize("draft", ["", "http://json-schema.org/draft-04/schema#"])
def test_the_problem_says_what_was_found_and_what_is_wanted(draft: str) -> None:
    """With an example, for the model that tries again; other values than texts are not meant."""
    schema = {"properties": {"due": {"format": "date"}}, **({"$schema": draft} if draft else {})}
    (problem,) = gate.judge({"due": "next week"}, schemas.compile_schema(schema, "x"))
    assert str(problem) == "/due: 'next week' is not a date as in 2026-11-30"
    assert gate.judge({"due": 7}, schemas.compile_schema(schema, "x")) == ()


def test_a_format_is_a_gate(workspace: Workspace, provider: Provider) -> None:
    """An answer whose date is none is refined, with the problem before the model's eyes."""
    due = {"type": "string", "format": "date"}
    workspace.task("research", schema={"type": "object", "properties": {"due": due}})
    workspace.pipeline(["research"])
    provider.script(['{"due": "next week"}', '{"due": "2026-12-07"}'])
    for _ in range(2):
        assert workspace.popbuild("run").code == 0
    assert workspace.artifact("first", "research") == {"due": "2026-12-07"}
    assert len(provider.requests) == 2
    assert "'next week' is not a date" in provider.requests[1].said("user")
