"""Documents of seeds: texts are extracted once, kept beside them, and decide what is stale."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
from provider import Provider
from workspace import Workspace

PAGE = "<html><head><title>A page</title></head><body><h1>Head</h1><p>Some text.</p></body></html>"


@pytest.fixture
def filed(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`read` prints a document's text, `title` its title and how many pages it has."""
    with Workspace(tmp_path, provider) as workspace:
        put(workspace, "q3.pdf", documents.pdf("First page", "Second page"))
        workspace.task("read", prompt="Sum up: {{ files.report.text }}\n")
        workspace.task(
            "title",
            prompt="{{ files.report.title }}: {{ files.report.pages | length }}\n",
            task_yaml={"needs": []},
        )
        workspace.pipeline(["read", "title"])
        yield workspace


def put(workspace: Workspace, name: str, data: bytes | str) -> None:
    workspace.write(f"inputs/{name}", data)
    seed = {"name": "first", "files": {"report": f"inputs/{name}"}, "data": {}}
    workspace.write("seeds/first.json", seed)


def run(workspace: Workspace, *argv: str, code: int = 0, **more: Any) -> str:
    result = workspace.popbuild(*argv, **more)
    assert result.code == code, result
    return result.out + result.err


WITHOUT = """import sys
sys.modules["kreuzberg"] = None
from popbuild.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_the_extra(workspace: Workspace, *argv: str, code: int = 0) -> str:
    """A command where kreuzberg is not installed; it may not be asked for in any way."""
    result = workspace.run("python", "-c", WITHOUT, *argv)
    assert result.code == code, result
    return result.out + result.err


def test_a_text_is_extracted_once(filed: Workspace, provider: Provider) -> None:
    """It stands beside the file, sealed, with what read it. A second run, a copy of the root and
    another version do without the library; verify proves the text too."""
    run(filed, "run", "first")
    prompts = sorted(request.said("user") for request in provider.requests)
    assert prompts == ["Sum up: First page\n\nSecond page", "report: 2"]
    inputs = filed.job("first") / "inputs"
    beside = json.loads((inputs / "report.pdf.extracted.json").read_text())
    assert beside["pages"] == ["First page", "Second page"]
    assert beside["extractor"]["name"] == "kreuzberg"
    sealed = json.loads((filed.job("first") / "seal.json").read_text())["files"]
    assert "inputs/report.pdf.extracted.json" in sealed
    before = filed.tree()
    without_the_extra(filed, "run", "first")
    assert filed.tree() == before
    copy = filed.root.parent / "copy"
    shutil.copytree(filed.root, copy)
    for argv in (("run", "first"), ("verify",), ("validate",), ("prompt", "first", "read")):
        without_the_extra(filed, *argv, "--root", str(copy))
    assert len(provider.requests) == 2
    (inputs / "report.pdf.extracted.json").write_text("{}")
    assert "report.pdf" in run(filed, "verify", code=1)


def test_the_text_decides(filed: Workspace, provider: Provider) -> None:
    """Another file with the same text builds nothing, once its text is known; until then the tasks
    that read it are stale, and no command that looks extracts it."""
    run(filed, "run", "first")
    data = documents.pdf("First page", "Second page", "")
    put(filed, "q3.pdf", data + b"\n%% saved again")
    said = without_the_extra(filed, "status", "first")
    assert "input:report:/text changed" in said
    run(filed, "run", "first")
    assert [request.said("user") for request in provider.requests[2:]] == ["report: 3"]
    assert (filed.job("first") / "inputs/report.pdf").read_bytes().startswith(data)
    run(filed, "verify")
    put(filed, "q3.pdf", documents.pdf("Another page"))
    assert "Another page" in run(filed, "prompt", "first", "read")
    run(filed, "run", "first")
    assert len(provider.requests) == 5


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("memo.docx", documents.docx("Hello", "World"), "Hello\n\nWorld"),
        ("deck.pptx", documents.pptx("One", "Two"), "## One\n\n## Two"),
        ("page.html", PAGE, "# Head\n\nSome text."),
        ("rows.csv", "name,stars\nLee,3\n", "name,stars\nLee,3"),
        (
            "sales.xlsx",
            documents.xlsx(["Region", "Units"], ["Europe", "12"]),
            "## Sales\n\n| Region | Units |\n| --- | --- |\n| Europe | 12 |",
        ),
    ],
)
def test_each_kind(
    filed: Workspace, provider: Provider, name: str, data: bytes | str, text: str
) -> None:
    """As Markdown; a CSV file is its own text."""
    put(filed, name, data)
    run(filed, "run", "first")
    said = [request.said("user") for request in provider.requests]
    assert f"Sum up: {text}" in said
    assert ("A page: 1" if name == "page.html" else "report: 1") in said
    run(filed, "run", "first")
    run(filed, "verify")
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("q3.pdf", lambda: documents.pdf("x", encrypted=True), "PDF is password-protected"),
        ("q3.pdf", lambda: documents.pdf("x" * 400)[:300], "Invalid PDF"),
        ("q3.pdf", lambda: documents.pdf("x", inflated_bytes=1 << 30), "2 GiB of memory"),
        ("memo.docx", lambda: documents.docx("x", bomb_bytes=200 << 20), "exceeds limit"),
        ("memo.docx", lambda: b"PK\x03\x04 and no more", "its text cannot be read"),
        ("memo.docx", lambda: b"%PDF-1.4", "as its name says"),
    ],
)
def test_a_document_that_is_refused(
    filed: Workspace, provider: Provider, name: str, data: Callable[[], bytes], told: str
) -> None:
    """One error, which names the file, before anything is sent; mended, the job is built."""
    put(filed, name, data())  # made here: to pack a bomb takes longer than to read all tests
    said = run(filed, "run", "first", code=1)
    assert said.count(told) == 1
    assert f"inputs/{name}: " in said
    assert provider.requests == []
    put(filed, "q3.pdf", documents.pdf("Good"))
    run(filed, "run", "first")
    assert filed.states("first") == ["complete"]


def test_a_scan_has_no_text(filed: Workspace, provider: Provider) -> None:
    """That is an error where the text is read, and what does not read it is built."""
    put(filed, "q3.pdf", documents.pdf("", ""))
    said = run(filed, "run", "first:read", code=2)
    assert "files.report (inputs/q3.pdf) has no text: it is application/pdf" in said
    assert "a scan?" in said
    filed.task("title", prompt="{{ files.report.media_type }}\n")
    run(filed, "run", "first:title")
    assert [request.said("user") for request in provider.requests] == ["application/pdf"]


def test_a_pipeline_that_reads_no_file(filed: Workspace, provider: Provider) -> None:
    """Nothing is extracted for it."""
    put(filed, "q3.pdf", documents.pdf("x", encrypted=True))
    for task in ("read", "title"):
        filed.task(task, prompt=f"{task} of {{{{ seed.name }}}}\n")
    without_the_extra(filed, "run", "first")
    assert [each.name for each in (filed.job("first") / "inputs").iterdir()] == ["report.pdf"]


def test_the_extra_is_missing(filed: Workspace, provider: Provider) -> None:
    """validate says how to install it, and a run that needs it sends nothing."""
    for argv in (("validate",), ("run", "first")):
        said = without_the_extra(filed, *argv, code=1)
        assert said.count("pip install 'popbuild[documents]'") == 1
        assert "inputs/q3.pdf" in said
    assert provider.requests == []


def test_a_submitted_document(filed: Workspace, provider: Provider) -> None:
    """A text that cannot be read rejects the job, and the file is kept with its seed."""
    locked = filed.write("locked.pdf", documents.pdf("x", encrypted=True))
    sent = filed.write("sent.json", {"name": "sent", "data": {}})
    run(filed, "submit", str(sent), "--id", "sent", "--file", f"report={locked}")
    assert "password-protected" in run(filed, "run", "sent", code=1)
    inputs = filed.job("sent", "rejected") / "inputs"
    assert [each.name for each in inputs.iterdir()] == ["report.pdf"]
    assert list(filed.root.glob("pipeline-data/pending/*")) == []
    (inputs / "report.pdf").write_bytes(documents.pdf("Unlocked"))
    run(filed, "run", "sent")
    assert "Sum up: Unlocked" in [request.said("user") for request in provider.requests]


LATE = """import sys
from pathlib import Path
import popbuild.build.job as job
from popbuild.cli.main import main
import documents
take_up = job.take_up
def late(*given):
    Path("inputs/q3.pdf").write_bytes(documents.pdf("Just changed"))
    return take_up(*given)
job.take_up = late
sys.exit(main(["run", "first"]))
"""


def test_a_document_that_changes_as_its_job_begins(filed: Workspace, provider: Provider) -> None:
    """The copy decides, and its own text is what prompts have."""
    here = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    assert filed.run("python", "-c", LATE, env=here).code == 0
    prompts = sorted(request.said("user") for request in provider.requests)
    assert prompts == ["Sum up: Just changed", "report: 1"]
    run(filed, "verify")
    run(filed, "run", "first")
    assert len(provider.requests) == 2
