"""A disk that fills up loses no answer that is paid for: it is in the store, or it was never
asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from accounts import Accounts
from disks import SmallDisk
from provider import Provider, Reply, Request
from workspace import Workspace

from popbuild.base import disk_room
from popbuild.llm.request import Request as Asked
from popbuild.llm.reserve import Reserve

LARGE = 32 << 20
PAGE = 4096
JOBS = 16


@pytest.fixture
def small() -> Iterator[SmallDisk]:
    reason = disks.missing("tmpfs")
    if reason is not None:
        pytest.skip(reason)
    with SmallDisk(LARGE) as small:
        yield small


@pytest.fixture
def many(small: SmallDisk, provider: Provider) -> Iterator[Workspace]:
    """Sixteen jobs of one call each, on the small disk."""
    with Workspace(small.mount, provider) as workspace:
        for number in range(JOBS):
            workspace.seed(f"job-{number:02}", {"topic": f"topic {number}"})
        workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
        workspace.pipeline(["research"])
        yield workspace


def fill(workspace: Workspace, room_bytes: int) -> Path:
    """A file that leaves so much room on the disk."""
    status = os.statvfs(workspace.root)
    path = workspace.root / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bfree * status.f_frsize - room_bytes)
    return path


def long_answer(request: Request) -> Reply:
    return Reply(f"{request.said('user')}\n" * 200)


def longer_answer(request: Request) -> Reply:
    """Longer than what is reserved for an answer without a limit."""
    return Reply(f"{request.said('user')}\n" * 4_000)


@pytest.mark.parametrize("pages", [0, 1, 2, 4, 8, 16, 32, 64, 128])
def test_no_paid_answer_is_lost(
    pages: int, small: SmallDisk, many: Workspace, provider: Provider
) -> None:
    """While sixteen calls are in flight the disk fills up but for some pages. All answers are
    kept, the run says why it fails, and with room the next one asks for nothing again."""
    provider.answer = longer_answer if pages in (0, 16) else long_answer
    provider.hold()
    running = many.start("popbuild", "run", "-n", str(JOBS))
    provider.wait_for(JOBS)
    filler = fill(many, pages * PAGE)
    provider.release()
    result = running.wait()
    assert result.code in (0, 2), result.out + result.err
    assert "Traceback" not in result.err
    assert result.code == 0 or "No space left on device" in result.err
    accounts = Accounts(many.root, provider.requests)
    assert len(accounts.answered) == JOBS
    assert accounts.lost == []
    assert list(accounts.wrong(0)) == []
    filler.unlink()
    again = many.popbuild("run")
    assert again.code == 0, again.out + again.err
    assert len(provider.requests) == JOBS
    assert len(many.runs()) == JOBS
    assert list(many.root.glob(".popbuild/store/**/.tmp-*")) == []


def test_nothing_is_bought_that_could_not_be_kept(
    small: SmallDisk, many: Workspace, provider: Provider
) -> None:
    """Where the disk is full before the first call, none is sent; the error says what next."""
    many.popbuild("run", "job-00")
    filler = fill(many, 16 * PAGE)
    result = many.popbuild("run", "job-01")
    assert result.code == 2
    for phrase in (
        "nothing is sent whose answer could not be kept",
        "No space left on device",
        ".popbuild/store",
        "hint: make room",
    ):
        assert phrase in result.err, result.err
    assert len(provider.requests) == 1
    filler.unlink()
    assert many.popbuild("run", "job-01").code == 0
    assert len(provider.requests) == 2


# Runs popbuild with a store that says that the disk is full, and keeps saying so if asked to.
FULL = """
import errno, os, sys
from popbuild.cli.main import main
from popbuild.llm import store

real, often = store.Store.prepare, int(sys.argv[1])
said = 0

def prepare(self, request, answer):
    global said
    said += 1
    if said <= often:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the store")
    return real(self, request, answer)

store.Store.prepare = prepare
sys.exit(main(["run", "-n", "1", "--continue"]))
"""


@pytest.mark.parametrize("often", [1, 6, 1_000])
def test_what_does_not_fit_waits(often: int, many: Workspace, provider: Provider) -> None:
    """In memory, until there is room: for the next call, which is sent only then, or at the end.
    What is lost then is said, and counts in the ledger as unknown."""
    result = many.run("python", "-c", FULL, str(often))
    accounts = Accounts(many.root, provider.requests)
    assert result.out.count("warning: the disk is full") == 1
    if often == 1:
        # Room that was reserved is given up, and that is all that happens.
        assert result.code == 0, result.err
        assert len(provider.requests) == JOBS
    elif often == 6:
        # Two jobs fail before they ask, as long as the first one's answer waits.
        assert result.code == 2
        assert len(provider.requests) == JOBS - 2
    else:
        assert result.code == 2
        assert "a paid answer waits in memory for room" in result.err
        assert "warning: 1 paid answer could not be kept" in result.out
        assert len(provider.requests) == 1
        assert (len(accounts.lost), accounts.unsettled) == (1, 1)
        return
    assert list(accounts.wrong(0)) == []
    assert many.popbuild("run").code == 0
    assert len(provider.requests) == JOBS


# Runs popbuild on a disk without room to spare, which is full the first time that the ledger's line
# of an answer is written, after a part of the lines or all. As many lines as can be share a write.
LATE = """
import errno, os, sys, threading
from popbuild.base import disk
from popbuild.cli.main import main
from popbuild.llm import reserve, store

JOBS, share, is_before_end = 16, float(sys.argv[1]), sys.argv[2] == "True"
full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
write_all, take, prepare = disk._write_all, reserve.Reserve._take, store.Store.prepare
prepared, failed = threading.Semaphore(0), 0

def write(file, data):
    global failed
    if b'"settled"' in data and failed < JOBS:
        for _ in range(0 if failed else JOBS):
            prepared.acquire()
        failed += data.count(b'"settled"')
        cut = round(len(data) * share)
        if is_before_end:  # of a line, which is all there but for that
            cut = data.index(b"\\n", cut)
        write_all(file, data[:cut])
        raise full
    write_all(file, data)

def take_no_more(self, size):
    if size > self._held + reserve._LINES:
        raise full
    take(self, size)

def prepare_one(self, request, answer):
    prepared.release()
    return prepare(self, request, answer)

disk._write_all, reserve.Reserve._take, store.Store.prepare = write, take_no_more, prepare_one
sys.exit(main(["run", "-n", "16"]))
"""


@pytest.mark.parametrize(
    ("share", "is_before_end"), [(0.0, False), (0.4, False), (1.0, False), (0.4, True)]
)
def test_no_call_is_settled_twice(
    share: float, is_before_end: bool, many: Workspace, provider: Provider
) -> None:
    """A batch of lines that did not fit may stand there, or a part of it: only what is missing is
    written again."""
    provider.hold()
    running = many.start("python", "-c", LATE, str(share), str(is_before_end))
    provider.wait_for(JOBS)
    provider.release()
    result = running.wait()
    assert result.code == 0, result.out + result.err
    assert "warning: the disk is full" in result.out
    assert list(Accounts(many.root, provider.requests).wrong(0)) == []
    assert many.popbuild("run").code == 0
    assert len(provider.requests) == JOBS


# Runs popbuild beside a program that takes all room once the answers are in the store, and all
# that a failed write gives up, until the command ends.
EATEN = """
import sys, threading
from popbuild.base import disk
from popbuild.cli.main import main
from popbuild.llm.reserve import Reserve
from popbuild.llm.store import Store

write, give_up, close = disk._write_all, Reserve.give_up, Reserve.close
prepare_one, prepared = Store.prepare, threading.Semaphore(0)
eaters, ended = [], []
one_at_a_time = threading.Lock()  # else a write gets the room before it is eaten

def prepare(self, request, answer):
    try:
        return prepare_one(self, request, answer)
    finally:
        prepared.release()

def eat():
    eaters.append(open(f"eater-{len(eaters)}", "wb", buffering=0))
    for size in (1 << 20, 1 << 16, 1 << 12):
        try:
            while eaters[-1].write(bytes(size)) == size:
                pass
        except OSError:
            pass

def write_eaten(file, data):
    if b'"settled"' in data and not ended:
        for _ in range(0 if eaters else 16):
            prepared.acquire()
        with one_at_a_time:
            eat()
    with one_at_a_time:
        write(file, data)

def give_up_eaten(self, size_bytes):
    with one_at_a_time:
        left = give_up(self, size_bytes)
        eat()
    return left

def close_last(self):
    ended.append(True)
    close(self)

Store.prepare, disk._write_all = prepare, write_eaten
Reserve.give_up, Reserve.close = give_up_eaten, close_last
sys.exit(main(["run", "-n", "16"]))
"""


def test_a_line_finds_room_when_all_else_is_taken(many: Workspace, provider: Provider) -> None:
    """The answers that are stored are settled at the end, in room that nothing else got."""
    provider.hold()
    running = many.start("python", "-c", EATEN)
    provider.wait_for(JOBS)
    provider.release()
    result = running.wait()
    assert result.code == 2, result.out + result.err
    assert "waited for room and found it" in result.out, result.out + result.err
    assert list(Accounts(many.root, provider.requests).wrong(0)) == []
    for eater in many.root.glob("eater-*"):
        eater.unlink()
    assert many.popbuild("run").code == 0
    assert len(provider.requests) == JOBS


def test_room_grows_with_the_calls_in_flight(small: SmallDisk) -> None:
    """It is on the disk, without a name; a full disk refuses more of it, and what was given up, or
    held for a call that ended, is free."""

    def free() -> int:
        status = os.statvfs(small.mount)
        return status.f_bfree * status.f_frsize

    async def use() -> None:
        reserve = Reserve(small.mount)
        before = free()
        held = [await reserve.hold(Asked("m", (), {})) for _ in range(JOBS)]
        assert before - free() >= sum(held)
        assert list(small.mount.iterdir()) == []
        huge = Asked("m", ({"role": "user", "content": "x" * LARGE},), {})
        with pytest.raises(OSError, match="No space left") as caught:
            await reserve.hold(huge)
        assert disk_room.is_full(caught.value)
        taken = before - free()
        assert reserve.give_up(1)
        assert before - free() < taken
        for each in held:
            reserve.free(each)
        await reserve.hold(Asked("m", (), {"maxTokens": 10}))
        while reserve.give_up(LARGE):
            pass
        assert 0 < before - free() < held[0]
        reserve.close()
        assert free() == before

    asyncio.run(use())
