"""Bad seeds: rejected with every problem and the seed as it was; nothing is called or lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from refusals import RUNS, refused, rejection
from workspace import Workspace

GOOD = b'{"name": "x", "data": {"topic": "grid batteries"}}'


def data(value: bytes) -> bytes:
    return b'{"name": "x",\n "data": {"topic": ' + value + b"}}"


# content, what the person is told
SEEDS: dict[str, tuple[bytes, list[str]]] = {
    "not JSON": (b'{"name": "x",\n nope}', ["not valid JSON at line 2, column 2"]),
    "empty": (b"", ["not valid JSON at line 1, column 1", "it is empty"]),
    "half": (b'{"name": "x"', ["not valid JSON at line 1", "delimiter"]),
    "not UTF-8": (b'{"name": "\xff"}', ["file is not UTF-8 at byte 10"]),
    "an array": (b"[1]", ["must be an object, found [1]"]),
    "a number": (b"7", ["must be an object, found 7"]),
    "null": (b"null", ["must be an object, found None"]),
    "duplicate keys": (
        b'{"name": "x",\n "data": {"a": 1,\n "a": 2}}',
        ["at line 3, column 2: duplicate key 'a'"],
    ),
    "NaN": (data(b"NaN"), ["at line 2, column 20: NaN, which is not JSON"]),
    "minus infinity": (data(b"-Infinity"), ["at line 2, column 20: -Infinity"]),
    "1e999": (data(b"1e999"), ["at line 2, column 20: 1e999, which is too large a number"]),
    "5,000 digits": (data(b"9" * 5000), ["at line 2, column 20: a number of 5,000 digits"]),
    "a lone surrogate": (data(b'"\\ud800"'), ["half a surrogate pair at line 2, column 20"]),
    "a key with a lone surrogate": (data(b'{"\\udfff": 1}'), ["half a surrogate pair at line 2"]),
    "nested 100,000 deep": (
        data(b"[" * 100_000 + b"]" * 100_000),
        ["JSON is nested too deeply (allowed: 200 levels)"],
    ),
    "nested 201 deep": (data(b"[" * 199 + b"]" * 199), ["JSON is nested too deeply"]),
    "too large": (
        data(b'"' + b"x" * 50_000_000 + b'"'),
        ["file is too large: 50,000,037 bytes (allowed: 16,777,216 bytes)"],
    ),
    "several problems": (
        b'{"nane": "x", "data": 5, "pipeline": 3}',
        ["missing 'name'", "/data: must be an object, found 5", "/pipeline: must be a string"],
    ),
    "an empty name": (b'{"name": "", "data": {}}', ["/name: too short"]),
    "an unknown pipeline": (
        b'{"name": "x", "data": {}, "pipeline": "othr"}',
        ["/pipeline: no such pipeline", "othr", "did you mean: other", "known: other"],
    ),
    "a device for a pipeline": (
        b'{"name": "x", "data": {}, "pipeline": "con"}',
        ["/pipeline: not a valid name", "device name of Windows"],
    ),
    "a newline in a pipeline's name": (
        b'{"name": "x", "data": {}, "pipeline": "other\\n"}',
        ["/pipeline: 'other\\n' is not a valid name: letters, digits"],
    ),
}


def with_other_pipeline(workspace: Workspace) -> None:
    config = workspace.root / "pipeline-config"
    for name in ("pipeline.json", "tasks/index.yaml", "tasks/research/prompt.md"):
        workspace.write(
            f"pipeline-config/pipelines/other/{name}", (config / name).read_text("utf-8")
        )
    workspace.write("pipeline-config/pipelines/other/tasks/analysis/prompt.md", "Analyse.\n")


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", SEEDS)
def test_a_bad_seed_is_rejected_with_its_problems(
    kind: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """To rejected/ with every problem, byte for byte; told with file and place; exit code 1; the
    second run says the same; the user's own file is untouched."""
    content, phrases = SEEDS[kind]
    with_other_pipeline(workspace)
    source = workspace.write("seeds/first.json", content)
    for _ in range(2):
        said = refused(workspace, (*RUNS[command], "job=first"), 1, phrases).out
        assert "first: rejected: seeds/first.json is not a valid seed" in said
        assert "hint: mend the seed and run the job again" in said
        assert workspace.states("first") == ["rejected"]
        assert (workspace.job("first", "rejected") / "seed.json").read_bytes() == content
        problems = "\n".join(rejection(workspace))
        assert all(phrase in problems for phrase in phrases)
    assert source.read_bytes() == content
    assert provider.requests == []


def test_the_exit_code_of_a_bad_seed_is_the_one_in_help(workspace: Workspace) -> None:
    """A run rejects its job: 1, where --help lists it. To submit it is to give a wrong file: 3."""
    seed = workspace.write("seeds/first.json", "{")
    assert workspace.popbuild("run", "first").code == 1
    assert workspace.popbuild("submit", str(seed), "--id", "second").code == 3
    said = workspace.popbuild("--help").out.split("exit codes:")[1].split("environment:")[0]
    (line,) = [each for each in said.splitlines() if "seed" in each]
    assert line.split("  4  ")[0].strip() == "1  a gate said no, a bad seed"


@pytest.mark.parametrize("kind", SEEDS)
def test_validate_names_the_seeds_problems(kind: str, workspace: Workspace) -> None:
    """The same problems, each with its file; nothing is written, not even the four folders."""
    content, phrases = SEEDS[kind]
    with_other_pipeline(workspace)
    workspace.write("seeds/first.json", content)
    workspace.write("seeds/second.json", content)
    said = refused(workspace, ("popbuild", "validate"), 1, phrases).out
    assert "seeds/first.json: " in said
    assert "seeds/second.json: " in said
    assert not (workspace.root / "pipeline-data").exists()


def test_a_mended_seed_is_built(workspace: Workspace, provider: Provider) -> None:
    """Once mended, the job completes, nothing is left in rejected/, and the second run is free."""
    workspace.write("seeds/first.json", "{")
    refused(workspace, RUNS["doit"], 1, ["not valid JSON"])
    workspace.write("seeds/first.json", GOOD)
    for _ in range(2):
        assert workspace.doit("run").code == 0
        assert workspace.states("first") == ["complete"]
        assert len(provider.requests) == 2
    assert "all valid" in workspace.popbuild("validate").out


def test_a_bad_seed_leaves_the_good_result(workspace: Workspace, provider: Provider) -> None:
    """A typo in the seed of a complete job loses nothing; undone, the job is up to date."""
    workspace.write("seeds/first.json", GOOD)
    assert workspace.doit("run").code == 0
    before = workspace.tree("pipeline-data/complete")
    workspace.write("seeds/first.json", GOOD[:-1])
    refused(workspace, RUNS["doit"], 1, ["not valid JSON"])
    assert workspace.tree("pipeline-data/complete") == before
    workspace.write("seeds/first.json", GOOD)
    assert "up to date" in workspace.doit("run").out
    assert workspace.states("first") == ["complete"]
    assert len(provider.requests) == 2


def test_a_bad_seed_keeps_what_a_rejected_job_has(workspace: Workspace, provider: Provider) -> None:
    """A typo in the seed of a rejected job: its artifacts stay, and no task is built again."""
    workspace.task("analysis", schema={"type": "object", "required": ["a"]})
    workspace.write("seeds/first.json", GOOD)
    provider.script(["Research.", "no", "no", "no"])
    assert workspace.doit("run").code == 1
    workspace.write("seeds/first.json", "{")
    refused(workspace, RUNS["doit"], 1, ["not valid JSON"])
    assert workspace.artifact("first", "research", "rejected") == {"content": "Research."}
    workspace.write("seeds/first.json", GOOD)
    provider.script(['{"a": 1}'])
    workspace.task("analysis", prompt="Say {{ artifacts.research.content }}\n")
    assert workspace.doit("run").code == 0
    assert len(provider.requests) == 5
    assert provider.requests[4].said("user") == "Say Research."


def test_a_bad_seed_stops_only_its_own_job(workspace: Workspace, provider: Provider) -> None:
    """With -c the other jobs are built; the exit code tells of the rejection."""
    workspace.write("seeds/bad.json", "{")
    said = refused(workspace, ("popbuild", "run", "-c"), 1, ["bad: rejected", "first: complete"])
    assert "up to date" not in said.out
    refused(workspace, ("doit", "run", "-c"), 1, ["bad: rejected", "first  up to date"])
    assert len(provider.requests) == 2


def test_a_bad_name_stops_only_its_own_job(workspace: Workspace, provider: Provider) -> None:
    """With -c a name that is none, or two that are alike, fail as a bad seed does."""
    for name in ("bad name", "LIKE", "like"):
        workspace.write(f"seeds/{name}.json", GOOD)
    phrases = ["bad name: rejected", "LIKE: rejected", "differs from LIKE only by upper and lower"]
    refused(workspace, ("popbuild", "run", "-c"), 1, [*phrases, "first: complete"])
    refused(workspace, ("doit", "run", "-c"), 1, [*phrases, "first  up to date"])
    refused(workspace, ("popbuild", "run"), 3, ["not a valid name for a job"])
    assert len(provider.requests) == 2
    assert workspace.states("like") == workspace.states("bad name") == []


# --- no file ---


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    secret = path.parent / "elsewhere.txt"
    secret.write_bytes(GOOD)
    path.symlink_to(secret)


IRREGULAR: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder": (_folder, "not a regular file: a folder"),
    "a link": (_link, "not a regular file: a symbolic link"),
    "a dangling link": (
        lambda path: path.symlink_to("nowhere"),
        "not a regular file: a symbolic link",
    ),
    "a pipe": (os.mkfifo, "not a regular file: a pipe or a device"),
}


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("kind", IRREGULAR)
def test_a_seed_that_is_no_file_is_not_followed(
    kind: str, command: str, workspace: Workspace, provider: Provider
) -> None:
    """A folder, a link or a pipe in a seed's place is rejected, stays, and is never read."""
    make, found = IRREGULAR[kind]
    path = workspace.root / "seeds/odd.json"
    make(path)
    for _ in range(2):
        refused(workspace, (*RUNS[command], "job=odd"), 1, ["odd: rejected", found])
    assert os.path.lexists(path)
    assert found in rejection(workspace, "odd")[0]
    assert not (workspace.job("odd", "rejected") / "seed.json").exists()
    assert provider.requests == []
    refused(workspace, ("popbuild", "validate"), 1, ["seeds/odd.json: " + found])


@pytest.mark.parametrize("command", RUNS)
def test_a_bad_seed_in_pending_is_moved(
    command: str, workspace: Workspace, provider: Provider
) -> None:
    """What another program put there is kept in rejected/, and made private."""
    path = workspace.write("pipeline-data/pending/queued-seed.json", '{"name": ')
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o700)
    refused(workspace, (*RUNS[command], "job=queued"), 1, ["pending/queued-seed.json is not a"])
    assert not path.exists()
    assert (workspace.job("queued", "rejected") / "seed.json").read_text() == '{"name": '
    assert "not valid JSON" in rejection(workspace, "queued")[0]
    assert provider.requests == []


# Without the capabilities that let root read everything: the tests may run as root.
AS_ANYBODY = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit("cannot give up what root may")
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("path", "code", "phrases"),
    [
        ("seeds/first.json", 1, ["first: rejected", "cannot be read: Permission denied"]),
        ("seeds", 3, ["the disk said no", "Permission denied", "/seeds"]),
        (".env", 3, ["Permission denied", ".env"]),
        (
            "pipeline-config/tasks/research/prompt.md",
            3,
            ["cannot be read", "pipeline-config/tasks/research/prompt.md", "Permission denied"],
        ),
    ],
)
@pytest.mark.parametrize("command", RUNS)
def test_what_may_not_be_read(
    path: str,
    code: int,
    phrases: list[str],
    command: str,
    workspace: Workspace,
    provider: Provider,
) -> None:
    """A file or folder without permission: named, and nothing is called."""
    workspace.dodo()
    workspace.write(".env", "A=1\n")
    (workspace.root / path).chmod(0)
    try:
        result = workspace.run("python", "-c", AS_ANYBODY, *RUNS[command])
    finally:
        (workspace.root / path).chmod(0o700)
    said = result.out + result.err
    assert result.code == code, said
    assert "Traceback" not in said
    assert all(phrase in said for phrase in phrases), said
    assert provider.requests == []


# --- names ---

NAMES = {
    "a space": ("has space", "letters, digits, - and _"),
    "a dash first": ("-dash", "first a letter or digit"),
    "a dot": ("x.y", "letters, digits, - and _"),
    "65 characters": ("a" * 65, "at most 64 characters"),
    "an umlaut": ("\N{LATIN SMALL LETTER U WITH DIAERESIS}ber", "letters, digits, - and _"),
    "a device": ("con", "not a device name of Windows"),
    "a device in capitals": ("LPT1", "not a device name of Windows"),
    "a newline": ("first\n", "letters, digits, - and _"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_seeds_file_name_must_be_an_id(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """Asked for, among all, or by validate: the file and the rule; nothing is built."""
    name, rule = NAMES[kind]
    workspace.write(f"seeds/{name}.json", GOOD)
    for argv in RUNS.values():
        for job in ((), (f"job={name}",)):
            if name == name.strip() or not job:  # blanks around a name in job= mean nothing
                phrases = ["not a valid name for a job", rule, "seeds/"]
                refused(workspace, (*argv, *job), 3, phrases)
    refused(workspace, ("popbuild", "validate"), 1, ["not a valid name for a job", rule])
    assert not (workspace.root / "pipeline-data").exists()
    assert provider.requests == []


@pytest.mark.parametrize("name", ["a b", "../x", "a/b", "", "nul", "first", "FIRST", "x" * 65])
def test_submit_refuses_an_id(name: str, workspace: Workspace) -> None:
    """Against the rule, or taken by a job already, whatever the case: nothing is queued."""
    workspace.write("draft.json", GOOD)
    taken = name.lower() == "first"
    phrase = "there is a job with this ID already" if taken else "not a valid name for a job"
    refused(workspace, ("popbuild", "submit", "draft.json", "--id", name), 3, [phrase])
    assert not (workspace.root / "pipeline-data").exists()


@pytest.mark.parametrize("where", ["seeds/FIRST.json", "pipeline-data/pending/FIRST-seed.json"])
def test_two_ids_may_not_differ_by_case_alone(
    where: str, workspace: Workspace, provider: Provider
) -> None:
    """Whichever is asked for, both are named with their places; nothing is built."""
    path = workspace.write(where, GOOD)
    for folder in list(path.parents)[:-1]:
        if folder.name in ("pending", "pipeline-data"):
            folder.chmod(0o700)
    path.chmod(0o600)
    for argv in RUNS.values():
        for job in ((), ("job=first",), ("job=FIRST",)):
            phrases = ["two jobs have the same name", "FIRST, first", where, "seeds/first.json"]
            refused(workspace, (*argv, *job), 3, phrases)
    refused(workspace, ("popbuild", "validate"), 1, ["only by upper and lower case"])
    assert provider.requests == []


def test_a_link_in_a_jobs_place_is_not_built_into(workspace: Workspace, provider: Provider) -> None:
    """A job's directory that is a symbolic link is refused: nothing is written behind it."""
    behind = workspace.root / "elsewhere"
    behind.mkdir()
    current = workspace.root / "pipeline-data/current"
    current.mkdir(parents=True, mode=0o700)
    current.parent.chmod(0o700)
    (current / "first").symlink_to(behind)
    for argv in RUNS.values():
        refused(workspace, argv, 3, ["a job's directory is a symbolic link", "current/first"])
    assert list(behind.iterdir()) == []
    assert provider.requests == []


def test_json_of_a_bad_seed_has_its_problems(workspace: Workspace) -> None:
    """`run --json` and `status --json` give the problems as objects with pointers."""
    workspace.write("seeds/first.json", '{"name": "x"}')
    run = refused(workspace, ("popbuild", "run", "--json"), 1, [])
    (body,) = json.loads(run.out)
    assert body["outcome"] == "rejected"
    assert body["problems"] == [
        {"message": "missing 'data'", "pointer": "", "schemaPath": "/required"}
    ]
    (status,) = json.loads(workspace.popbuild("status", "first", "--json").out)
    assert status["problems"] == body["problems"]


@pytest.mark.slow
@pytest.mark.parametrize("submitted", [True, False])
def test_a_large_seed_that_is_compact(
    workspace: Workspace, provider: Provider, submitted: bool
) -> None:
    """A valid seed of 13 MB stays valid, although our indented copy of it is larger than a seed
    may be."""
    data = {"topic": "grid batteries", "rows": [123_456_789] * 1_300_000}
    text = json.dumps({"name": "large", "data": data}, separators=(",", ":"))
    file = workspace.write("drafts/large.json" if submitted else "seeds/large.json", text)
    if submitted:
        assert workspace.popbuild("submit", str(file), "--id", "large").code == 0
        assert workspace.popbuild("validate").code == 0
    assert workspace.popbuild("run", "large").code == 0
    copy = workspace.job("large") / "seed.json"
    assert copy.stat().st_size > 16 * 1024 * 1024 or not submitted
    assert workspace.popbuild("validate").code == 0
    assert workspace.popbuild("run", "large").out == "-- large  up to date\n"
    assert len(provider.requests) == 2
