"""The store: its modes, what is done about a bad one, sharing it, keeping it small."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Result
from patience import PATIENCE_S
from provider import Provider, Reply
from workspace import MODEL, Workspace

from popbuild.base import jsonio, units
from popbuild.base.errors import StoreError
from popbuild.base.paths import Root
from popbuild.llm.request import Answer, Request
from popbuild.llm.store import Store, open_entry
from popbuild.upkeep import remote, share_store

UNPRICED = "openai/a-model-without-a-price"
TITLED = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 3}},
    "required": ["title"],
}


def run(workspace: Workspace, code: int, *args: str, **options: Any) -> Result:
    """`popbuild` with these arguments; it must end with this code."""
    result = workspace.popbuild(*args, **options)
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    return result


def run_with(workspace: Workspace, patch: str, *args: str, **options: Any) -> Result:
    """`popbuild` in an interpreter that ran this code before."""
    code = f"{patch}\nimport sys\nfrom popbuild.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    return workspace.run("python", "-c", code, *args, **options)


def entries(folder: Path) -> list[Path]:
    """The entries of a store, or of a copy of one."""
    return sorted(folder.glob("*/*.json"))


def stored(workspace: Workspace) -> list[Path]:
    return entries(workspace.root / ".popbuild/store")


def bytes_of(files: list[Path]) -> dict[str, bytes]:
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def flip(file: Path, bit: int = 3) -> None:
    """Turn a bit in the middle of a file around."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1 << bit
    file.write_bytes(data)


def twins(workspace: Workspace) -> None:
    """Two jobs of one task that ask the same."""
    workspace.seed("second", {"topic": "grid batteries", "tone": "plain"})
    workspace.pipeline(["research"])


def artifacts(workspace: Workspace) -> list[tuple[str, str]]:
    """Every artifact of every complete job, with the digest of its bytes."""
    found = workspace.tree("pipeline-data/complete")
    return [(path, digest) for path, digest in found if "/files/artifacts/" in path]


# --- modes ---


def test_refresh_asks_anew_and_replaces(workspace: Workspace, provider: Provider) -> None:
    """Every request of what is built is sent again; the new answers are then served."""
    run(workspace, 0, "run", "first")
    before = bytes_of(stored(workspace))
    provider.script(["Other research.", "Other analysis."])
    run(workspace, 0, "run", "first", "-a", "--store", "refresh")
    assert len(provider.requests) == 4
    assert workspace.artifact("first", "analysis") == {"content": "Other analysis."}
    after = bytes_of(stored(workspace))
    # The analysis asks about other research: another request.
    (research,) = [name for name in before if after[name] != before[name]]
    assert b"Other research." in after[research]
    assert len(after) == 3
    run(workspace, 0, "run", "first", "-a")
    assert len(provider.requests) == 4
    assert workspace.artifact("first", "analysis") == {"content": "Other analysis."}


def test_refresh_builds_only_what_is_stale(workspace: Workspace, provider: Provider) -> None:
    """What is up to date is not asked for again unless -a says so."""
    run(workspace, 0, "run", "first")
    assert "up to date" in run(workspace, 0, "run", "first", "--store", "refresh").out
    assert len(provider.requests) == 2


@pytest.mark.parametrize("mode", ["refresh", "off"])
def test_a_command_sends_a_request_once(
    mode: str, workspace: Workspace, provider: Provider
) -> None:
    """Two jobs that ask the same one after the other: one call, also past what is stored."""
    twins(workspace)
    run(workspace, 0, "run", "first")
    provider.script(["Anew.", "Too many."])
    run(workspace, 0, "run", "-a", "-n", "1", "--store", mode)
    assert len(provider.requests) == 2
    for job in ("first", "second"):
        assert workspace.artifact(job, "research") == {"content": "Anew."}
    calls = [workspace.letter(job, "research")["calls"] for job in ("first", "second")]
    assert [call["stored"] for (call,) in calls] == [False, True]


def test_off_neither_reads_nor_writes(workspace: Workspace, provider: Provider) -> None:
    """Everything is asked for; the store stays as it was, and where there was none, none is."""
    run(workspace, 0, "run", "first", "--store", "off")
    assert len(provider.requests) == 2
    assert not (workspace.root / ".popbuild/store").exists()
    run(workspace, 0, "run", "first", "-a")
    assert len(provider.requests) == 4
    before = workspace.tree(".popbuild/store")
    provider.script(["Other research.", "Other analysis."])
    run(workspace, 0, "run", "first", "-a", "--store", "off")
    assert len(provider.requests) == 6
    assert workspace.artifact("first", "analysis") == {"content": "Other analysis."}
    assert workspace.tree(".popbuild/store") == before


def test_only_asks_nobody(workspace: Workspace, provider: Provider) -> None:
    """What is stored is served; the first that is not ends the job with an error that names it,
    and the next run goes on from there."""
    run(workspace, 0, "run", "first")
    run(workspace, 0, "run", "first", "-a", "--store", "only")
    assert len(provider.requests) == 2
    workspace.task("analysis", prompt="Briefly: {{ artifacts.research.content }}")
    said = run(workspace, 2, "run", "first", "--store", "only").err
    assert "error: an answer is not in the store, and nothing may be asked" in said
    for line in ("job      first", "task     analysis", f"model    {MODEL}", ".popbuild/store"):
        assert line in said
    assert "hint: popbuild cache pull URL brings answers from elsewhere; --store use" in said
    assert "sha256:" in said
    assert len(provider.requests) == 2
    assert workspace.states("first") == ["complete", "current"]
    assert workspace.status("first", "current")["tasks"]["analysis"]["state"] == "error"
    run(workspace, 0, "run", "first")
    assert len(provider.requests) == 3
    run(workspace, 0, "run", "first", "-a", "--store", "only")
    assert len(provider.requests) == 3


def test_only_without_a_store_says_that_there_is_none(
    workspace: Workspace, provider: Provider
) -> None:
    """A fresh clone: the error says so, and how to get one."""
    said = run(workspace, 2, "run", "first", "--store", "only").err
    assert ".popbuild/store (there is none)" in said
    assert "popbuild cache pull URL" in said
    assert provider.requests == []


NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        print("NETWORK", event, arguments, file=sys.stderr)
    if event == "import" and arguments[0].partition(".")[0] == "litellm":
        print("LITELLM", file=sys.stderr)
sys.addaudithook(refuse)
"""


def test_everything_is_rebuilt_from_the_store_alone(
    workspace: Workspace, provider: Provider
) -> None:
    """Show 4: pipeline-data/ deleted, no provider answers, mode `only`: every artifact comes back
    byte for byte, refinements and logs of answers too, with no connection and no litellm."""
    for number in range(3):
        workspace.seed(f"more-{number}", {"topic": f"topic {number}", "tone": "plain"})
    workspace.task("title", prompt="Title: {{ artifacts.analysis.content }}", schema=TITLED)
    workspace.task(
        "notes",
        prompt="Notes on {{ artifacts.title.title }}",
        stages="def integration(context):\n"
        "    context.files.write_artifact('notes.md', context.output['content'] + '\\n')\n",
    )
    workspace.pipeline(["research", "analysis", "title", "notes"])

    def answer(request: Any) -> Reply:
        if request.schema is None:
            return Reply(f"Prose for {request.digest}.")
        refined = len(request.messages) > 1
        return Reply(json.dumps({"title": f"Title {request.digest[:9]}"}) if refined else "{}")

    provider.answer = answer
    run(workspace, 0, "run")
    assert len(provider.requests) == 4 * 5
    before = artifacts(workspace)
    assert len(before) == 4 * 5
    shutil.rmtree(workspace.root / "pipeline-data")
    provider.close()
    result = run_with(workspace, NO_NETWORK, "run", "--store", "only", real=True)
    assert result.code == 0, result.out + result.err
    assert result.err == ""
    assert artifacts(workspace) == before
    assert "up to date" in run(workspace, 0, "run", "--store", "only").out
    assert len(provider.requests) == 4 * 5


# --- how a mode is given ---


def test_the_environment_says_the_mode_and_the_option_wins(
    workspace: Workspace, provider: Provider
) -> None:
    """POPBUILD_STORE, also from .env; an empty one says nothing."""
    only = {"POPBUILD_STORE": "only"}
    run(workspace, 2, "run", "first", env=only)
    workspace.write(".env", "POPBUILD_STORE=only\n")
    run(workspace, 2, "run", "first")
    assert provider.requests == []
    run(workspace, 0, "run", "first", "--store", "use", env=only)
    assert len(provider.requests) == 2
    (workspace.root / ".env").unlink()
    run(workspace, 0, "run", "first", "-a", env={"POPBUILD_STORE": ""})
    run(workspace, 0, "run", "first", "-a", env=only)
    assert len(provider.requests) == 2


def test_doit_takes_the_mode_too(workspace: Workspace, provider: Provider) -> None:
    """`doit run --store`, and the environment."""
    result = workspace.doit("run", "--store", "only", "job=first")
    assert (result.code, provider.requests) == (2, [])
    assert "an answer is not in the store" in result.err
    assert workspace.doit("run", "job=first", env={"POPBUILD_STORE": "only"}).code == 2
    assert workspace.doit("run", "job=first").code == 0
    assert workspace.doit("run", "-a", "--store=only", "job=first").code == 0
    assert len(provider.requests) == 2


def test_retry_takes_the_mode_too(workspace: Workspace, provider: Provider) -> None:
    """The new draw is not stored: `only` refuses it; a wrong mode draws nothing."""
    workspace.task("research", schema=TITLED, task_yaml={"gate": {"refinements": 0}})
    workspace.pipeline(["research"])
    provider.script(["{}"])
    run(workspace, 1, "run", "first")
    before = workspace.tree()
    assert "no such mode" in run(workspace, 3, "retry", "first", "--store", "never").err
    assert workspace.tree() == before
    said = run(workspace, 2, "retry", "first", "--store", "only").err
    assert "an answer is not in the store" in said
    assert len(provider.requests) == 1
    provider.script(['{"title": "Batteries"}'])
    run(workspace, 0, "run", "first")
    assert len(provider.requests) == 2
    run(workspace, 0, "run", "first")
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["popbuild", "run", "first", "--store", "frozen"], None),
        (["popbuild", "run", "first", "--store", ""], None),
        (["doit", "run", "--store", "frozen", "job=first"], None),
        (["popbuild", "run", "first"], "frozen"),
        (["doit", "run", "job=first"], "frozen"),
    ],
)
def test_a_wrong_mode_is_a_usage_error(
    command: list[str], variable: str | None, workspace: Workspace, provider: Provider
) -> None:
    """It names the known ones; nothing is built."""
    env = {} if variable is None else {"POPBUILD_STORE": variable}
    result = workspace.run(*command, env=env)
    assert result.code == 3
    assert "no such mode" in result.err
    assert "off, only, refresh, use" in result.err
    assert "POPBUILD_STORE" in result.err if variable else "--store" in result.err
    assert provider.requests == []
    assert workspace.states("first") == []


# --- a damaged entry ---


def entry_of(number: int = 0) -> tuple[str, bytes]:
    """The digest of a made-up request, and the entry with its answer."""
    request = Request(MODEL, ({"role": "user", "content": f"Ask {number}."},), {"maxTokens": 9})
    choice = {"index": 0, "message": {"role": "assistant", "content": "Prose."}}
    response = {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    answer = Answer(response, 0.000015, 1.5, ("a warning",))
    folder = Path(os.environ["PYTEST_STORE"])
    store = Store(folder)
    store.make_room(request)
    prepared = store.prepare(request, answer)
    data = prepared.temporary.read_bytes()
    os.close(prepared.file)
    prepared.temporary.unlink()
    return request.digest, data


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `entry_of`."""
    monkeypatch.setenv("PYTEST_STORE", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_every_flipped_bit_is_detected(scratch: Path) -> None:
    """Of a whole entry, bit by bit: it is damaged, or says the same (1e-05 and 1E-05)."""
    digest, data = entry_of()
    whole = open_entry(data, digest)
    assert whole is not None
    same = 0
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            found = open_entry(bytes(flipped), digest)
            assert found is None or found == whole, bytes(flipped)
            same += found is not None
    assert same <= 1


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[1]", b"{}", b"\xff", b"[" * 100_000, b'{"formatVersion":1}', b"NaN"]
)
def test_what_is_no_entry_is_damaged(data: bytes, scratch: Path) -> None:
    """Empty, torn, of another kind, nested without end."""
    assert open_entry(data, entry_of()[0]) is None


def test_a_foreign_entry_is_damaged(scratch: Path) -> None:
    """A whole entry under the name of another request, or one whose request was swapped and that
    was sealed anew."""
    (one, _), (other, data) = entry_of(1), entry_of(2)
    assert open_entry(data, other) is not None
    assert open_entry(data, one) is None
    body = {**json.loads(data), "digestOfRequest": one}
    del body["digest"]
    body["digest"] = jsonio.digest(body)
    assert open_entry(jsonio.compact(body).encode(), one) is None


@pytest.mark.parametrize("part", ["response", "cost", "durationMs", "warnings"])
def test_an_entry_that_lacks_a_part_is_damaged(part: str, scratch: Path) -> None:
    """Made elsewhere, sealed, and of no use."""
    digest, data = entry_of()
    body = {key: value for key, value in json.loads(data).items() if key not in (part, "digest")}
    body["digest"] = jsonio.digest(body)
    assert open_entry(jsonio.compact(body).encode(), digest) is None


def test_a_flipped_bit_is_set_aside_and_asked_for_anew(
    workspace: Workspace, provider: Provider
) -> None:
    """Both answers are damaged: two calls, one warning; what was there stays readable beside."""
    run(workspace, 0, "run", "first")
    for file in stored(workspace):
        flip(file)
    damaged = [file.read_bytes() for file in stored(workspace)]
    result = run(workspace, 0, "run", "first", "-a")
    assert result.out.count("warning: ") == 1
    assert "warning: a stored answer is damaged, and asked for anew: .popbuild/store/" in result.out
    assert len(provider.requests) == 4
    aside = [file.with_suffix(".damaged").read_bytes() for file in stored(workspace)]
    assert aside == damaged
    assert "warning" not in run(workspace, 0, "run", "first", "-a").out
    assert len(provider.requests) == 4


def test_a_damaged_entry_that_cannot_be_set_aside_is_replaced(
    workspace: Workspace, provider: Provider
) -> None:
    """Something stands in the way: the entry counts as absent all the same."""
    workspace.pipeline(["research"])
    run(workspace, 0, "run", "first")
    (entry,) = stored(workspace)
    flip(entry)
    (entry.with_suffix(".damaged") / "in the way").mkdir(parents=True)
    run(workspace, 0, "run", "first", "-a")
    assert len(provider.requests) == 2
    run(workspace, 0, "run", "first", "-a", "--store", "only")
    assert len(provider.requests) == 2


def test_only_stops_at_a_damaged_entry(workspace: Workspace, provider: Provider) -> None:
    """The error names the file and where it is now; a pull brings a good one."""
    run(workspace, 0, "run", "first")
    run(workspace, 0, "cache", "push", "../copy")
    entry = stored(workspace)[0]
    flip(entry)
    said = run(workspace, 2, "run", "first", "-a", "--store", "only").err
    assert "error: a stored answer is damaged, and nothing may be asked" in said
    shown = entry.relative_to(workspace.root)
    assert f"file       {shown}" in said
    assert f"set aside  {shown.with_suffix('.damaged')}" in said
    run(workspace, 0, "cache", "pull", "../copy")
    run(workspace, 0, "run", "first", "-a", "--store", "only")
    assert len(provider.requests) == 2


# --- a store that cannot be used ---


def refusing(function: str, error: str) -> str:
    """Code that lets the operating system refuse what it is asked to do in the store."""
    return f"""
import errno, os, pathlib
def place(what):
    return os.readlink(f"/proc/self/fd/{{what}}") if isinstance(what, int) else str(what)
def refusing(real):
    def call(what, *more, **named):
        if "/.popbuild/store/" in place(what):
            raise OSError(errno.{error}, os.strerror(errno.{error}), place(what))
        return real(what, *more, **named)
    return call
{function} = refusing({function})
"""


REFUSALS = {
    "read-only": (refusing("os.open", "EROFS"), "written (Read-only file system)"),
    "no permission": (refusing("os.mkdir", "EACCES"), "written (Permission denied)"),
    "broken": (refusing("os.stat", "EIO"), "read (Input/output error)"),
    "gone": (refusing("os.stat", "ESTALE"), "read (Stale file handle)"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_store_that_refuses_stops_nothing(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """Read-only or out of reach: the build goes on with one warning, and what it buys is
    bought once; the next run is up to date."""
    patch, found = REFUSALS[kind]
    twins(workspace)
    result = run_with(workspace, patch, "run", "-n", "1")
    assert result.code == 0, result.out + result.err
    assert result.out.count("warning: ") == 1
    assert f"warning: the store cannot be {found}: the build goes on without it" in result.out
    assert len(provider.requests) == 1
    assert workspace.artifact("first", "research") == workspace.artifact("second", "research")
    assert list((workspace.root / ".popbuild/store").glob("*/.tmp-*")) == []
    run(workspace, 0, "run")
    assert len(provider.requests) == 1


FULL = {
    "full": refusing("os.open", "ENOSPC"),
    "full, said late": refusing("os.fsync", "ENOSPC"),
    "a quota used up": refusing("os.open", "EDQUOT"),
}


@pytest.mark.parametrize("kind", FULL)
def test_a_full_store_ends_the_run(kind: str, workspace: Workspace, provider: Provider) -> None:
    """Nothing more is sent whose answer could not be kept; what was paid for and lost is said."""
    twins(workspace)
    result = run_with(workspace, FULL[kind], "run", "-n", "1")
    assert result.code == 2, result.out + result.err
    assert result.out.count("warning: the disk is full") == 1
    assert "warning: 1 paid answer could not be kept" in result.out
    assert "a paid answer waits in memory for room" in result.err
    assert "Traceback" not in result.err
    assert len(provider.requests) == 1
    assert list((workspace.root / ".popbuild/store").glob("*/.tmp-*")) == []
    run(workspace, 0, "run")
    assert len(provider.requests) == 2


IN_THE_WAY = {
    "a file": lambda store: store.write_text("no folder"),
    "a link to nowhere": lambda store: store.symlink_to("/nowhere/to/be/found"),
    "a read-only file system": lambda store: store.symlink_to("/sys/kernel"),
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_something_in_the_stores_place_stops_nothing(
    kind: str, workspace: Workspace, provider: Provider
) -> None:
    """The same with the real thing instead of a refusal; in `only` it is a clear error."""
    (workspace.root / ".popbuild").mkdir()
    IN_THE_WAY[kind](workspace.root / ".popbuild/store")
    result = run(workspace, 2, "run", "first", "--store", "only")
    assert "and nothing may be asked" in result.err
    assert provider.requests == []
    result = run(workspace, 0, "run", "first")
    assert result.out.count("warning: the store cannot be ") == 1
    assert len(provider.requests) == 2
    run(workspace, 0, "run", "first")
    assert len(provider.requests) == 2


def test_a_read_only_store_serves_what_it_has(workspace: Workspace, provider: Provider) -> None:
    """Without a warning: nothing has to be written."""
    run(workspace, 0, "run", "first")
    result = run_with(workspace, REFUSALS["read-only"][0], "run", "first", "-a")
    assert (result.code, "warning" in result.out) == (0, False)
    result = run_with(workspace, REFUSALS["read-only"][0], "run", "first", "-a", "--store", "only")
    assert result.code == 0
    assert len(provider.requests) == 2


def test_only_stops_where_the_store_cannot_be_read(
    workspace: Workspace, provider: Provider
) -> None:
    """It may hold the answer or not: nothing is guessed, nothing is sent, nothing set aside."""
    run(workspace, 0, "run", "first")
    patch = refusing("pathlib.Path.read_bytes", "EIO")
    result = run_with(workspace, patch, "run", "first", "-a", "--store", "only")
    assert result.code == 2
    assert "error: the store cannot be read, and nothing may be asked" in result.err
    assert "found    Input/output error" in result.err
    assert ".popbuild/store/" in result.err
    assert len(provider.requests) == len(stored(workspace)) == 2


def test_two_commands_that_refresh_the_same(workspace: Workspace, provider: Provider) -> None:
    """They take turns: the entry is whole, and both have an answer."""
    twins(workspace)
    provider.hold()
    options = ("-a", "--store", "refresh")
    commands = [workspace.start("popbuild", "run", job, *options) for job in ("first", "second")]
    for command, job in zip(commands, ("first", "second"), strict=True):
        command.wait_for(f".  {job}:research")
    provider.wait_for(1)
    provider.release()
    assert [command.wait().code for command in commands] == [0, 0]
    assert len(provider.requests) == 2
    assert provider.peak_in_flight == 1
    run(workspace, 0, "run", "-a", "--store", "only")
    assert len(provider.requests) == 2


# --- status ---


def status(workspace: Workspace) -> Any:
    return json.loads(run(workspace, 0, "cache", "status", "--json").out)


def test_status_counts_what_is_there_and_what_it_saved(
    workspace: Workspace, provider: Provider
) -> None:
    """By model: answers, size, price; hits and what they saved, a number that only grows."""
    workspace.pipeline(["research", "analysis"], {"analysis": {"model": "openai/gpt-4o"}})
    assert status(workspace)["entries"] == status(workspace)["hits"] == 0
    provider.script([Reply("One.", prompt_tokens=1000, completion_tokens=500)])
    run(workspace, 0, "run", "first")
    found = status(workspace)
    assert (found["entries"], found["hits"], found["saved"]) == (2, 0, 0)
    assert found["sizeBytes"] == sum(file.stat().st_size for file in stored(workspace))
    assert sorted(found["models"]) == ["openai/gpt-4o", MODEL]
    # gpt-4o-mini: 0.15 and 0.60 dollars a million tokens.
    mini = found["models"][MODEL]
    assert mini["cost"] == pytest.approx(1000 * 0.15e-6 + 500 * 0.60e-6)
    for turn in (1, 2):
        run(workspace, 0, "run", "first", "-a")
        found = status(workspace)
        assert found["hits"] == 2 * turn
        assert found["saved"] == pytest.approx(turn * found["cost"])
        assert found["models"][MODEL]["saved"] == pytest.approx(turn * mini["cost"])
    said = run(workspace, 0, "cache", "status").out
    assert said.splitlines()[0] == ".popbuild/store:"
    assert "in all" in said
    assert len(provider.requests) == 2


def test_hits_outlive_the_jobs(workspace: Workspace, provider: Provider) -> None:
    """What was saved was saved, whatever became of the results; a failed job's hits count too."""
    run(workspace, 0, "run", "first")
    workspace.task("analysis", prompt="Briefly: {{ artifacts.research.content }}")
    run(workspace, 2, "run", "first", "-a", "--store", "only")
    shutil.rmtree(workspace.root / "pipeline-data")
    assert status(workspace)["hits"] == 1
    with (workspace.root / ".popbuild/hits.jsonl").open("a") as file:
        file.write('[1]\n{"model": "torn", "hi')
    run(workspace, 0, "run", "first")
    assert status(workspace)["hits"] == 2
    assert len(provider.requests) == 3


def test_an_unknown_price_is_unknown_and_never_zero(workspace: Workspace) -> None:
    """In what the answers were bought for, and in what they saved."""
    workspace.pipeline(["research"], model=UNPRICED)
    run(workspace, 0, "run", "first")
    run(workspace, 0, "run", "first", "-a")
    found = status(workspace)
    assert (found["cost"], found["unpriced"]) == (None, 1)
    assert (found["saved"], found["savedUnpriced"]) == (None, 1)
    said = run(workspace, 0, "cache", "status").out
    assert said.count("unknown") == 2
    assert "$0" not in said


def test_status_names_what_is_damaged_and_touches_nothing(workspace: Workspace) -> None:
    """Found by checking every entry; set aside only by who wants to use it."""
    run(workspace, 0, "run", "first")
    entry = stored(workspace)[0]
    flip(entry)
    before = workspace.tree()
    found = status(workspace)
    name = f"{entry.parent.name}/{entry.name}"
    assert (found["entries"], found["damaged"], found["setAside"]) == (1, [name], 0)
    assert f"damaged: {name}" in run(workspace, 0, "cache", "status").out
    assert workspace.tree() == before
    run(workspace, 0, "run", "first", "-a")
    found = status(workspace)
    assert (found["entries"], found["damaged"], found["setAside"]) == (2, [], 1)


def test_cache_needs_a_command(workspace: Workspace) -> None:
    """And says which there are."""
    assert "status, push, pull, prune" in run(workspace, 3, "cache").err
    assert "status" in run(workspace, 3, "cache", "statsu").err
    assert "popbuild cache push" in run(workspace, 0, "cache", "push", "--help").out


# --- push and pull ---


@pytest.fixture
def other(tmp_path: Path, workspace: Workspace, provider: Provider) -> Iterator[Workspace]:
    """Another machine's checkout of the same root: configuration and seeds, nothing private."""
    with Workspace(tmp_path / "other", provider) as other:
        for name in ("seeds", "pipeline-config"):
            shutil.copytree(workspace.root / name, other.root / name, dirs_exist_ok=True)
        yield other


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}"])
def test_another_machine_builds_from_a_copy(
    form: str, workspace: Workspace, other: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """A folder, by its path, by its URL, and as any file system of fsspec's: what one pushes the
    other pulls, and builds without a call. A second time, nothing is copied."""
    url = form.format(tmp_path / "a copy")
    run(workspace, 0, "run", "first")
    said = run(workspace, 0, "cache", "push", url).out
    assert said.startswith("2 answers pushed")
    copies = entries(tmp_path / "a copy")
    assert bytes_of(copies) == bytes_of(stored(workspace))
    assert len(list((tmp_path / "a copy").rglob("*.*"))) == 2
    for command in (workspace, other):
        pulled = json.loads(run(command, 0, "cache", "pull", url, "--json").out)
        expected = 0 if command is workspace else 2
        assert (pulled["copied"], pulled["there"]) == (expected, 2 - expected)
    assert bytes_of(stored(other)) == bytes_of(stored(workspace))
    run(other, 0, "run", "first", "--store", "only")
    assert artifacts(other) == artifacts(workspace)
    for direction in ("push", "pull"):
        said = run(other, 0, "cache", direction, url).out
        assert said.startswith("0 answers")
        assert "2 were there already" in said
    assert len(provider.requests) == 2


def test_only_what_is_lacking_is_copied(
    workspace: Workspace, other: Workspace, tmp_path: Path
) -> None:
    """Both have answers of their own, and one that differs: each keeps its own of that."""
    run(workspace, 0, "run", "first")
    run(workspace, 0, "cache", "push", "../copy")
    other.seed("first", {"topic": "heat pumps", "tone": "plain"})
    run(other, 0, "run", "first")
    run(other, 0, "cache", "pull", str(tmp_path / "copy"))
    assert len(stored(other)) == 4
    run(other, 0, "cache", "push", str(tmp_path / "copy"))
    copies = bytes_of(entries(tmp_path / "copy"))
    assert copies == bytes_of(stored(other))
    shared = stored(workspace)[0]
    mine = shared.read_bytes()
    (tmp_path / "copy" / shared.parent.name / shared.name).write_bytes(b"theirs, and damaged")
    run(workspace, 0, "cache", "pull", "../copy")
    assert shared.read_bytes() == mine


def test_a_pull_from_nothing_brings_nothing(workspace: Workspace, provider: Provider) -> None:
    """The first run of a CI job: no error, and nothing made."""
    before = workspace.tree()
    assert run(workspace, 0, "cache", "pull", "../nothing").out.startswith("0 answers pulled")
    assert run(workspace, 0, "cache", "pull", "memory://nothing").out.startswith("0 answers")
    assert run(workspace, 0, "cache", "push", "../nothing").out.startswith("0 answers pushed")
    assert workspace.tree() == before


@pytest.mark.parametrize("damage", ["flipped", "torn", "foreign"])
def test_a_damaged_entry_is_not_pulled(
    damage: str, workspace: Workspace, other: Workspace, provider: Provider, tmp_path: Path
) -> None:
    """It is named and skipped, the others are pulled; the build asks for that one."""
    run(workspace, 0, "run", "first")
    run(workspace, 0, "cache", "push", "../copy")
    one, good = entries(tmp_path / "copy")
    if damage == "flipped":
        flip(one)
    else:
        one.write_bytes(good.read_bytes() if damage == "foreign" else one.read_bytes()[:-9])
    result = run(other, 0, "cache", "pull", str(tmp_path / "copy"))
    assert result.err == f"warning: damaged, and not copied: {one.parent.name}/{one.name}\n"
    assert [file.name for file in stored(other)] == [good.name]
    run(other, 0, "run", "first")
    assert len(provider.requests) == 3
    run(other, 0, "run", "first")
    assert len(provider.requests) == 3


def test_a_damaged_entry_is_not_pushed(workspace: Workspace, tmp_path: Path) -> None:
    """Damage does not spread; what lies about in the folder is no entry."""
    run(workspace, 0, "run", "first")
    one, good = stored(workspace)
    flip(one)
    workspace.write(".popbuild/store/ab/.tmp-0123", "half")
    workspace.write(".popbuild/store/ab/notes.json", "{}")
    result = run(workspace, 0, "cache", "push", "../copy")
    assert f"damaged, and not copied: {one.parent.name}/{one.name}" in result.err
    assert [file.name for file in (tmp_path / "copy").rglob("*") if file.is_file()] == [good.name]


@pytest.mark.parametrize("form", ["{}", "local://{}"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_push_that_is_killed_leaves_no_torn_entry(
    number: int, form: str, workspace: Workspace, tmp_path: Path
) -> None:
    """Killed before the first, second or third entry gets its name: what has one is whole, and
    the next push brings the rest."""
    twins(workspace)
    workspace.seed("second", {"topic": "heat pumps"})
    workspace.seed("third", {"topic": "tides"})
    run(workspace, 0, "run")
    url = form.format(tmp_path / "copy")
    kill = f"""
import os, signal
left = [{number}]
def deadly(real):
    def call(*given, **named):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
os.replace = os.rename = deadly(os.replace)
"""
    assert run_with(workspace, kill, "cache", "push", url).code == -9
    whole = bytes_of(stored(workspace))
    copies = bytes_of(entries(tmp_path / "copy"))
    assert len(copies) == number - 1
    assert copies.items() <= whole.items()
    run(workspace, 0, "cache", "push", url)
    assert bytes_of(entries(tmp_path / "copy")) == whole


def test_a_file_system_that_fails_midway_leaves_no_torn_entry(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of fsspec's that is none of ours: half an entry never has its name, nor stays behind."""
    import fsspec

    run(workspace, 0, "run", "first")
    memory = fsspec.filesystem("memory")
    real = type(memory).pipe_file
    root, url = Root(workspace.root), f"memory://{workspace.root}"

    def half(self: Any, path: str, value: bytes, **more: Any) -> None:
        real(self, path, value[: len(value) // 2], **more)
        raise OSError("the connection is lost")

    with monkeypatch.context() as patched:
        patched.setattr(type(memory), "pipe_file", half)
        with pytest.raises(StoreError, match="cannot be written"):
            share_store.push(root, url, {})
    assert memory.find(str(workspace.root)) == []
    assert share_store.push(root, url, {}).copied == 2
    assert share_store.push(root, url, {}).there == 2
    shutil.rmtree(workspace.root / ".popbuild/store")
    assert share_store.pull(root, url, {}).copied == 2
    run(workspace, 0, "run", "first", "-a", "--store", "only")


def test_large_entries_are_copied_a_few_at_a_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither many nor large answers fill the memory: batches have a limit of both."""
    twins(workspace)
    for number in range(5):
        workspace.seed(f"more-{number}", {"topic": f"topic {number}"})
    run(workspace, 0, "run")
    sizes = [file.stat().st_size for file in stored(workspace)]
    read: list[int] = []
    real = remote.Folder.read

    def counted(self: remote.Folder, names: list[str]) -> dict[str, bytes]:
        read.append(len(names))
        return real(self, names)

    monkeypatch.setattr(remote.Folder, "read", counted)
    monkeypatch.setattr(share_store, "_BATCH", 4)
    assert share_store.push(Root(workspace.root), str(tmp_path / "one"), {}).copied == 6
    monkeypatch.setattr(share_store, "_BATCH_BYTES", 2 * max(sizes))
    assert share_store.push(Root(workspace.root), str(tmp_path / "two"), {}).copied == 6
    monkeypatch.setattr(share_store, "_BATCH_BYTES", 1)
    assert share_store.push(Root(workspace.root), str(tmp_path / "three"), {}).copied == 6
    assert read == [4, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("missing", "url", "found"),
    [("fsspec", "memory://x", "fsspec"), ("s3fs", "s3://bucket/x", "Install s3fs to access S3")],
)
def test_a_missing_package_is_one_error_that_names_the_way_out(
    missing: str, url: str, found: str, workspace: Workspace
) -> None:
    """fsspec itself, or what opens this kind of URL; a folder needs neither."""
    run(workspace, 0, "run", "first")
    patch = f"import sys; sys.modules[{missing!r}] = None"
    result = run_with(workspace, patch, "cache", "push", url)
    assert result.code == 3
    assert "error: a package is missing that opens this place" in result.err
    assert f"missing  {found}" in result.err
    assert "pip install 'popbuild[cache]' s3fs opens s3://" in result.err
    result = run_with(workspace, patch, "cache", "push", "../copy")
    assert result.code == 0, result.err


def test_a_url_that_nothing_opens_is_a_usage_error(workspace: Workspace) -> None:
    """It says what may stand there."""
    said = run(workspace, 3, "cache", "pull", "gopher://somewhere/x").err
    assert "not a place for a copy of the store" in said
    assert "s3://bucket/prefix" in said


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_what_a_url_keeps_secret_is_never_shown(direction: str, workspace: Workspace) -> None:
    """A name, a password, a token in the query: not in the error, nor in its JSON."""
    run(workspace, 0, "run", "first")
    url = "ftp://somebody:pass%2Dword-77@127.0.0.1:9/store?token=abc-123-xyz"
    for more in ((), ("--json",)):
        result = run(workspace, 2, "cache", direction, url, *more)
        said = result.out + result.err
        assert "ftp://127.0.0.1:9/store" in said
        for secret in ("somebody", "word-77", "abc-123-xyz"):
            assert secret not in said


# --- an object store ---


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """A bucket `answers` on an S3 server of our own: the environment that leads there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's imports
        from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # The buckets of all its servers are one process's: what another test left there goes.
        put(f"{url}/moto-api/reset", b"", method="POST")
        put(f"{url}/answers", b"")
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "AKIA0MADE0UP0NAME",
            "AWS_SECRET_ACCESS_KEY": "a-made-up-key-of-forty-characters-000000",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()


def put(url: str, data: bytes, method: str = "PUT") -> None:
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 - a server of our own
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - the same
        assert answer.status == 200


S3 = "s3://answers/team/store"


def test_an_object_store_shares_answers(
    workspace: Workspace, other: Workspace, provider: Provider, bucket: dict[str, str]
) -> None:
    """Pushed to S3 and pulled from there, byte for byte; keys from .env serve as well."""
    run(workspace, 0, "run", "first")
    assert run(workspace, 0, "cache", "pull", S3, env=bucket).out.startswith("0 answers")
    assert run(workspace, 0, "cache", "push", S3, env=bucket).out.startswith("2 answers pushed")
    assert run(workspace, 0, "cache", "push", S3 + "/", env=bucket).out.startswith("0 answers")
    other.write(".env", "".join(f"{name}={value}\n" for name, value in bucket.items()))
    assert run(other, 0, "cache", "pull", S3).out.startswith("2 answers pulled")
    assert bytes_of(stored(other)) == bytes_of(stored(workspace))
    run(other, 0, "run", "first", "--store", "only")
    assert artifacts(other) == artifacts(workspace)
    assert len(provider.requests) == 2


def test_a_damaged_object_is_not_pulled(
    workspace: Workspace, other: Workspace, bucket: dict[str, str]
) -> None:
    """Named and skipped, as from a folder; what else is in the bucket is no entry."""
    run(workspace, 0, "run", "first")
    one, good = stored(workspace)
    name = f"{one.parent.name}/{one.name}"
    place = f"{bucket['AWS_ENDPOINT_URL']}/answers/team/store"
    put(f"{place}/{name}", one.read_bytes()[:-5])
    put(f"{place}/notes.txt", b"not an entry")
    put(f"{place}/deeper/{good.parent.name}/{good.name}", good.read_bytes())
    said = run(workspace, 0, "cache", "push", S3, env=bucket).out
    assert said.startswith("1 answer pushed")
    result = run(other, 0, "cache", "pull", S3, env=bucket)
    assert result.err == f"warning: damaged, and not copied: {name}\n"
    assert [file.name for file in stored(other)] == [good.name]


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["no bucket", "no server"])
def test_an_object_store_that_cannot_be_reached_is_a_clear_error(
    trouble: str, workspace: Workspace, bucket: dict[str, str]
) -> None:
    """What, where, what next, and no key; the store is as it was."""
    run(workspace, 0, "run", "first")
    before = workspace.tree()
    url = S3 if trouble == "no server" else "s3://another-bucket/store"
    # No server listens at port 9.
    env = bucket | ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"} if trouble == "no server" else {})
    for direction in ("push", "pull"):
        said = run(workspace, 2, "cache", direction, url, env=env).err
        assert "error: the copy of the store cannot be " in said
        assert f"place  {url}" in said
        assert "hint: is the address right" in said
        assert bucket["AWS_SECRET_ACCESS_KEY"] not in said
        assert bucket["AWS_ACCESS_KEY_ID"] not in said
    assert workspace.tree() == before


# --- prune ---


def age(file: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(file, (then, then))


def prune(workspace: Workspace, *args: str, code: int = 0) -> Any:
    return json.loads(run(workspace, code, "cache", "prune", *args, "--json").out)


def answer_of(workspace: Workspace, job: str, task: str) -> str:
    """The name of the entry that a letter refers to."""
    (call,) = workspace.letter(job, task)["calls"]
    digest = call["request"].removeprefix("sha256:")
    return f"{digest[:2]}/{digest[2:]}.json"


def test_prune_drops_by_age_what_nothing_refers_to(
    workspace: Workspace, provider: Provider
) -> None:
    """A dry run says what would go; --yes drops it; what the job came from stays."""
    run(workspace, 0, "run", "first", "--store", "use")
    for word in ("Once", "Twice"):
        workspace.task("analysis", prompt=f"{word}: {{{{ artifacts.research.content }}}}")
        run(workspace, 0, "run", "first")
    for file in stored(workspace):
        age(file, days=40)
    before = workspace.tree()
    found = prune(workspace, "--older-than", "30d")
    # Of three analyses, one is the job's, one the previous result's.
    assert (len(found["dropped"]), found["kept"], found["referenced"]) == (1, 3, 3)
    assert not found["done"]
    said = run(workspace, 0, "cache", "prune", "--older-than", "30d").out
    assert f"would drop {found['dropped'][0]}" in said
    assert "1 answer to drop" in said
    assert "nothing was dropped yet: --yes does it" in said
    none = run(workspace, 0, "cache", "prune", "--older-than", "90d").out
    assert none.startswith("0 answers to drop")
    assert "--yes" not in none
    assert workspace.tree() == before
    assert prune(workspace, "--older-than", "41d")["dropped"] == []
    done = prune(workspace, "--older-than", "30d", "--yes")
    assert (done["dropped"], done["done"]) == (found["dropped"], True)
    assert len(stored(workspace)) == 3
    assert prune(workspace, "--older-than", "30d", "--yes")["dropped"] == []
    run(workspace, 0, "run", "first", "-a", "--store", "only")
    assert len(provider.requests) == 4


def test_prune_by_size_drops_the_oldest_first(workspace: Workspace) -> None:
    """As few as will do."""
    workspace.pipeline(["research"])
    for number in range(4):
        workspace.seed("first", {"topic": f"topic {number}"})
        run(workspace, 0, "run", "first")
    shutil.rmtree(workspace.root / "pipeline-data")
    shutil.rmtree(workspace.root / ".popbuild/previous")
    files = stored(workspace)
    sizes = [file.stat().st_size for file in files]
    for days, file in enumerate(files):
        age(file, days)
    found = prune(workspace, "--max-size", f"{sum(sizes[:2])}B", "--yes")
    oldest_first = [f"{file.parent.name}/{file.name}" for file in files[:1:-1]]
    assert found["dropped"] == oldest_first
    assert stored(workspace) == files[:2]
    assert found["keptBytes"] == sum(sizes[:2])
    assert prune(workspace, "--max-size", "1GB", "--yes")["dropped"] == []
    assert prune(workspace, "--max-size", "0", "--yes")["kept"] == 0


@pytest.mark.parametrize("where", ["complete", "current", "rejected", "previous", "torn letter"])
def test_prune_keeps_what_a_job_refers_to(
    where: str, workspace: Workspace, provider: Provider
) -> None:
    """In every folder, of a previous result, and by a letter that is torn; unless told to."""
    if where == "rejected":
        workspace.task("analysis", schema=TITLED, task_yaml={"gate": {"refinements": 0}})
        provider.script(["Research.", "{}"])
        run(workspace, 1, "run", "first")
    else:
        run(workspace, 0, "run", "first:research" if where == "current" else "first")
    kept = len(stored(workspace))
    if where == "previous":
        workspace.seed("first", {"topic": "heat pumps"})
        run(workspace, 0, "run", "first")
        shutil.rmtree(workspace.root / "pipeline-data")
    if where == "torn letter":
        letter = workspace.job("first") / "tasks/research/letter.json"
        digest = workspace.letter("first", "research")["calls"][0]["request"].encode()
        data = letter.read_bytes()
        letter.write_bytes(data[: data.index(digest) + len(digest)])
    found = prune(workspace, "--max-size", "0", "--yes")
    assert found["kept"] == len(stored(workspace)) == kept
    if where != "previous":
        assert found["referenced"] == kept
    found = prune(workspace, "--max-size", "0", "--referenced", "--yes")
    assert (found["kept"], stored(workspace)) == (0, [])


def test_prune_drops_what_was_set_aside(workspace: Workspace) -> None:
    """By its age, as all else; nothing refers to it."""
    workspace.pipeline(["research"])
    run(workspace, 0, "run", "first")
    (entry,) = stored(workspace)
    flip(entry)
    run(workspace, 0, "run", "first", "-a")
    age(entry.with_suffix(".damaged"), days=9)
    assert prune(workspace, "--older-than", "1w", "--yes")["kept"] == 1
    assert not entry.with_suffix(".damaged").exists()
    assert stored(workspace) == [entry]


def test_prune_waits_for_no_build(workspace: Workspace, provider: Provider) -> None:
    """While a job is built nothing is dropped: it may be about to refer to an old answer."""
    run(workspace, 0, "run", "first")
    workspace.seed("second", {"topic": "tides"})
    provider.hold()
    running = workspace.start("popbuild", "run", "second")
    provider.wait_for(3)
    before = stored(workspace)
    result = run(workspace, 5, "cache", "prune", "--max-size", "0", "--referenced", "--yes")
    assert "another command builds a job" in result.err
    assert stored(workspace) == before
    assert prune(workspace, "--max-size", "0", "--referenced")["kept"] == 0
    provider.release()
    assert running.wait().code == 0
    assert prune(workspace, "--max-size", "0", "--yes")["kept"] == 4


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ([], "prune needs to know what to drop"),
        (["--older-than", "soon"], "not an age"),
        (["--older-than", "30"], "not an age"),
        (["--older-than", "-1d"], ""),
        (["--max-size", "500 apples"], "not a size"),
        (["--max-size", "lots"], "not a size"),
    ],
)
def test_a_wrong_limit_is_a_usage_error(args: list[str], found: str, workspace: Workspace) -> None:
    """Nothing is dropped by a mistake."""
    run(workspace, 0, "run", "first")
    assert found in run(workspace, 3, "cache", "prune", *args, "--yes").err
    assert len(stored(workspace)) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500MB", 500_000_000), ("1.5 kB", 1500), ("2GiB", 2 * 2**30), ("7", 7), ("0b", 0)],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int) -> None:
    """Powers of 1000, or of 1024 with an i."""
    assert units.parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("5m", 300), ("12h", 43_200), ("1.5d", 129_600), ("2W", 14)]
)
def test_ages_are_read_as_people_write_them(text: str, expected: int) -> None:
    """Seconds to weeks."""
    assert units.seconds_of(text) == (expected * 86_400 if text == "2W" else expected)
