"""Workbooks and Parquet files as tables: read once, by another process, with types as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import arro3.core
import arro3.io
import documents
import pytest
from documents import Formula
from provider import Provider
from workspace import Workspace

from popbuild.base.errors import InputError
from popbuild.jobs.plain_cells import object_of_pairs, plain_cell
from popbuild.jobs.table_rows import read_rows
from popbuild.model.table import Form, Row

REVIEWS = [
    ["id", "text", "stars"],
    [1, "Good", 5],
    [2, "Bad", 1.5],
    [None, None, None],
    ["A B", "Fair", None],
]
KEPT = ".popbuild/index/tables/reviews.yaml.jsonl"
WITHOUT = """import sys
sys.modules["python_calamine"] = sys.modules["arro3"] = None
from popbuild.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def workbook(**sheets: Any) -> bytes:
    return documents.workbook(sheets or {"Reviews": REVIEWS})


def parquet(folder: Path, columns: Mapping[str, Any]) -> bytes:
    path = folder / "made.parquet"
    arro3.io.write_parquet(arro3.core.Table.from_pydict(columns), path)
    return path.read_bytes()


def column(values: list[Any], kind: str, *of: Any) -> Any:
    return arro3.core.Array(values, getattr(arro3.core.DataType, kind)(*of))


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("triage", prompt="Triage {{ seed.data.text }}, {{ seed.data.stars }}\n")
        workspace.pipeline(["triage"])
        yield workspace


def put(workspace: Workspace, name: str, data: bytes, more: str = "") -> None:
    workspace.write(f"seeds/{name}", data)
    workspace.write("seeds/reviews.yaml", f'rows: {name}\nid: "r-{{{{ row.id | slug }}}}"\n{more}')


def prompts(workspace: Workspace, *command: str, code: int = 0) -> list[str]:
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    result = workspace.popbuild(*command)
    assert result.code == code, result.out + result.err
    return sorted(each.said("user") for each in workspace.provider.requests[before:])


def without_the_extra(workspace: Workspace, *argv: str, code: int = 0) -> str:
    """A command where neither library is installed; they may not be asked for in any way."""
    result = workspace.run("python", "-c", WITHOUT, *argv)
    assert result.code == code, result
    return result.out + result.err


# One reading each, without a root.


def rows(folder: Path, data: bytes, kind: str = "xlsx", **form: Any) -> list[Row]:
    path = folder / f"table.{kind}"
    path.write_bytes(data)
    return read_rows(path, path.name, Form(**form))


def test_types_of_cells(tmp_path: Path) -> None:
    cells = {
        "id": 7,
        "zip": "01234",
        "share": 0.25,
        "big": 10**15,
        "yes": True,
        "no": False,
        "when": datetime(2026, 1, 2, 3, 4, 5),
        "template": "{{ row.id }}",
        "formula": Formula("A2+1", "8 in all"),
        "never computed": Formula("A2+1", ""),
        "none": None,
    }
    found = rows(tmp_path, workbook(S=[list(cells), list(cells.values())]))
    when = {"when": "2026-01-02T03:04:05", "formula": "8 in all", "never computed": None}
    assert found == [Row("row 2", cells | when)]
    assert [type(each) for each in (found[0].values or {}).values()][:6] == [
        int,
        str,
        float,
        int,
        bool,
        bool,
    ]


def test_columns_of_every_kind(tmp_path: Path) -> None:
    """What is null, a number, a text, a list or an object in the file is one in the row."""
    kinds = arro3.core.DataType
    columns = {
        "int": column([1, None], "int64"),
        "large": column([2**64 - 1, 0], "uint64"),
        "float": column([0.1, float("nan")], "float64"),
        "text": column(["é", ""], "large_utf8"),
        "bool": column([True, None], "bool"),
        "date": column([20_455, None], "int32").cast(kinds.date32()),
        "time": column([1_767_323_040_000_000, None], "int64").cast(kinds.timestamp("us")),
        "uuid": column([b"\xff" * 16, None], "binary", 16),
        "utf-8": column([b"caf\xc3\xa9", None], "binary"),
        "list": arro3.core.list_array(column([0, 2, 2], "int32"), column([1, 2], "int64")),
    }
    first, second = rows(tmp_path, parquet(tmp_path, columns), "parquet")
    assert first.values == {
        "int": 1,
        "large": 2**64 - 1,
        "float": 0.1,
        "text": "é",
        "bool": True,
        "date": "2026-01-02",
        "time": "2026-01-02T03:04:00",
        "uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "utf-8": "café",
        "list": [1, 2],
    }
    assert second.values == dict.fromkeys(columns) | {"large": 0, "text": "", "list": []}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Decimal("1.10"), 1.1),
        (Decimal("2.00"), 2),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (time(1, 2, 3), "01:02:03"),
        (timedelta(hours=30), "PT108000S"),
        (timedelta(milliseconds=-1500), "PT-1.5S"),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T00:00:00+01:00"),
        ([{"a": [b"x"]}, None], [{"a": ["x"]}, None]),
        ([("k", 1), (2, None)], {"k": 1, "2": None}),
        ([], []),
    ],
)
def test_a_cell_as_json(value: object, found: object) -> None:
    assert plain_cell(value) == found
    assert type(plain_cell(value)) is type(found)


@pytest.mark.parametrize(
    "value", [float("inf"), b"\xff", object(), [float("-inf")], {"a": b"\xff"}]
)
def test_what_json_cannot_have(value: object) -> None:
    with pytest.raises(ValueError, match=r"number without end|not a text|of the kind"):
        plain_cell(value)


def test_an_empty_map_is_an_object() -> None:
    assert object_of_pairs([]) == {}


def test_odd_rows_are_named(tmp_path: Path) -> None:
    """The others are whole."""
    cells = [["id", "text"], [1, "a"], [2, "b", "c"], [3, "d"], [4, "e"], [5, "f"]]
    assert rows(tmp_path, documents.workbook({"S": cells}, merged="B4:B5")) == [
        Row("row 2", {"id": 1, "text": "a"}),
        Row("row 3", None, "the cell C3 is in a column without a name"),
        Row("row 4", None, "the cells B4:B5 are merged"),
        Row("row 5", None, "the cells B4:B5 are merged"),
        Row("row 6", {"id": 5, "text": "f"}),
    ]
    columns = {"id": column([1, 2], "int64"), "raw": column([b"\xff", b"x"], "binary")}
    assert rows(tmp_path, parquet(tmp_path, columns), "parquet") == [
        Row("row 1", None, "the column 'raw' holds bytes that are not a text in UTF-8"),
        Row("row 2", {"id": 2, "raw": "x"}),
    ]


ID = [["id"], [1]]
BAD_WORKBOOKS = {
    "header twice": (
        lambda: workbook(S=[["id", "n", "id"], [1]]),
        "twice at row 1 (columns: 'id')",
    ),
    "no header": (lambda: workbook(S=[[None]]), "has no header"),
    "merged header": (lambda: documents.workbook({"S": ID}, merged="A1:C1"), "is merged at A1:C1"),
    "encrypted": (documents.encrypted_workbook, "a workbook is encrypted"),
    "a text": (lambda: b"id,text\n1,a\n", "cannot be read: Cannot detect file format"),
    "nothing": (lambda: b"", "cannot be read: Cannot detect file format"),
    "cut short": (lambda: workbook()[:900], "cannot be read: Cannot detect file format"),
    "bomb": (lambda: documents.workbook({"S": ID}, is_bomb=True), "2 GiB of memory"),
}


@pytest.mark.parametrize("name", BAD_WORKBOOKS)
def test_a_bad_workbook(name: str, tmp_path: Path) -> None:
    make, says = BAD_WORKBOOKS[name]
    with pytest.raises(InputError) as error:
        rows(tmp_path, make())
    assert says in error.value.as_line()
    assert error.value.values["file"] == "table.xlsx"


@pytest.mark.parametrize("end", [0, 4, 300, None])
def test_a_bad_parquet_file(end: int | None, tmp_path: Path) -> None:
    """Cut short, or overwritten in its middle; a panic of the library is told in one line."""
    data = parquet(tmp_path, {"id": column(list(range(999)), "int64")})
    damaged = data[:end] if end is not None else data[:8] + bytes(600) + data[608:]
    with pytest.raises(InputError) as error:
        rows(tmp_path, damaged, "parquet")
    assert error.value.message == "a table cannot be read"
    assert "unwrap" not in str(error.value)


def test_a_workbook_is_read_once(reviews: Workspace) -> None:
    """A changed row is one call. What needs no reading needs no library: the rows are kept by the
    file's digest, whatever its times are."""
    put(reviews, "reviews.xlsx", workbook())
    asked = ["Triage Bad, 1.5", "Triage Fair, None", "Triage Good, 5"]
    assert prompts(reviews, "run") == asked
    assert prompts(reviews, "run") == []
    assert reviews.read("pipeline-data/complete/r-1/seed.json") == {
        "name": "r-1",
        "data": {"id": 1, "text": "Good", "stars": 5},
    }
    put(reviews, "reviews.xlsx", workbook())  # as it is, at another time
    for argv in (("list",), ("run",), ("validate",), ("plan",)):
        without_the_extra(reviews, *argv)
    changed = [*REVIEWS[:2], [2, "Very bad", 1.5], *REVIEWS[3:]]
    put(reviews, "reviews.xlsx", workbook(Reviews=changed))
    assert prompts(reviews, "run") == ["Triage Very bad, 1.5"]
    assert prompts(reviews, "run") == []
    assert len((reviews.root / KEPT).read_text().splitlines()) == 5


def test_rows_that_are_kept_can_go(reviews: Workspace) -> None:
    """Without them, or where they are damaged, the file is read again; those of no table go."""
    put(reviews, "reviews.xlsx", workbook())
    assert len(prompts(reviews, "run")) == 3
    kept = reviews.root / KEPT
    whole = kept.read_bytes()
    for harm in (b"", whole[:-20], whole.replace(b"Good", b"Evil"), b"\xff\n{}\n"):
        kept.write_bytes(harm)
        put(reviews, "reviews.xlsx", workbook())
        assert prompts(reviews, "run") == []
        assert kept.read_bytes() == whole
    kept.unlink()
    put(reviews, "reviews.xlsx", workbook())
    assert prompts(reviews, "run") == []
    assert kept.read_bytes() == whole
    (kept.parent / "gone.yaml.jsonl").write_bytes(whole)
    put(reviews, "reviews.csv", b"id,text,stars\n1,Good,5\n")
    assert "r-1" in reviews.popbuild("list").out
    assert list(kept.parent.iterdir()) == []


def test_the_extra_is_missing(reviews: Workspace, tmp_path: Path) -> None:
    """The message says how to install it; other jobs are built."""
    reviews.seed("first", {"text": "t", "stars": 1})
    for name, data in (
        ("reviews.xlsx", workbook()),
        ("reviews.parquet", parquet(tmp_path, {"id": column([1], "int64")})),
    ):
        put(reviews, name, data)
        said = without_the_extra(reviews, "list")
        assert "pip install 'popbuild[tables]'" in said
        assert "first" in said
        path = str(reviews.root / "seeds" / name)
        assert "popbuild[tables]" in without_the_extra(reviews, "submit", path, code=3)
    assert without_the_extra(reviews, "run", "first")
    assert reviews.states("first") == ["complete"]


def test_rows_of_parquet(reviews: Workspace, tmp_path: Path) -> None:
    columns = {"id": column([1, 2], "int64"), "text": column(["Good", None], "utf8")}
    stars = {"stars": column([0.5, 1.0], "float64")}
    put(reviews, "reviews.parquet", parquet(tmp_path, columns | stars))
    assert prompts(reviews, "run") == ["Triage Good, 0.5", "Triage None, 1.0"]
    assert prompts(reviews, "run") == []
    without_the_extra(reviews, "list")


def test_a_sheet_of_several(reviews: Workspace) -> None:
    other = [["id", "text", "stars"], [7, "Other", 2]]
    book = documents.workbook({"Notes": [["x"]], "Old": other, "New": other}, hidden={"Notes"})
    put(reviews, "reviews.xlsx", book, "sheet: New\n")
    assert prompts(reviews, "run") == ["Triage Other, 2"]
    put(reviews, "reviews.xlsx", book)  # the first that is not hidden
    assert prompts(reviews, "run") == []
    put(reviews, "reviews.xlsx", book, "sheet: Neu\n")
    said = reviews.popbuild("list").out
    assert "no such sheet (sheet: Neu; did you mean: New; known: New, Notes, Old)" in said
    assert prompts(reviews, "run", "r-7") == []  # as it was built: a table that cannot be read
    put(reviews, "reviews.csv", b"id\n1\n", "sheet: New\n")
    assert "only a workbook has sheets" in reviews.popbuild("list").out


def test_submit_a_workbook(reviews: Workspace) -> None:
    book = reviews.write("queue.xlsx", workbook())
    queued = reviews.popbuild("submit", str(book), "--id", "q-{{ row.id | slug }}")
    assert (queued.code, queued.out) == (0, "q-1\nq-2\nq-a-b\n")
    assert len(prompts(reviews, "run", "job=q-*")) == 3
    assert prompts(reviews, "run", "job=q-*") == []
    assert not (reviews.root / KEPT).parent.exists()


def test_submit_a_sheet(reviews: Workspace) -> None:
    """The one that is named, hidden or not; nothing is queued where there is none of this name."""
    other = [["id", "text", "stars"], [7, "Other", 2]]
    book = documents.workbook({"Reviews": REVIEWS, "Old ones": other}, hidden={"Old ones"})
    path = str(reviews.write("queue.xlsx", book))
    for sheet, said in (
        ("Old one", "did you mean Old ones known Old ones, Reviews"),
        ("x", "known Old ones, Reviews"),
        ("", "--sheet names no sheet"),
    ):
        refused = reviews.popbuild("submit", path, "--sheet", sheet)
        assert refused.code == 3
        assert said in " ".join(refused.err.split()), refused.err
    csv = str(reviews.write("queue.csv", "id,text,stars\n1,Good,5\n"))
    refused = reviews.popbuild("submit", csv, "--sheet", "Reviews")
    assert (refused.code, "only a workbook has sheets" in refused.err) == (3, True)
    seed = str(reviews.write("seed.json", {"name": "one", "data": {}}))
    refused = reviews.popbuild("submit", seed, "--sheet", "Reviews")
    assert (refused.code, "--sheet is for a workbook" in refused.err) == (3, True)
    assert json.loads(reviews.popbuild("list", "--json").out) == []
    queued = reviews.popbuild("submit", path, "--sheet", "Old ones", "--id", "q-{{ row.id }}")
    assert (queued.code, queued.out) == (0, "q-7\n")
    assert prompts(reviews, "run", "job=q-*") == ["Triage Other, 2"]
    assert prompts(reviews, "run", "job=q-*") == []


def test_a_workbook_is_read_on_the_thread_of_an_event_loop(tmp_path: Path) -> None:
    """As where a table changes under a command that runs."""

    async def read() -> list[Row]:
        return rows(tmp_path, workbook(S=ID))

    assert asyncio.run(read()) == [Row("row 2", {"id": 1})]


def test_a_table_changed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are never kept of other bytes than they are of."""
    from popbuild.jobs import table_rows

    plain = table_rows.run_limited

    def changing(*given: Any, **limits: Any) -> Any:
        (tmp_path / "table.xlsx").write_bytes(workbook(S=[["id"], [2]]))
        return plain(*given, **limits)

    monkeypatch.setattr(table_rows, "run_limited", changing)
    (tmp_path / "table.xlsx").write_bytes(workbook(S=ID))
    kept = tmp_path / "kept.jsonl"
    with pytest.raises(InputError, match="changed while it was read"):
        read_rows(tmp_path / "table.xlsx", "table.xlsx", Form(), kept)
    assert not kept.exists()
    monkeypatch.undo()
    assert read_rows(tmp_path / "table.xlsx", "table.xlsx", Form(), kept) == [
        Row("row 2", {"id": 2})
    ]
    assert json.loads(kept.read_text().splitlines()[1]) == ["row 2", {"id": 2}, ""]
