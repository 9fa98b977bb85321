"""Files of a seed, as a table: what a change of one makes run, what it asks, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import documents
import pytest
import truth
from provider import default_answer
from truth import Change, Row, Table, another_root, both, edit, new, nothing, remove, touched
from workspace import Workspace

# The job `first` has six files: report (Markdown), notes and legend (texts), deck (a PDF of two
# pages), photo (a picture) and spare, which no task looks at.
#
#   text   prints the report's text
#   title  prints the report's title
#   pages  prints how many pages the deck has, and the first of them
#   photo  has the photo attached
#   bytes  its stages.py reads the bytes of notes
#   which  prints the names of all files
#   annex  prints the texts of the legend and of an annex, if they are there: only the first is
#   plain  reads the seed's data alone
TEXT = """
change                                     | runs                  | asks                  | code

nothing                                    |                       |                       | 0
text, where read                           | text                  | text                  | 0
    text: input:report:/text changed
text, and the title in it                  | text title            | text title            | 0
    text: input:report:/text changed
    title: input:report:/title changed
the same text, written anew                |                       |                       | 0
the same text, with other line ends        |                       |                       | 0
the same text, under another path          |                       |                       | 0
the same text, as another type             | title                 | title                 | 0
    title: input:report:/title changed
a picture in the place of a text           | annex                 |                       | 2
    annex: input:legend:/text removed
a text in the place of a document          | pages                 | pages                 | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
document, its first page                   | pages                 | pages                 | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
document, a page that is not read          |                       |                       | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
document, another page                     | pages                 | pages                 | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
document, the same text in another file    |                       |                       | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
document, its extracted text is deleted    |                       |                       | 0
    pages: input-length:deck:/pages changed; input:deck:/pages/0 changed
file that no task reads                    |                       |                       | 0
file that no task reads, of another type   |                       |                       | 0
bytes that code reads                      | bytes                 | bytes                 | 0
    bytes: input:notes:/digest changed
bytes that code reads, with other line ends | bytes                | bytes                 | 0
    bytes: input:notes:/digest changed
attached file                              | photo                 | photo                 | 0
    photo: input:photo:/digest changed
attached file, under another path          |                       |                       | 0
attached file, of another type             | photo                 | photo                 | 0
    photo: input:photo:/digest changed
which file is attached                     | photo                 | photo                 | 0
    photo: attach changed
file is added that is not looked for       | which annex           | which                 | 0
    which annex: inputs changed
file that a task looks for is added        | which annex           | which annex           | 0
    which annex: inputs changed
file that no task reads is removed         | which annex           | which                 | 0
    which annex: inputs changed
file that a task looks for is removed      | which annex           | which annex           | 0
    which: inputs changed
    annex: inputs changed; input:legend:/text removed
file is named otherwise in the seed        | which annex           | which                 | 0
    which annex: inputs changed
file that the seed names is gone           |                       |                       | 1
seed's data, where read                    | plain                 | plain                 | 0
    plain: seed:/data/tone changed
prompt comes to read a file                | plain                 | plain                 | 0
    plain: file:tasks/plain/prompt.md changed
the job's copy of a file is altered        |                       |                       | 0
seed becomes a row with the same files     |                       |                       | 0
files touched                              |                       |                       | 0
whole root copied                          |                       |                       | 0
"""
TASKS = ["text", "title", "pages", "photo", "bytes", "which", "annex", "plain"]
REPORT = "# Third quarter\n\nWe sold 40 batteries.\n"
PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(9), b"\xff\xd8\xff\xe0" + bytes(9)
FILES = {
    "report": "inputs/q3.md",
    "notes": "inputs/notes.txt",
    "deck": "inputs/deck.pdf",
    "photo": "inputs/site.png",
    "legend": "inputs/legend.txt",
    "spare": "inputs/spare.csv",
}
IF_THERE = "{{% if files.{0} is defined %}}{{{{ files.{0}.text }}}}{{% endif %}} "
STAGES = """\
def prompt_templating(context):
    return f"bytes: {len(context.files['notes'].read())}"
"""


def write(workspace: Workspace) -> None:
    seed = {"name": "first", "files": FILES, "data": {"tone": "dry"}}
    workspace.write("seeds/first.json", seed)
    workspace.write("inputs/q3.md", REPORT)
    workspace.write("inputs/notes.txt", "Nothing\nto add.\n")
    workspace.write("inputs/deck.pdf", documents.pdf("First page", "Second page"))
    workspace.write("inputs/legend.txt", "Blue is sea.")
    workspace.write("inputs/site.png", PNG)
    workspace.write("inputs/spare.csv", "a,b\n1,2\n")
    prompts = {
        "text": "{{ files.report.text }}",
        "title": "{{ files.report.title }}",
        "pages": "{{ files.deck.pages | length }} {{ files.deck.pages[0] }}",
        "photo": "what is this?",
        "which": "{{ files | join(' ') }}",
        "annex": "".join(map(IF_THERE.format, ["legend", "annex"])),
        "plain": "{{ seed.data.tone }}",
    }
    for task, prompt in prompts.items():
        workspace.task(task, prompt=f"{task}: {prompt}", task_yaml={"needs": []})
    workspace.task("photo", task_yaml={"needs": [], "attach": ["photo"]})
    workspace.task("bytes", stages=STAGES, task_yaml={"needs": []})
    workspace.pipeline(TASKS)


# --- the changes ---


def files(**paths: str | None) -> Change:
    """What the seed names."""
    return lambda workspace: edit(workspace, "seeds/first.json", lambda seed: seed["files"], paths)


def put(path: str, content: object) -> Change:
    return lambda workspace: workspace.write(f"inputs/{path}", content) and None


def put_as(name: str, path: str, content: object) -> Change:
    """Another file under the name that the seed has for it."""
    return both(put(path, content), files(**{name: f"inputs/{path}"}))


def as_row(workspace: Workspace) -> None:
    remove("seeds/first.json")(workspace)
    workspace.write("seeds/table.csv", "id,tone,deck\nfirst,dry,deck.pdf\n")
    spec = {
        "rows": "table.csv",
        "id": "{{ row.id }}",
        "data": {"tone": "{{ row.tone }}"},
        "files": {**FILES, "deck": "inputs/{{ row.deck }}"},
    }
    workspace.write("seeds/table.yaml", spec)


COPIES = "pipeline-data/complete/first/inputs"
CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "text, where read": put("q3.md", REPORT.replace("40", "41")),
    "text, and the title in it": put("q3.md", REPORT.replace("Third", "Fourth")),
    "the same text, written anew": put("q3.md", REPORT),
    "the same text, with other line ends": put("q3.md", REPORT.replace("\n", "\r\n").encode()),
    "the same text, under another path": put_as("report", "final/q3.md", REPORT),
    "the same text, as another type": put_as("report", "q3.txt", REPORT),
    "a picture in the place of a text": put_as("legend", "legend.png", PNG),
    "a text in the place of a document": put_as("deck", "deck.md", "One page"),
    "document, its first page": put("deck.pdf", documents.pdf("1st page", "Second page")),
    "document, a page that is not read": put("deck.pdf", documents.pdf("First page", "2nd page")),
    "document, another page": put("deck.pdf", documents.pdf("First page", "Second page", "End")),
    "document, the same text in another file": put(
        "deck.pdf", documents.pdf("First page", "Second page") + b"\n%% saved again"
    ),
    "document, its extracted text is deleted": remove(f"{COPIES}/deck.pdf.extracted.json"),
    "file that no task reads": put("spare.csv", "a,b\n3,4\n"),
    "file that no task reads, of another type": put_as("spare", "spare.jpg", JPEG),
    "bytes that code reads": put("notes.txt", "More\nto add.\n\n"),
    "bytes that code reads, with other line ends": put("notes.txt", b"Nothing\r\nto add.\r\n"),
    "attached file": put("site.png", PNG + b"\0"),
    "attached file, under another path": put_as("photo", "photos/site.png", PNG),
    "attached file, of another type": put_as("photo", "site.jpg", JPEG),
    "which file is attached": new("tasks/photo/task.yaml", "needs: []\nattach: [deck]\n"),
    "file is added that is not looked for": put_as("more", "more.md", "More."),
    "file that a task looks for is added": put_as("annex", "annex.md", "An annex."),
    "file that no task reads is removed": files(spare=None),
    "file that a task looks for is removed": files(legend=None),
    "file is named otherwise in the seed": files(spare=None, other=FILES["spare"]),
    "file that the seed names is gone": remove("inputs/spare.csv"),
    "seed's data, where read": lambda workspace: edit(
        workspace, "seeds/first.json", lambda seed: seed["data"], {"tone": "warm"}
    ),
    "prompt comes to read a file": new("tasks/plain/prompt.md", "plain: {{ files.notes.text }}"),
    "the job's copy of a file is altered": lambda workspace: (
        workspace.write(f"{COPIES}/report.md", "Mine.") and None
    ),
    "seed becomes a row with the same files": as_row,
    "files touched": touched,
    "whole root copied": another_root,
}


ROWS = truth.rows(TEXT)
TABLE = Table(ROWS, CHANGES, {task: [] for task in TASKS})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    yield from truth.built(tmp_path_factory.mktemp("built"), write, default_answer)


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_changed_file_makes_run(row: Row, copied: Workspace) -> None:
    truth.follow(TABLE, row, copied)
