"""The fast part of the crash matrix: some calls of each scenario, each kind of fault, every time.

All of it is `tools/crash_matrix`; docs/reliability.md has what it found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import disks
import faults
import invariants
import matrix
import pytest
import received
import syscalls
from faults import Fault
from matrix import Bench
from provider import Provider
from scenarios import BY_NAME
from workspace import Workspace

pytestmark = pytest.mark.slow

# Each test takes every n-th call of a scenario for each kind of fault, or all of them.
EVERY = bool(os.environ.get("POPBUILD_TEST_EVERY_STEP"))
STRIDES = {
    "build": 150,
    "rebuild": 214,
    "files": 368,
    "skip": 240,
    "items": 214,
    "over jobs": 368,
    "rows": 368,
    "scores": 304,
    "promote variant": 250,
    "rejection": 195,
    "retry": 138,
    "prune": 35,
    "prune logs": 18,
    "cache prune": 2,
    "doctor": 64,
    "archive": 48,
    "restore": 144,
    "restore over": 400,
    "backup": 3,
    "restore root": 264,
    "import": 320,
    "accept": 320,
}


# Taken with all the others by one command; test_archive has kills of them too.
LONG = ("restore over", "restore root")

PAGES = (
    ("report", "first", "-o", "page.html"),
    ("graph", "first"),
    ("show", "first"),
    ("summary", "first"),
)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, provider: Provider) -> Iterator[Bench]:
    bench = Bench(BY_NAME[request.param], tmp_path, provider)
    try:
        bench.measure()
        yield bench
    finally:
        bench.close()


@pytest.mark.parametrize(
    "bench", [each for each in STRIDES if EVERY or each not in LONG], indirect=True
)
def test_every_kind_of_fault(bench: Bench) -> None:
    """Killed, failed or cut short at a call, whichever it is: what matrix.Bench checks holds."""
    kinds = _kinds(bench.scenario.name)
    cells = [
        cell
        for place, kind in enumerate(faults.KINDS)
        if kind in kinds
        for cell in matrix.every(bench, [kind], *_share(bench, place))
    ]
    assert kinds - {faults.SHORT} == {cell.kind for cell in cells} - {faults.SHORT}
    assert [cell for cell in cells if cell.broken] == []


def _kinds(scenario: str) -> set[str]:
    """The kinds of faults that a scenario is tried with: a kill and two of the others, in turns, so
    that each scenario meets some and each kind is met by many; or all."""
    _, *others = faults.KINDS
    first = list(STRIDES).index(scenario)
    some = {others[(first + each) % len(others)] for each in (0, 2)}
    return set(faults.KINDS) if EVERY else {faults.KILL, *some}


def _share(bench: Bench, place: int) -> tuple[int, int]:
    """The stride and the first of the calls of a kind, at least one of which there is; most are
    taken of the first, kill."""
    stride = STRIDES[bench.scenario.name]
    stride = 1 if EVERY else stride if place else -(-stride // 5)
    there = len(bench.points(faults.KINDS[place])) or 1
    return stride, 7 * place % min(stride, there)


@pytest.mark.parametrize("bench", ["rejection"], indirect=True)
def test_no_page_has_the_key(bench: Bench) -> None:
    """Nor what is shown of a job that was killed, and then rejected."""
    assert bench.try_at(faults.KILL, bench.points(faults.KILL)[-20]).broken == ()
    told = [bench.popbuild(*words) for words in PAGES]
    page = bench.root / "page.html"
    assert "research" in page.read_text()
    assert [each for each in told if each.code or matrix.CANARY in each.out + each.err] == []
    assert [*invariants.leaked(bench.root, matrix.CANARY)] == []


@pytest.mark.parametrize("bench", ["retry"], indirect=True)
@pytest.mark.parametrize("kind", received.KINDS)
def test_an_answer_that_does_not_come_whole(bench: Bench, kind: str) -> None:
    """What came before is stored and settled; the next run buys just this call again, unless all of
    it had come."""
    parts = received.PARTS if EVERY else (0.5, 1.0)
    cells = list(received.every(bench, kind, parts))
    assert len(cells) == len(parts) * bench.needed
    assert [cell for cell in cells if cell.broken] == []


@pytest.mark.parametrize("bench", ["build"], indirect=True)
def test_a_cost_is_settled_once(bench: Bench) -> None:
    """Where the ledger cannot be synced, its line stands there all the same: it is not written
    again, and the answer is served by the next run."""
    ledger = ".popbuild/ledger.jsonl"
    syncs = [call for call in bench.points("EIO") if call.name == "fsync" and call.path == ledger]
    assert len(syncs) == 4  # a reservation and a settlement of each call
    cell = bench.try_at("EIO", syncs[1])
    assert cell.broken == ()
    assert len(bench.sent()) == bench.needed


@pytest.mark.parametrize("bench", ["build"], indirect=True)
def test_the_matrix_finds_an_answer_that_is_lost(bench: Bench) -> None:
    """One that is missing in the store, or is another than was sent; a call that the ledger does
    not have, or has as settled where nothing was."""
    assert list(bench.accounts().wrong(0)) == []
    one, _ = sorted(bench.root.glob(".popbuild/store/*/*.json"))
    kept = one.read_text()
    one.unlink()
    assert "answers lost" in " ".join(bench.accounts().wrong(0))
    assert "settled, and not in the store" in " ".join(bench.accounts().wrong(0))
    one.write_text(kept.replace('"stop"', '"length"'))
    assert "instead of" in " ".join(bench.accounts().wrong(0))
    one.write_text(kept.replace("chatcmpl-", "made-up-"))
    assert "did not finish" in " ".join(bench.accounts().wrong(0))
    one.write_text(kept)
    ledger = bench.root / ".popbuild/ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]))
    assert "without an end" in " ".join(bench.accounts().wrong(0))
    ledger.write_text("".join([*lines, lines[-1]]))
    assert "ended twice" in " ".join(bench.accounts().wrong(0))
    ledger.write_text("".join(lines[1:]))
    assert "2 requests, 1 reservations" in " ".join(bench.accounts().wrong(0))


@pytest.mark.parametrize("bench", ["build"], indirect=True)
def test_the_matrix_finds_what_is_broken(bench: Bench) -> None:
    """A disk layer that writes in place is found: a file cut short stands under its final name."""
    torn = bench.root / "pipeline-data/complete/first/tasks/research/output.json"
    torn.write_bytes(torn.read_bytes()[:10])
    (bench.root / "pipeline-data/complete/runs.jsonl").write_bytes(b"")
    (bench.root / ".popbuild/key").write_text(matrix.CANARY)
    wrong = "\n".join(bench.look(None))
    assert "torn: pipeline-data/complete/first/tasks/research/output.json" in wrong
    assert "not as it was sealed: first/tasks/research/output.json" in wrong
    assert "the key is in .popbuild/key" in wrong
    assert bench.reached() != bench.result


@pytest.mark.parametrize("bench", ["build", "rebuild", "rejection"], indirect=True)
def test_what_is_told_is_durable(bench: Bench) -> None:
    """Every file of a job is synced before the rename that ends it, by whatever wrote it: else a
    power cut leaves it empty, in a job that was reported as complete."""
    unsynced: set[str] = set()
    ended = None
    for call in bench.calls:
        folder, _, _ = call.path.partition("/first")
        if call.name == "renameat2" and folder in (
            "pipeline-data/complete",
            "pipeline-data/rejected",
        ):
            ended = sorted(unsynced)
        if call.name in (*faults.WRITES, "sendfile"):
            unsynced.add(call.path)
        if call.name == "fsync":
            unsynced.discard(call.path)
        if call.name == "replace":  # which temporary file it was is not told
            before = {each for each in unsynced if _is_temporary(each, call.path)}
            unsynced -= before
            if before:
                unsynced.add(call.path)
    inside = [each for each in ended or () if "/first/" in each]
    assert ended is not None
    # Written again and again while the job runs, and once more, synced, when it ends.
    assert [each for each in inside if not each.endswith("tasks-status.json")] == []


def _is_temporary(path: str, target: str) -> bool:
    same = Path(path).parent == Path(target).parent
    return same and Path(path).name.startswith(".tmp-")


@pytest.mark.parametrize("bench", ["build"], indirect=True)
def test_all_that_is_written_is_counted(bench: Bench) -> None:
    """Every file that stands after a build came into being by a call that could be broken."""
    named = {call.path for call in bench.calls}
    made = [name for name, _ in invariants.files(bench.root)]
    moved = [name.replace("/complete/", "/current/") for name in made]
    missed = [
        one
        for one, other in zip(made, moved, strict=True)
        if one not in named and other not in named
    ]
    assert missed == []


@pytest.mark.parametrize("name", syscalls.HELD if EVERY else ["build", "prune", "archive"])
def test_strace_sees_no_call_that_was_not_counted(name: str, tmp_path: Path) -> None:
    """The kernel's own trace of a command has as many calls of each name as the injector met."""
    reason = syscalls.missing()
    if reason is not None:
        pytest.skip(reason)
    seen, counted = syscalls.compared(BY_NAME[name], tmp_path)
    assert seen == counted


@pytest.mark.parametrize("room_pages", [8, 40])
def test_a_full_disk(room_pages: int, provider: Provider) -> None:
    """The error is told, nothing is lost, and with more room the next run completes."""
    reason = disks.missing("tmpfs")
    if reason is not None:
        pytest.skip(reason)
    cells = disks.full_disks(BY_NAME["build"], provider, room_pages * 4096, most=1)
    assert len(cells) == 1
    assert [cell for cell in cells if cell.broken] == []


@pytest.mark.parametrize(("unsynced", "caught"), [((), False), (("file",), True)])
def test_a_power_cut(unsynced: tuple[str, ...], caught: bool, provider: Provider) -> None:
    """What was told to be done survives it; and would not without the sync of files."""
    reason = disks.missing("ext4")
    if reason is not None:
        pytest.skip(reason)
    cells = disks.cuts("ext4", BY_NAME["rejection"], provider, 1000, unsynced)
    assert len(cells) == 2
    assert any(cell.broken for cell in cells) == caught


def test_a_program_without_a_fault_is_popbuild(workspace: Workspace) -> None:
    """The injector alone changes nothing, and counts from 1 what a command does."""
    log = workspace.root.parent / "log"
    fault = Fault(str(workspace.root), str(log))
    result = workspace.run(*faults.program("run", "first"), env=fault.environment())
    assert result.code == 0
    calls = faults.calls(log)
    assert [call.number for call in calls] == list(range(1, len(calls) + 1))
    assert {"open", "write", "fsync", "replace", "renameat2", "send"} <= {c.name for c in calls}
    assert not any(re.match("/|\\.\\.", call.path) for call in calls)
