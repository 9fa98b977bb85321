"""Whether the faults could happen at every system call that changes the root: strace says.

A scenario is traced once in a fresh interpreter, and the calls that the kernel saw under the root
are held against those that faults.py counted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import faults
from faults import Fault
from matrix import Bench, Scenario
from patience import PATIENCE_S
from provider import Provider
from scenarios import BY_NAME

_TRACED = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,rename,renameat,renameat2,unlink,"
    "unlinkat,rmdir,mkdir,mkdirat,ftruncate,truncate,chmod,fchmod,fchmodat,utimensat,link,linkat,"
    "symlink,symlinkat,sendfile,copy_file_range,fallocate,creat"
)
_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)$")
_OWN = {"pwrite64": "pwrite", "openat": "open", "utimensat": "utime"}
_KERNELS = {"replace": "rename", "remove": "unlink", "posix_fallocate": "fallocate"}
# The working directory is the root.
_RELATIVE = re.compile(r'(?:\w\(|AT_FDCWD, )"[^/"]')


def missing() -> str | None:
    """Why there is no trace to be had; None where there is."""
    return None if shutil.which("strace") else "strace is missing (Debian: apt-get install strace)"


# One that builds, one that says no and asks again, one that removes, one that writes a file of its
# own in pieces.
HELD = ("build", "rejection", "prune", "archive")


def missed() -> Iterator[str]:
    """A sentence on how many of the kernel's calls were counted, and which were not, for each."""
    reason = missing()
    if reason is not None:
        yield f"Not held against the kernel's own trace: {reason}."
        return
    for name in HELD:
        seen, counted = compared(BY_NAME[name], Path(tempfile.mkdtemp(prefix="syscalls-")))
        left = seen - counted
        names = ", ".join(f"{count} {call}" for call, count in sorted(left.items())) or "none"
        yield (
            f"{name}: strace saw {seen.total()} calls that change files under the root; faults "
            f"could happen at {counted.total()}; not at: {names}."
        )


def compared(scenario: Scenario, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """What strace saw, and what was counted, by name: of the same command in one process."""
    with Provider() as provider:
        bench = Bench(scenario, folder, provider)
        try:
            return _traced(bench, folder / "trace")
        finally:
            bench.close()


def _traced(bench: Bench, trace: Path) -> tuple[Counter[str], Counter[str]]:
    fault = Fault(str(bench.root), bench.log)
    _, option, code = faults.program(*bench.scenario.argv)
    argv = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={_TRACED}"]
    done = subprocess.run(
        [*argv, sys.executable, option, code],
        cwd=bench.root,
        env=bench.workspace.environment() | fault.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode != bench.scenario.code:
        raise AssertionError(f"{bench.scenario.name} fails under strace: {done}")
    names = (call.name for call in faults.calls(Path(bench.log)))
    counted = Counter(_KERNELS.get(name, name) for name in names if name != "send")
    return _seen(trace.read_text(), str(bench.root)), counted


def _seen(trace: str, root: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in trace.splitlines():
        match = _CALL.match(line)
        # The working directory is the root: it stands in every call that takes a path.
        told = line.replace(f"AT_FDCWD<{root}>", "AT_FDCWD")
        below = f"{root}/" in told or f"{root}>" in told or _RELATIVE.search(told)
        if match is None or not below:
            continue
        name = match[1]
        if name == "unlinkat":
            name = "rmdir" if "AT_REMOVEDIR" in line else "unlink"
        if name == "openat" and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", line):
            continue
        found[_OWN.get(name, name)] += 1
    return found
