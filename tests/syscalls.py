"""Whether the faults could happen at every system call that changes the root: strace says.

A build is traced once in a fresh interpreter, and the calls that the kernel saw under the root are
held against those that faults.py counted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import faults
import matrix
from faults import Fault
from provider import Provider
from workspace import Workspace

_TRACED = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,rename,renameat,renameat2,unlink,"
    "unlinkat,rmdir,mkdir,mkdirat,ftruncate,truncate,chmod,fchmod,fchmodat,utimensat,link,linkat,"
    "symlink,symlinkat,sendfile,copy_file_range,fallocate,creat"
)
_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)$")
_OWN = {"pwrite64": "pwrite", "openat": "open", "rename": "replace", "utimensat": "utime"}


def missing() -> str | None:
    """Why there is no trace to be had; None where there is."""
    return None if shutil.which("strace") else "strace is missing (Debian: apt-get install strace)"


def missed(folder: Path | None = None) -> str:
    """A sentence on how many of the kernel's calls were counted, and which were not."""
    reason = missing()
    if reason is not None:
        return f"Not held against the kernel's own trace: {reason}."
    seen, counted = compared(folder or Path(tempfile.mkdtemp(prefix="syscalls-")))
    left = seen - counted
    names = ", ".join(f"{count} {name}" for name, count in sorted(left.items())) or "none"
    return (
        f"strace saw {seen.total()} calls of one build that change files under its root; faults "
        f"could happen at {counted.total()}; not at: {names}."
    )


def compared(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """What strace saw, and what was counted, by name: of the same build in one process."""
    with Provider() as provider, Workspace(folder, provider) as workspace:
        matrix.SCENARIOS[0].prepare(workspace)
        trace, log = folder / "trace", folder / "log"
        fault = Fault(str(workspace.root), str(log))
        _, option, code = faults.program("run", "first")
        argv = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={_TRACED}"]
        subprocess.run(
            [*argv, sys.executable, option, code],
            cwd=workspace.root,
            env=workspace.environment() | fault.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            capture_output=True,
            timeout=120,
        )
        counted = Counter(call.name for call in faults.calls(log) if call.name != "send")
        return _seen(trace.read_text(), str(workspace.root)), counted


def _seen(trace: str, root: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in trace.splitlines():
        match = _CALL.match(line)
        # The working directory is the root: it stands in every call that takes a path.
        told = line.replace(f"AT_FDCWD<{root}>", "AT_FDCWD")
        if match is None or (f"{root}/" not in told and f"{root}>" not in told):
            continue
        name = match[1]
        if name == "openat" and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", line):
            continue
        found[_OWN.get(name, name)] += 1
    return found
