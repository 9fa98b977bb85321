"""File systems to break: one whose power can be cut, and one that is full. Root only, Linux.

ext4 and XFS have a call that shuts them down at once, without writing anything more; the next mount
replays the journal, as after a power cut. The ten minutes between commits keep ext4 from syncing
by itself in the meantime.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import faults
from faults import Call, Fault
from matrix import Bench, Cell, Scenario
from provider import Provider

_SHUTDOWN = 0x8004587D
_NOTHING_MORE = 2  # not even the journal
_PATIENCE, _SOON_S = 100, 0.1
# name: command that makes it, size, options of the mount
SYSTEMS = {
    "ext4": (("mkfs.ext4", "-qF"), "64M", "commit=600"),
    "ext4 noauto_da_alloc": (("mkfs.ext4", "-qF"), "64M", "commit=600,noauto_da_alloc"),
    "XFS": (("mkfs.xfs", "-qf"), "320M", "defaults"),
}


def missing(system: str) -> str | None:
    """Why such a file system cannot be had on this machine; None where it can."""
    make = "mount" if system == "tmpfs" else SYSTEMS[system][0][0]
    if os.geteuid() != 0:
        return "to mount a file system needs root"
    for program in (make, "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is missing (Debian: apt-get install e2fsprogs xfsprogs mount)"
    try:
        with SmallDisk(1 << 20) if system == "tmpfs" else PowerSupply(system):
            return None
    except subprocess.CalledProcessError as error:
        return f"no {system} can be mounted here: {error.stderr.strip()}"


class PowerSupply:
    """The file system, mounted at `mount` inside the `with` block."""

    def __init__(self, system: str) -> None:
        self._make, self._size, self._options = SYSTEMS[system]

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="powercut-"))
        self._image = self._folder / "image"
        self.mount = self._folder / "mount"
        self.mount.mkdir()
        try:
            _call("truncate", "-s", self._size, str(self._image))
            _call(*self._make, str(self._image))
            self._attach()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._detach()
        shutil.rmtree(self._folder)

    def cut(self) -> None:
        """Cut the power, and start again. Nothing may have a file open there."""
        folder = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NOTHING_MORE))
        finally:
            os.close(folder)
        self._detach()
        self._attach()

    def settle(self) -> None:
        """All that stands there now is durable."""
        _call("sync", "-f", str(self.mount))

    def _attach(self) -> None:
        """Mount it. Somebody else's copy of the mounts, as a sandbox makes, may hold on to what was
        shut down for a moment, and that is what would be mounted."""
        for patience in range(_PATIENCE):
            _call("mount", "-o", f"loop,{self._options}", str(self._image), str(self.mount))
            try:
                list(self.mount.iterdir())
                return
            except OSError as error:
                if error.errno != errno.EIO or patience == _PATIENCE - 1:
                    raise
            self._detach()
            time.sleep(_SOON_S)

    def _detach(self) -> None:
        for patience in range(_PATIENCE):
            try:
                _call("umount", str(self.mount))
            except subprocess.CalledProcessError:
                if patience == _PATIENCE - 1:
                    raise
                time.sleep(_SOON_S)  # a process that was killed lets go of its files in a moment
            else:
                return


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


class SmallDisk:
    """A file system in memory with room for so many bytes, mounted at `mount` inside the `with`
    block; `grow` makes room."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def __enter__(self) -> Self:
        self.mount = Path(tempfile.mkdtemp(prefix="smalldisk-"))
        _call("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "tmpfs", str(self.mount))
        return self

    def __exit__(self, *_: object) -> None:
        _call("umount", str(self.mount))
        self.mount.rmdir()

    def grow(self, size_bytes: int) -> None:
        _call("mount", "-o", f"remount,size={size_bytes}", str(self.mount))


def full_disks(
    scenario: Scenario, provider: Provider, step_bytes: int, most: int | None = None
) -> list[Cell]:
    """The command on disks with room for what stands there and a step more, two, and so on, until
    it succeeds, or `most` times: the error is told, nothing is lost, and with more room the next
    run completes."""
    large = 16 << 20
    cells: list[Cell] = []
    with SmallDisk(large) as disk:
        bench = Bench(scenario, disk.mount, provider)
        try:
            bench.measure()
            succeeded = False
            while not succeeded and len(cells) != most:
                bench.reset()
                stat = os.statvfs(disk.mount)
                used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
                room = (len(cells) + 1) * step_bytes
                disk.grow(used + room)
                result = bench.run(Fault(str(bench.root), bench.log))
                wrong = [*bench.told(result, "ENOSPC"), *bench.look(result)]
                succeeded = result.code == scenario.code
                if not succeeded and "No space left" not in result.out + result.err:
                    wrong.append(f"not told why: {result.err[-600:]}")
                disk.grow(large)
                wrong += bench.finish()
                call = Call(len(cells) + 1, "room", f"{room:,} bytes")
                cells.append(Cell(scenario.name, "full disk", call, tuple(wrong)))
        finally:
            bench.close()
    return cells


def cuts(
    system: str,
    scenario: Scenario,
    provider: Provider,
    stride: int = 1,
    unsynced: tuple[str, ...] = (),
) -> list[Cell]:
    """Cut the power before every n-th call of a scenario, and after the last one."""
    with PowerSupply(system) as power:
        bench = Bench(scenario, power.mount, provider, unsynced)
        try:
            bench.measure()
            end = Call(len(bench.calls) + 1, "end", "")
            return [_cut_at(bench, power, call) for call in [*bench.calls[::stride], end]]
        finally:
            bench.close()


def _cut_at(bench: Bench, power: PowerSupply, call: Call) -> Cell:
    bench.reset()
    power.settle()
    kind = faults.NONE if call.name == "end" else faults.KILL_ALL
    fault = Fault(str(bench.root), bench.log, kind, call.number, bench.unsynced)
    bench.run(fault)
    power.cut()
    wrong = list(bench.look(None, after_cut=True))
    if kind == faults.NONE and bench.reached() != bench.result:
        wrong.append("it was told to be done, and is gone")
    wrong += bench.finish()
    return Cell(bench.scenario.name, "power cut", call, tuple(wrong))
