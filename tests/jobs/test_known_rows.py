"""What is kept of a table from command to command: a command with nothing to do parses none, and a
table that changed is never taken for the one that was read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clocks import rest
from provider import Provider
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.jobs import row_seeds, table_rows

SPEC = "rows: reviews.csv\nid: 'r-{{ row.id }}'\n"
CSV = "id,text\n1,good\n2,fine\n"
KEPT = ".popbuild/index/tables.json"
# Which files of seeds/ a command opens.
WATCHED = """
import re, sys
opened = set()


def watch(event, arguments):
    if event == "open":
        opened.update(re.findall("seeds/(.*)$", str(arguments[0])))


{before}
sys.addaudithook(watch)
from popbuild.cli.main import main
code = main(sys.argv[1:])
print("opened:", *sorted(opened), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    with Workspace(tmp_path, provider) as workspace:
        workspace.task("triage", prompt="Triage {{ seed.data.text }}.\n")
        workspace.pipeline(["triage"])
        workspace.write("seeds/reviews.yaml", SPEC)
        workspace.write("seeds/reviews.csv", CSV)
        yield workspace


@pytest.fixture
def known(reviews: Workspace) -> Workspace:
    """The same, built, and with a table that was kept."""
    assert reviews.popbuild("run").code == 0
    rest()
    opened(reviews, "list")
    assert [*json.loads((reviews.root / KEPT).read_text().split("\n", 1)[1])["tables"]] == [
        "reviews.yaml"
    ]
    return reviews


def opened(workspace: Workspace, *words: str, before: str = "") -> set[str]:
    """Which sources a command opens that must succeed, in a process that ran no other before."""
    result = workspace.run("python", "-c", WATCHED.replace("{before}", before), *words)
    assert result.code == 0, result.out + result.err
    return set(result.err.rpartition("opened:")[2].split())


def prompts(workspace: Workspace) -> list[str]:
    """What a run asks; the next one asks nothing."""
    assert workspace.provider is not None
    before = len(workspace.provider.requests)
    assert workspace.popbuild("run").code == 0
    asked = workspace.provider.requests[before:]
    assert workspace.popbuild("run").code == 0
    assert len(workspace.provider.requests) == before + len(asked)
    return sorted(each.said("user").strip() for each in asked)


@pytest.mark.parametrize("words", ["run", "list", "plan", "status"])
def test_a_table_that_rests_is_not_parsed(words: str, known: Workspace) -> None:
    said = known.popbuild(words).out
    assert opened(known, words) == set()
    (known.root / KEPT).unlink()
    assert opened(known, words) == {"reviews.yaml", "reviews.csv"}
    assert known.popbuild(words).out == said
    assert opened(known, words) == set()


def in_place(workspace: Workspace, name: str, old: str, new: str) -> None:
    """An edit to the same size that sets the times back, as some editors and programs do."""
    path = workspace.root / "seeds" / name
    before, text = path.stat(), path.read_text()
    assert len(old) == len(new)
    assert old in text
    with path.open("r+") as file:
        file.write(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("is_at_rest", [False, True])
def test_an_edit_in_place_is_seen(is_at_rest: bool, known: Workspace) -> None:
    """At once after a command as well as later; what was bought before is in the store."""
    for old, new in (("good", "evil"), ("evil", "good"), ("good", "fair")):
        in_place(known, "reviews.csv", old, new)
        if is_at_rest:
            rest()
        assert prompts(known) == ([] if new == "good" else [f"Triage {new}."])
        assert known.read("pipeline-data/complete/r-1/seed.json")["data"]["text"] == new
    in_place(known, "reviews.yaml", "'r-{{ row.id }}'", "'q-{{ row.id }}'")
    listed = json.loads(known.popbuild("list", "--json").out)
    assert [each["id"] for each in listed] == ["q-1", "q-2", "r-1", "r-2"]


def test_other_tables_and_seeds_come_and_go(known: Workspace) -> None:
    known.write("seeds/more.yaml", SPEC.replace("reviews", "more").replace("r-", "m-"))
    known.write("seeds/more.csv", "id,text\n1,more\n")
    known.seed("one", {"text": "a seed"})
    assert prompts(known) == ["Triage a seed.", "Triage more."]
    rest()
    assert prompts(known) == []
    opened(known, "run")
    assert opened(known, "run") == set()
    known.write("seeds/more.csv", "id,text\n1,more\n2,less\n")
    assert prompts(known) == ["Triage less."]
    # The same job twice is an error of it alone, and is known as such again.
    known.write("seeds/more.yaml", SPEC.replace("reviews", "more"))
    known.write("seeds/more.csv", "id,text\n1,more\n")
    for _ in range(2):
        rest()
        opened(known, "list")
        said = known.popbuild("list").out
        assert "r-1  bad seed: " in said
        assert "makes a job of the same ID" in said
    (known.root / "seeds/more.yaml").unlink()
    assert "bad seed" not in known.popbuild("list").out
    assert prompts(known) == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-20],
    "empty": lambda data: b"",
    "nonsense": lambda data: b"\xff\xfe\x00",
    "another job": lambda data: data.replace(b'"r-1"', b'"r-9"'),
    "not UTF-8": lambda data: data.replace(b"reviews", b"r\xefviews"),
    "of the version before": lambda data: data.partition(b"\n")[2],
}


@pytest.mark.parametrize("harm", DAMAGES)
def test_what_is_kept_may_be_damaged(harm: str, known: Workspace) -> None:
    """Then tables are parsed once more."""
    kept, said = known.root / KEPT, known.popbuild("list").out
    kept.write_bytes(DAMAGES[harm](kept.read_bytes()))
    assert opened(known, "list") == {"reviews.yaml", "reviews.csv"}
    assert known.popbuild("list").out == said
    assert opened(known, "list") == set()


def test_another_version_of_popbuild_parses_itself(known: Workspace) -> None:
    newer = "from popbuild.jobs import own_code; own_code.__version__ = '999'"
    assert "reviews.csv" in opened(known, "list", before=newer)


def test_a_table_that_cannot_be_read_is_not_kept(known: Workspace) -> None:
    """What is missing, in the root or in the environment, may be there for the next command."""
    table = known.root / "seeds/reviews.csv"
    table.rename(table.with_name("aside"))
    rest()
    for _ in range(2):
        assert "there is no such table" in known.popbuild("list").out
    table.with_name("aside").rename(table)
    assert "bad seed" not in known.popbuild("list").out
    assert prompts(known) == []


def test_a_table_that_changes_while_it_is_read(
    reviews: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes from there on: what was read is not taken for what stands there."""
    assert reviews.popbuild("list").code == 0
    rest()
    plain = table_rows.read_rows

    def slowly(*given: Any) -> Any:
        rows = plain(*given)
        in_place(reviews, "reviews.csv", "good", "evil")
        rest()
        return rows

    monkeypatch.setattr(table_rows, "read_rows", slowly)
    root = Root(reviews.root)
    early = row_seeds.of_row(root, "r-1")
    monkeypatch.undo()
    late = row_seeds.of_row(root, "r-1")
    assert early is not None
    assert late is not None
    assert (early.row["text"], late.row["text"]) == ("good", "evil")
    assert prompts(reviews) == ["Triage evil.", "Triage fine."]
