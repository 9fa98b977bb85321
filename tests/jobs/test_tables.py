"""Jobs of tables: a row is a source as a file under seeds/ is, and a call is bought for what
changed in a row, not for a change of its table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from workspace import Workspace

from popbuild.base.errors import InputError
from popbuild.jobs.row_templates import compiled, slug
from popbuild.model.table import Form, Row, rows_of

SPEC = """\
rows: reviews.csv
id: "review-{{ row.id | slug }}"
name: "{{ row.title }}"
data: {text: "{{ row.body }}", stars: "{{ row.stars | int }}"}
"""
CSV = """\
id,title,body,stars,note
1,Good,"It, is ""good""
really",5,x
2,Bad,so bad,1,y
A B,Fair,fair,3,z
"""


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Any:
    """Two tasks, of which the second reads the first alone; a table of three rows."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("triage", prompt="Triage {{ seed.data.text }}.\n")
        workspace.task("reply", prompt="Reply to {{ artifacts.triage.content }}\n")
        workspace.pipeline(["triage", "reply"])
        workspace.write("seeds/reviews.yaml", SPEC)
        workspace.write("seeds/reviews.csv", CSV)
        yield workspace


def calls(workspace: Workspace, *command: str, code: int = 0) -> list[str]:
    """What a command asks: the end of each prompt."""
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    result = workspace.popbuild(*command)
    assert result.code == code, result.out + result.err
    asked = workspace.provider.requests[before:]
    return sorted(each.body["messages"][-1]["content"].split()[0] for each in asked)


def states(workspace: Workspace) -> dict[str, str]:
    listed = json.loads(workspace.popbuild("list", "--json").out)
    return {job["id"]: job["state"] for job in listed}


def test_a_job_for_each_row(reviews: Workspace) -> None:
    assert set(states(reviews)) == {"review-1", "review-2", "review-a-b"}
    assert calls(reviews, "run") == ["Reply"] * 3 + ["Triage"] * 3
    seed = reviews.read("pipeline-data/complete/review-1/seed.json")
    assert seed == {"name": "Good", "data": {"text": 'It, is "good"\nreally', "stars": 5}}
    assert reviews.status("review-1")["source"] == "reviews.yaml"
    before = reviews.tree("pipeline-data")
    assert calls(reviews, "run") == []
    assert calls(reviews, "run", "job=review-*") == []
    assert reviews.tree("pipeline-data") == before
    assert reviews.popbuild("validate").code == 0
    assert reviews.popbuild("verify").code == 0


def test_a_changed_row_is_one_job(reviews: Workspace) -> None:
    """A field that no prompt reads changes nothing; another row's does not either."""
    calls(reviews, "run")
    reviews.write("seeds/reviews.csv", CSV.replace("so bad", "so very bad").replace("z\n", "new\n"))
    listed = json.loads(reviews.popbuild("list", "--json").out)
    stale = {job["id"] for job in listed if not job["upToDate"]}
    assert stale == {"review-2"}
    # The answer to the new triage is the provider's to the new prompt, so the reply is new too.
    assert calls(reviews, "run") == ["Reply", "Triage"]
    assert calls(reviews, "run") == []
    # The same rows in another order, and with other quotes.
    head, *rows = reviews.root.joinpath("seeds/reviews.csv").read_text().split("\n2,")
    reviews.write("seeds/reviews.csv", head + "\n2," + rows[0].replace("Fair", '"Fair"'))
    assert calls(reviews, "run") == []


def test_a_new_row_and_one_that_is_gone(reviews: Workspace) -> None:
    calls(reviews, "run")
    reviews.write("seeds/reviews.csv", CSV.replace("2,Bad,so bad,1,y", "7,New,new,2,w"))
    assert calls(reviews, "run") == ["Reply", "Triage"]
    dropped = reviews.popbuild("prune", "--orphans", "--yes")
    assert "complete/review-2" in dropped.out
    assert set(states(reviews)) == {"review-1", "review-7", "review-a-b"}
    # A table that cannot be read says nothing of its rows.
    reviews.write("seeds/reviews.csv", "id,id\n")
    assert "0 orphans to drop" in reviews.popbuild("prune", "--orphans").out
    (reviews.root / "seeds/reviews.yaml").unlink()
    assert "3 orphans to drop" in reviews.popbuild("prune", "--orphans").out


BAD_ROWS = {
    "ragged": ("3,Odd,odd,3", "it has 4 fields, and the header 5"),
    "twice": ("2,Odd,odd,3,x", "line 7 makes a job of the same ID"),
    "nameless": ("3,,odd,3,x", "/name: too short"),
    "long id": (f"{'9' * 90},Odd,odd,3,x", "allowed: letters, digits"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_its_own_job_alone(reviews: Workspace, name: str) -> None:
    row, says = BAD_ROWS[name]
    reviews.write("seeds/reviews.csv", CSV.rstrip("\n") + f"\nlast,Last,last,1,x\n{row}\n")
    whole = 3 if name == "twice" else 4
    asked = calls(reviews, "run", "-c", code=1)
    assert asked == ["Reply"] * whole + ["Triage"] * whole
    assert calls(reviews, "run", "-c", code=1) == []
    found = reviews.popbuild("validate")
    assert found.code == 1
    assert says in found.out
    assert "seeds/reviews.csv, line" in found.out
    assert says in reviews.popbuild("list").out


def test_a_row_that_gives_an_id_nothing(reviews: Workspace) -> None:
    """An ID of what all rows share, or `review-None`, would be a job that was not meant."""
    reviews.write("seeds/reviews.yaml", 'rows: r.jsonl\nid: "r-{{ row.id }}"\n')
    rows: list[dict[str, Any]] = [{"id": each} for each in ("", None, 0, "fine")]
    table = "".join(json.dumps({**row, "text": "t"}) + "\n" for row in rows)
    path = reviews.write("seeds/r.jsonl", table)
    listed = reviews.popbuild("list").out
    assert "line 1: id: an expression of it gives an empty text" in listed
    assert "line 2: id: an expression of it gives null" in listed
    assert set(states(reviews)) == {"r-0", "r-fine", "reviews-line-1", "reviews-line-2"}
    refused = reviews.popbuild("submit", str(path), "--id", "q-{{ row.id }}")
    assert (refused.code, "r.jsonl, line 1" in refused.err) == (3, True)
    reviews.write("seeds/reviews.yaml", 'rows: r.jsonl\nid: "{{ row.id | slug }}"\n')
    assert "line 1: id: an expression of it gives an empty text" in reviews.popbuild("list").out


def test_ids_that_no_job_can_have(reviews: Workspace) -> None:
    """They lead nowhere outside, and each row is named."""
    reviews.write("seeds/reviews.yaml", 'rows: reviews.csv\nid: "{{ row.id }}"\n')
    reviews.write("seeds/reviews.csv", 'id,text\n"",a\n../../x,b\n.hidden,c\na b,d\nfine,e\n')
    listed = reviews.popbuild("list").out
    assert "reviews-line-2  bad seed: seeds/reviews.csv, line 2: id: an expression" in listed
    for line in (3, 4, 5):
        assert f"seeds/reviews.csv, line {line}: its ID is" in listed
    assert calls(reviews, "run", "-c", code=1) == ["Reply", "Triage"]
    assert reviews.states("fine") == ["complete"]


BAD_TABLES = {
    "header twice": (SPEC, b"id,id\n1,2\n", "names a column twice at line 1"),
    "no header": (SPEC, b"\n\n", "has no header"),
    "zero byte": (SPEC, b"id,title\n1,a\0b\n", "holds a zero byte at line 2"),
    "encoding": (SPEC, b"id,title\n1,caf\xe9\n", "not in utf-8 at line 2"),
    "open quote": (SPEC, b'id,title\n1,"a\n', "cannot be read"),
    "no key": (SPEC.replace("name:", "nmae:"), b"id\n1\n", "did you mean: name"),
    "no id": ("rows: reviews.csv\n", b"id\n1\n", "no id"),
    "outside": (SPEC.replace("reviews.csv", "../../x.csv"), b"id\n1\n", "inside the root"),
    "absolute": (SPEC.replace("reviews.csv", "/etc/x.csv"), b"id\n1\n", "inside the root"),
    "missing": (SPEC.replace("reviews.csv", "other.csv"), b"id\n1\n", "no such table"),
    "another kind": (SPEC.replace("reviews.csv", "reviews.doc"), b"", "not a table"),
    "syntax": (SPEC.replace("| slug", "| | slug"), b"id\n1\n", "syntax error"),
    "yaml": ("rows: [\n", b"id\n1\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_stops_no_other_job(reviews: Workspace, name: str) -> None:
    spec, table, says = BAD_TABLES[name]
    reviews.write("seeds/reviews.yaml", spec)
    reviews.write("seeds/reviews.csv", table)
    reviews.seed("first", {"text": "t"})
    listed = reviews.popbuild("list").out
    assert says in listed
    # A line is one of the table: the file that is named is not the YAML file.
    in_table = ("header twice", "no header", "zero byte", "encoding", "open quote")
    assert ("seeds/reviews.csv: a table" in listed) == (name in in_table)
    assert calls(reviews, "run", "first") == ["Reply", "Triage"]
    refused = reviews.popbuild("run", "-c")
    assert refused.code == 1
    assert says in refused.out
    assert says in reviews.popbuild("validate").out


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_table_is_a_file(reviews: Workspace, kind: str) -> None:
    path = reviews.root / "seeds/reviews.csv"
    path.unlink()
    if kind == "link":
        path.symlink_to(reviews.write("elsewhere.csv", CSV))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert "not a regular file" in reviews.popbuild("list").out


def test_a_row_and_a_file_of_the_same_id(reviews: Workspace) -> None:
    reviews.seed("review-1", {"text": "t"})
    refused = reviews.popbuild("run", "review-1")
    assert refused.code == 1
    assert "seeds/reviews.csv, line 2 makes a job of the same ID" in refused.out


def test_rows_of_json(reviews: Workspace) -> None:
    """Types are as the file has them; the array is a table, and no seed."""
    rows = [{"id": 1, "text": "one", "tags": ["a"]}, {"id": 2, "text": "two", "more": None}]
    reviews.write("seeds/reviews.json", rows)
    reviews.write("seeds/reviews.yaml", 'rows: reviews.json\nid: "r{{ row.id }}"\n')
    assert set(states(reviews)) == {"r1", "r2"}
    assert len(calls(reviews, "run")) == 4
    assert reviews.read("pipeline-data/complete/r1/seed.json") == {"name": "r1", "data": rows[0]}
    # A table that cannot be used is no seed, so that no copy of it is kept as one.
    reviews.write("seeds/reviews.json", {"rows": rows})
    assert calls(reviews, "run", "reviews", code=1) == []
    assert reviews.states("reviews") == []
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    reviews.write("seeds/reviews.jsonl", lines + "[1]\n{\n")
    reviews.write("seeds/reviews.yaml", 'rows: reviews.jsonl\nid: "r{{ row.id }}"\n')
    (reviews.root / "seeds/reviews.json").unlink()
    assert calls(reviews, "run", "r1", "r2") == []
    listed = reviews.popbuild("list").out
    assert "line 3: a row is an object, found [1]" in listed
    assert "line 4: not valid JSON at column 2" in listed  # there is but one line in a line


def test_a_killed_build_of_a_row_goes_on(reviews: Workspace) -> None:
    """What was bought before is not bought again, though another row was changed meanwhile."""
    assert reviews.provider is not None
    reviews.provider.hold(after=1)
    running = reviews.start("popbuild", "run", "review-2")
    reviews.provider.wait_for(2)
    running.kill()
    running.wait()
    reviews.provider.release()
    reviews.write("seeds/reviews.csv", CSV.replace("really", "truly"))
    assert states(reviews)["review-2"] == "stopped"
    assert calls(reviews, "run", "review-2") == ["Reply"]
    assert reviews.states("review-2") == ["complete"]
    assert calls(reviews, "run", "review-2") == []


def test_files_of_rows(reviews: Workspace) -> None:
    reviews.write("seeds/reviews.yaml", SPEC + 'files: {note: "inputs/{{ row.note }}.md"}\n')
    for name in "xyz":
        reviews.write(f"inputs/{name}.md", f"Note {name}.\n")
    reviews.task("triage", prompt="Triage {{ seed.data.text }} {{ files.note.text }}\n")
    assert len(calls(reviews, "run")) == 6
    reviews.write("inputs/y.md", "Another note.\n")
    assert "Triage" in calls(reviews, "run")
    assert calls(reviews, "run") == []


def test_submit_a_table(reviews: Workspace) -> None:
    table = reviews.write("queue.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    queued = reviews.popbuild("submit", str(table), "--id", "q-{{ row.id }}")
    assert (queued.code, queued.out) == (0, "q-1\nq-2\n")
    assert len(calls(reviews, "run", "job=q-*")) == 4
    again = reviews.popbuild("submit", str(table), "--id", "q-{{ row.id }}")
    assert again.code == 3
    assert "there is a job with this ID already" in again.err
    twice = reviews.write("twice.csv", "id,text\n7,a\n8,b\n7,c\n")
    refused = reviews.popbuild("submit", str(twice), "--id", "t-{{ row.id }}")
    assert (refused.code, "two rows make a job of the same ID" in refused.err) == (3, True)
    assert "twice.csv, line 2 and line 4" in refused.err
    empty = reviews.popbuild("submit", str(reviews.write("empty.csv", "id,text\n")))
    assert (empty.code, "empty.csv has no rows" in empty.out) == (0, True)
    odd = reviews.write("odd.csv", "id,text\n1,a\n2\n")
    refused = reviews.popbuild("submit", str(odd), "--id", "o-{{ row.id }}")
    assert refused.code == 3
    assert "line 3" in refused.err
    assert not list((reviews.root / "pipeline-data/pending").iterdir())
    badly = reviews.popbuild("submit", str(table), "--id", "p-{{ row.id }}", "--pipeline", "a/b")
    assert (badly.code, "the seed of p-1" in badly.err) == (3, True)
    assert not list((reviews.root / "pipeline-data/pending").iterdir())
    unknown = reviews.popbuild("submit", str(table), "--id", "q-{{ row.idd }}")
    assert "the row has no column 'idd': did you mean 'id'?" in unknown.err


# Tables and templates, pure.


def values(data: bytes, kind: str = "csv", **form: Any) -> list[Any]:
    return [row.values for row in rows_of(data, "t", kind, Form(**form))]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"a,b\n1,\xc3\xa9\n", {}),
        (b"\xef\xbb\xbfa,b\r\n1,\xc3\xa9\r\n", {}),
        ("a,b\n1,é\n".encode("utf-16"), {}),
        ("a,b\n1,é\n".encode("utf-16-le"), {"encoding": "utf-16-le"}),
        (b"a,b\n1,\xe9\n", {"encoding": "latin-1"}),
        (b"a;b\n1;\xc3\xa9\n\n", {}),
        (b"a\tb\n1\t\xc3\xa9", {}),
        (b"a|b\n1|\xc3\xa9\n", {}),
        (b"'a','b'\n'1','\xc3\xa9'\n", {"quote": "'"}),
        (b"a:b\n1:\xc3\xa9\n", {"delimiter": ":"}),
    ],
)
def test_how_a_table_is_written_is_found_or_told(data: bytes, form: dict[str, Any]) -> None:
    assert values(data, **form) == [{"a": "1", "b": "é"}]


def test_a_cell_is_a_text_whatever_it_looks_like() -> None:
    assert values(b'a\n=SUM(1)\n1_000\n"{{ x }}"\n') == [
        {"a": "=SUM(1)"},
        {"a": "1_000"},
        {"a": "{{ x }}"},
    ]


def test_a_record_over_lines_is_named_by_its_first() -> None:
    rows = rows_of(b'a,b\n"x\ny",1\n2\n', "t", "csv", Form())
    assert rows == [
        Row("line 2", {"a": "x\ny", "b": "1"}),
        Row("line 4", None, "it has 1 fields, and the header 2"),
    ]


@pytest.mark.parametrize("form", [{"delimiter": ",,"}, {"encoding": "no-such"}, {"quote": ""}])
def test_a_form_that_cannot_be(form: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        values(b"a,b\n1,2\n", **form)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ row.n }}", 3),
        ("{{ row.text | int }}", 1000),
        ("{{ row.text }}", "1_000"),
        (" {{- row.n * 2 -}} ", 6),
        ("{{ row.n }}{{ row.n }}", "33"),
        ("n {{ row.n }}", "n 3"),
        ("{{ row.none }}", None),
        ("{{ row.items }}", [1]),
        ("{{ row.missing | default('-') }}", "-"),
        ("{{ row.braces }}", "{{ row.n }}"),
        ({"a": ["{{ row.n }}", 1]}, {"a": [3, 1]}),
        ("plain", "plain"),
    ],
)
def test_one_expression_keeps_its_type(template: Any, found: Any) -> None:
    row = {"n": 3, "text": "1_000", "none": None, "items": [1], "braces": "{{ row.n }}"}
    assert compiled(template, "data")(row) == found


@pytest.mark.parametrize(
    "template",
    [
        "{{ row.nn }}",
        "{{ row.n ** 99999999 }}",
        "{{ 'x' * 999999999 }}",
        "{{ '%999999999d' % row.n }}",
        "{{ row.__class__ }}",
        "{{ range(9) }}",
        "{{ row.n / 0 }}",
        "{{ row.n | center(999999999) }}",
    ],
)
def test_what_a_template_of_a_row_may_not(template: str) -> None:
    with pytest.raises(InputError):
        compiled(template, "data")({"n": 3})


def test_slugs() -> None:
    assert slug("  Crème Brûlée, No. 5! ") == "creme-brulee-no-5"
    assert slug(7) == "7"
    assert slug("日本") == ""
    assert len(slug("x y" * 99)) <= 60
