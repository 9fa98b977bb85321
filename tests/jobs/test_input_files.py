"""The files of a seed: what stands where, what a change makes stale, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from clocks import rest
from patience import eventually
from provider import Provider
from workspace import Workspace, watching

from popbuild.model.input_file import may_be_backed_up

REPORT = "# Third quarter\n\nWe sold 40 batteries. {{ seed.data.secret }}\n"


@pytest.fixture
def filed(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`read` prints a report's text, `count` its length alone, `other` does not look at it."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.write("inputs/q3.md", REPORT)
        workspace.write("inputs/notes.txt", "Nothing to add.\n")
        files = {"report": "inputs/q3.md", "notes": "inputs/notes.txt"}
        seed(workspace, files)
        workspace.task("read", prompt="Sum up: {{ files.report.text }}\n")
        workspace.task(
            "title",
            prompt="Title: {{ files.report.title }}, {{ files.report.media_type }}\n",
            task_yaml={"needs": []},
        )
        workspace.task("other", prompt="{{ seed.data.tone }}\n", task_yaml={"needs": []})
        workspace.pipeline(["read", "title", "other"])
        yield workspace


def seed(workspace: Workspace, files: Any, job: str = "first") -> Path:
    return workspace.write(
        f"seeds/{job}.json", {"name": job, "files": files, "data": {"tone": "dry"}}
    )


def run(workspace: Workspace, *argv: str, code: int = 0) -> str:
    result = workspace.popbuild(*argv)
    assert result.code == code, result
    return result.out + result.err


def stale(workspace: Workspace, job: str = "first") -> list[str]:
    (found,) = json.loads(run(workspace, "status", job, "--json"))
    return [name for name, task in found["tasks"].items() if task["stale"]]


def test_a_prompt_reads_a_file(filed: Workspace, provider: Provider) -> None:
    """The text is a value, never a template; the copy stands beside the seed and under its seal;
    a second run calls nothing, changes nothing, and verify proves all."""
    run(filed, "run", "first")
    prompts = [request.said("user") for request in provider.requests]
    assert sorted(prompts) == sorted(
        ["dry", f"Sum up: {REPORT}".strip(), "Title: Third quarter, text/markdown"]
    )
    inputs = filed.job("first") / "inputs"
    assert {each.name: each.read_text() for each in inputs.iterdir()} == {
        "report.md": REPORT,
        "notes.txt": "Nothing to add.\n",
    }
    assert (inputs / "report.md").stat().st_mode & 0o777 == 0o600
    sealed = json.loads((filed.job("first") / "seal.json").read_text())["files"]
    assert {"inputs/report.md", "inputs/notes.txt"} <= sealed.keys()
    letter = filed.letter("first", "read")["fingerprint"]
    assert [each for each in letter if each.startswith("input")] == ["input:report:/text"]
    before = filed.tree()
    run(filed, "run", "first")
    assert filed.tree() == before
    assert len(provider.requests) == 3
    run(filed, "verify", "first")
    run(filed, "validate")


def test_a_changed_file_makes_stale_what_read_it(filed: Workspace, provider: Provider) -> None:
    """By the value that was read: a new text, a new title, or neither."""
    run(filed, "run", "first")
    filed.write("inputs/q3.md", REPORT.replace("40", "41"))
    assert stale(filed) == ["read"]
    explained = run(filed, "explain", "first")
    assert "input:report:/text changed" in explained
    assert "+We sold 41 batteries." in explained
    run(filed, "run", "first")
    assert len(provider.requests) == 4
    diff = run(filed, "diff", "first")
    assert "inputs/report.md changed" in diff
    assert "notes.txt" not in diff
    # The same text in another file, and with the line ends of another system.
    (filed.root / "inputs/q3.md").rename(filed.root / "inputs/q3-final.md")
    path = filed.root / "inputs/q3-final.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    seed(filed, {"report": "inputs/q3-final.md"})
    assert stale(filed) == []
    run(filed, "run", "first")
    assert len(provider.requests) == 4
    inputs = filed.job("first") / "inputs"
    assert [each.name for each in inputs.iterdir()] == ["report.md"]
    assert b"\r\n" in (inputs / "report.md").read_bytes()
    run(filed, "verify", "first")
    assert "input:report:/text" in run(filed, "trace", "first/read", "--json").replace(
        '"file": "report",\n', "input:report:/text"
    )


def test_a_no_op_over_many_jobs_opens_no_file(filed: Workspace, provider: Provider) -> None:
    """The index knows the stats of the files, as it does those of the seeds: a change is seen."""
    seed(filed, {"report": "inputs/q3.md"}, "second")
    run(filed, "run", "first", "second")
    rest()
    run(filed, "list")
    run(filed, "list")
    index = json.loads((filed.root / ".popbuild/index/jobs.json").read_bytes().split(b"\n", 1)[1])
    assert sorted(index["jobs"]) == ["first", "second"]
    assert "inputs/q3.md" in index["inputs"]["second"]
    # Nobody can read it: a command that opened it would say so.
    unreadable = filed.root / "inputs/q3.md"
    told = run(filed, "run")
    assert told.count("up to date") == 2, told
    unreadable.write_text(REPORT + "More.\n")
    assert stale(filed, "second") == ["read"]
    assert "second  complete, stale: read" in run(filed, "list")


def test_what_is_seen_of_a_file(filed: Workspace, provider: Provider) -> None:
    """In templates, in code, and by a command; each is a dependency of its task."""
    filed.task(
        "read",
        prompt="{{ files.report.tokens }} {{ files | length }} {{ files.report.pages[0] }}"
        "{% for each in files.report.chunks(tokens=8, overlap=0) %}[{{ each }}]{% endfor %}"
        "{% if files.annex is defined %}annex{% endif %}\n",
    )
    filed.task(
        "title",
        prompt="{{ variables.said }}",
        stages="def pre_processing(context):\n"
        "    report = context.files['report']\n"
        "    assert 'absent' not in context.files and 'notes' in list(context.files)\n"
        "    assert report.path.read_bytes() == report.read()\n"
        "    return {'said': report.title + report.path.name + report.digest}\n",
    )
    filed.task("other", task_yaml={"needs": []})
    filed.write("pipeline-config/tasks/other/show.py", SHOW)
    (filed.root / "pipeline-config/tasks/other/prompt.md").unlink()
    registry = "read: ./read\ntitle: ./title\nother: {command: [python3, show.py]}\n"
    filed.write("pipeline-config/tasks/index.yaml", registry)
    run(filed, "run", "first")
    said = [request.said("user") for request in provider.requests]
    (read,) = [each for each in said if REPORT.strip() in each]
    assert read.split()[1] == "2"
    assert "[# Third quarter]" in read
    assert any(each.startswith("Third quarterreport.mdsha256:") for each in said)
    assert json.loads(filed.artifact("first", "other")["content"]) == ["notes", "report"]
    read, other = (filed.letter("first", name)["fingerprint"] for name in ("read", "other"))
    assert {"inputs", "input:report:/text", "input:report:/pages/0"} <= read.keys()
    assert {"inputs", "input:notes:/digest", "input:report:/digest"} <= other.keys()
    filed.write("inputs/annex.md", "more")
    seed(filed, {"report": "inputs/q3.md", "notes": "inputs/notes.txt", "annex": "inputs/annex.md"})
    assert stale(filed) == ["read", "title", "other"]
    run(filed, "run", "first")
    assert stale(filed) == []


SHOW = """import json, sys
files = json.load(sys.stdin)["files"]
assert all(open(each["path"], "rb").read() for each in files.values())
print(json.dumps(sorted(files)))
"""


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("{{ files.raport.text }}", "there is no 'raport', did you mean 'report'?"),
        ("{{ files.report.txt }}", "files.report has no 'txt'; known: text, pages"),
        ("{{ files.report.chunks(tokens=10, overlap=6) }}", "not a size of chunks"),
        ("{{ files.photo.text }}", "files.photo (inputs/site.png) has no text: it is image/png"),
    ],
)
def test_what_a_file_lacks(filed: Workspace, provider: Provider, prompt: str, told: str) -> None:
    """An error names the file and what there is, before anything is sent."""
    filed.write("inputs/site.png", b"\x89PNG\r\n\x1a\n" + bytes(20))
    seed(filed, {"report": "inputs/q3.md", "photo": "inputs/site.png"})
    filed.task("read", prompt=prompt)
    assert told in run(filed, "run", "first:read", code=2)
    assert provider.requests == []


# What is refused.


def _link(workspace: Workspace) -> None:
    (workspace.root / "inputs/q3.md").unlink()
    (workspace.root / "inputs/q3.md").symlink_to("notes.txt")


def _linked_folder(workspace: Workspace) -> None:
    (workspace.root / "inputs").rename(workspace.root / "elsewhere")
    (workspace.root / "inputs").symlink_to("elsewhere")


def _pipe(workspace: Workspace) -> None:
    (workspace.root / "inputs/q3.md").unlink()
    os.mkfifo(workspace.root / "inputs/q3.md")


def _folder(workspace: Workspace) -> None:
    (workspace.root / "inputs/q3.md").unlink()
    (workspace.root / "inputs/q3.md").mkdir()


def _large(workspace: Workspace) -> None:
    with (workspace.root / "inputs/q3.md").open("wb") as file:
        file.truncate(100 << 20)


def _with(data: bytes, place: str = "inputs/q3.md") -> Callable[[Workspace], None]:
    return lambda workspace: workspace.write(place, data) and None


@pytest.mark.parametrize(
    ("source", "spoil", "told"),
    [
        ("../q3.md", None, "not a path that a seed may name"),
        ("/etc/passwd", None, "not a path that a seed may name"),
        ("inputs/../.env", None, "not a path that a seed may name"),
        (".env", None, "not a path that a seed may name"),
        ("inputs//q3.md", None, "not a path that a seed may name"),
        ("pipeline-data/complete/x/seed.json", None, "not a path that a seed may name"),
        ("seeds/other.json", None, "not a path that a seed may name"),
        ("Pipeline-Config/pipeline.json", None, "not a path that a seed may name"),
        ("inputs/q4.md", None, "inputs/q4.md: there is no such file"),
        ("inputs/q3.md", _link, "inputs/q3.md: not a regular file: a symbolic link"),
        ("inputs/q3.md", _linked_folder, "inputs/q3.md: below a symbolic link"),
        ("inputs/q3.md", _pipe, "inputs/q3.md: not a regular file: a pipe or a device"),
        ("inputs/q3.md", _folder, "inputs/q3.md: not a regular file: a folder"),
        ("inputs/q3.md", _large, "inputs/q3.md: file is too large: 104,857,600 bytes"),
        ("inputs/q3.md", _with(b"caf\xe9"), "inputs/q3.md: not a text in utf-8: byte 3"),
        ("inputs/q3.md", _with(b"a\0b"), "inputs/q3.md: not a text: character 2 is NUL"),
        (
            "inputs/site.jpg",
            _with(b"<html>", "inputs/site.jpg"),
            "inputs/site.jpg: not image/jpeg, as its name says",
        ),
    ],
)
def test_a_file_that_is_refused(
    filed: Workspace,
    provider: Provider,
    source: str,
    spoil: Callable[[Workspace], None] | None,
    told: str,
) -> None:
    """One error, which names the file, and nothing is sent: in a seed, by validate, and by
    submit, which leaves nothing behind. Mended, the job is built."""
    if spoil is not None:
        spoil(filed)
    path = seed(filed, {"report": source})
    for argv, code in ((("validate",), 1), (("submit", str(path), "--id", "sent"), 3)):
        assert run(filed, *argv, code=code).count(told) == 1
    assert list((filed.root / "pipeline-data").glob("pending/*")) == []
    assert told in run(filed, "run", "first", code=1)
    assert provider.requests == []
    assert filed.states("first") == ["rejected"]
    rejection = json.loads((filed.job("first", "rejected") / "rejection.json").read_text())
    assert [each["pointer"] for each in rejection["problems"]] == ["/files/report"]
    filed.write("good/q3.md", REPORT)
    seed(filed, {"report": "good/q3.md"})
    run(filed, "run", "first")
    assert filed.states("first") == ["complete"]


@pytest.mark.parametrize(
    ("files", "pointer"),
    [
        (["inputs/q3.md"], "/files"),
        ({"report": 3}, "/files/report"),
        ({"re port": "inputs/q3.md"}, "/files"),
        ({"nul": "inputs/q3.md"}, "/files/nul"),
        ({"report": "inputs/q3.md", "Report": "inputs/q3.md"}, "/files/Report"),
    ],
)
def test_files_of_another_shape(filed: Workspace, files: Any, pointer: str) -> None:
    """A seed whose files are not paths by name is refused at their place."""
    seed(filed, files)
    (problem,) = json.loads(run(filed, "validate", "--json", code=1))["problems"]
    assert (problem["file"], problem["pointer"]) == ("seeds/first.json", pointer)


# One-off jobs.


def test_a_submitted_file(filed: Workspace, provider: Provider) -> None:
    """Files come from anywhere on the disk, or are the root's; they wait beside the seed, and the
    job is its own from then on: it goes on after both are gone."""
    outside = filed.root.parent / "Q3 final.MD"
    outside.write_text("# Far away\n\nText.\n")
    sent = filed.write(
        "sent.json", {"name": "sent", "files": {"notes": "inputs/notes.txt"}, "data": {"tone": "a"}}
    )
    run(filed, "submit", str(sent), "--id", "sent", "--file", f"report={outside}")
    pending = filed.root / "pipeline-data/pending"
    assert sorted(path.relative_to(pending).as_posix() for path in pending.rglob("*")) == [
        "sent-inputs",
        "sent-inputs/notes.txt",
        "sent-inputs/report.md",
        "sent-seed.json",
    ]
    outside.unlink()
    filed.write("inputs/notes.txt", "Another note.\n")
    run(filed, "run", "sent")
    assert list(pending.iterdir()) == []
    inputs = filed.job("sent") / "inputs"
    assert {path.name: path.read_text() for path in inputs.iterdir()} == {
        "notes.txt": "Nothing to add.\n",
        "report.md": "# Far away\n\nText.\n",
    }
    assert any("Far away" in request.said("user") for request in provider.requests)
    calls = len(provider.requests)
    run(filed, "run", "sent")
    run(filed, "verify", "sent")
    assert len(provider.requests) == calls
    # An edit of the job's own copy is an alteration, and another dependency.
    (inputs / "report.md").write_text("# Near\n")
    assert stale(filed, "sent") == ["read", "title"]
    assert "inputs/report.md: is not what read was made from: /text" in run(
        filed, "verify", "sent", code=1
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--file", "report"), "a file is given by name and path"),
        (("--file", "report=missing.md"), "missing.md: there is no such file"),
        (("--file", "a=seeds/first.json", "--file", "a=dodo.py"), "a file was given twice"),
        (("--file", "bad name=seeds/first.json"), "not a valid seed"),
    ],
)
def test_a_submit_that_is_refused(filed: Workspace, given: tuple[str, ...], told: str) -> None:
    """Nothing waits after it."""
    out = run(filed, "submit", "seeds/first.json", *given, code=3)
    assert told in out
    assert list(filed.root.glob("pipeline-data/pending/*")) == []


def _packed(workspace: Workspace, form: str, files: Mapping[str, Any]) -> Path:
    """A seed with a report, as a folder or a zip file; `files` are others, or None for none."""
    named = {"name": "sent", "files": {"report": "docs/q3.md"}, "data": {"tone": "a"}}
    members = {"seed.json": json.dumps(named), "docs/q3.md": "# Packed\n", **files}
    folder = workspace.root.parent / "sent"
    if form == "folder":
        for name, text in members.items():
            if text is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
        return folder
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            if text is not None:
                archive.writestr(name, text)
    return folder.with_suffix(".zip")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_seed_with_its_files(filed: Workspace, provider: Provider, form: str) -> None:
    """As a folder or a zip file: what the seed does not name stays behind, and `--file` adds."""
    path = _packed(filed, form, {"other.md": "not named", "../out.md": "not read"})
    run(filed, "submit", str(path), "--id", "sent", "--file", "notes=inputs/notes.txt")
    run(filed, "run", "sent")
    inputs = filed.job("sent") / "inputs"
    assert sorted(each.name for each in inputs.iterdir()) == ["notes.txt", "report.md"]
    assert "Sum up: # Packed" in [request.said("user") for request in provider.requests]
    assert not (filed.root.parent / "out.md").exists() or form == "folder"
    run(filed, "verify", "sent")


def _bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("docs/q3.md", "w") as member,
    ):
        for _ in range(65):
            member.write(bytes(1 << 20))


def _linked(path: Path) -> None:
    member = zipfile.ZipInfo("docs/q3.md")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")


def _flip(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("docs/q3.md", "# Flipped")
    path.write_bytes(path.read_bytes().replace(b"# Flipped", b"# Flopped"))


def _nested(path: Path) -> None:
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sent/seed.json", "{}")


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("seed.json", "{}")


def _locked(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("docs/q3.md", "# Locked")
    data = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(sign) + offset] |= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_bomb, "sent.zip/docs/q3.md: file is too large"),
        (_linked, "sent.zip/docs/q3.md: not a regular file"),
        (_flip, "sent.zip/docs/q3.md: damaged in the zip file"),
        (_locked, "sent.zip/docs/q3.md: encrypted"),
        (_nested, "seed.json stands at the top"),
        (_twice, "two members of one name"),
        (lambda path: None, "sent.zip/docs/q3.md: there is no such file"),
        (lambda path: path.write_bytes(b"PK and more"), "error: not a zip file"),
        (lambda path: path.unlink(), "no such seed file"),
    ],
)
def test_a_zip_file_that_is_refused(
    filed: Workspace, spoil: Callable[[Path], object], told: str
) -> None:
    """One error that names the member, and nothing waits after it."""
    path = _packed(filed, "zip", {"docs/q3.md": None})
    spoil(path)
    assert run(filed, "submit", str(path), code=3).count(told) == 1
    assert list(filed.root.glob("pipeline-data/pending/*")) == []


def test_a_file_that_changes_while_its_job_runs(filed: Workspace, provider: Provider) -> None:
    """The job is built from its own copy, and is stale at once."""
    provider.at(1, lambda request: filed.write("inputs/q3.md", "# Another\n") and None)
    run(filed, "run", "first", "-n", "1")
    assert (filed.job("first") / "inputs/report.md").read_text() == REPORT
    said = [request.said("user") for request in provider.requests]
    assert "Title: Third quarter, text/markdown" in said
    assert stale(filed) == ["read", "title"]
    run(filed, "run", "first")
    assert (filed.job("first") / "inputs/report.md").read_text() == "# Another\n"
    run(filed, "verify")


# What travels.


def test_files_travel_with_their_job(filed: Workspace, provider: Provider) -> None:
    """Into archives and backups and out again, and away with a prune: nothing is bought."""
    run(filed, "run", "first")
    assert "inputs/report.md" in run(filed, "show", "first", "--json")
    assert run(filed, "show", "first", "inputs/report.md") == REPORT
    run(filed, "archive", "first", "-o", "first.tar.zst", "--remove")
    assert filed.states("first") == []
    run(filed, "restore", "first.tar.zst")
    run(filed, "submit", "seeds/first.json", "--id", "sent")
    run(filed, "backup", "-o", "root.tar.zst", "--plain")
    run(filed, "restore", "root.tar.zst", "--into", "again")
    again = filed.root / "again"
    assert (again / "inputs/q3.md").read_text() == REPORT
    assert (again / "pipeline-data/pending/sent-inputs/report.md").read_text() == REPORT
    for root in (filed.root, again):
        told = run(filed, "run", "first", "--root", str(root))
        assert "up to date" in told
        run(filed, "verify", "--root", str(root))
    assert "sent" in run(filed, "prune", "pending", "--older-than", "0s", "--yes")
    assert list(filed.root.glob("pipeline-data/pending/*")) == []
    assert len(provider.requests) == 3


def test_files_are_imported_with_a_waiting_seed(filed: Workspace, provider: Provider) -> None:
    """Once, and in front of the seed; a job that came with its files is built from them."""
    other = filed.root.parent / "other"
    shutil.copytree(filed.root, other)
    run(filed, "submit", "seeds/first.json", "--id", "sent", "--root", str(other))
    (filed.root / "seeds/first.json").unlink()
    shutil.rmtree(other / "seeds")
    run(filed, "import", str(other))
    run(filed, "import", str(other))
    waiting = filed.root / "pipeline-data/pending/sent-inputs/report.md"
    assert waiting.read_text() == REPORT
    filed.write("inputs/q3.md", "# Another\n")
    run(filed, "run", "sent")
    assert (filed.job("sent") / "inputs/report.md").read_text() == REPORT


def test_doctor_finds_files_without_a_seed(filed: Workspace) -> None:
    """Of a submit that was killed: after an hour, and not while the seed waits or was claimed."""
    run(filed, "submit", "seeds/first.json", "--id", "sent")
    left = filed.write("pipeline-data/pending/lost-inputs/report.md", "x").parent
    assert "lost-inputs" not in run(filed, "doctor")
    hours = "import time; time.time = lambda now=time.time: now() + 7200"
    program = (
        f"{hours}\nfrom popbuild.cli.main import main\nimport sys\nsys.exit(main(sys.argv[1:]))"
    )
    found = filed.run("python", "-c", program, "doctor")
    assert "pending/lost-inputs: was left by a command that was killed" in found.out
    assert "sent-inputs" not in found.out
    assert filed.run("python", "-c", program, "doctor", "--yes").code == 0
    assert not left.exists()
    run(filed, "run", "sent")


def test_an_orchestrator_sees_a_changed_file(filed: Workspace, provider: Provider) -> None:
    """With --seeds, an edit of a file builds what read it."""
    with watching(filed, "--seeds") as orchestrator:
        orchestrator.wait_for("first: complete")
        filed.write("inputs/q3.md", REPORT.replace("40", "41"))
        eventually(lambda: "41" in (filed.job("first") / "inputs/report.md").read_text())
    eventually(lambda: len(provider.requests) == 4)


@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ("inputs/q3.md", True),
        ("q3.md", True),
        ("dodo.py", False),
        ("PyProject.toml", False),
        ("archive.json", False),
        (".env", False),
        ("a/../b", False),
        ("pipeline-data/x", False),
    ],
)
def test_what_a_backup_may_hold_besides(place: str, allowed: bool) -> None:
    """Files that seeds name, and nothing that a tool would run or popbuild take for its own."""
    assert may_be_backed_up(place) is allowed
