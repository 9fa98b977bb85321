"""Eight processes on one root, dead owners, readers in between, and places where locks fail."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from commands import Running
from provider import Provider
from workspace import Workspace

pytestmark = pytest.mark.slow
PROCESSES = 8


def asked_once(provider: Provider) -> bool:
    """Whether no request was ever sent twice."""
    return max(Counter(request.digest for request in provider.requests).values()) == 1


def test_eight_runs_of_the_same_jobs(workspace: Workspace, provider: Provider) -> None:
    """Each job is built by one of them: every call is sent once, every run is told once."""
    jobs = [f"job-{number}" for number in range(6)]
    for job in jobs:
        workspace.seed(job, {"topic": job})
    started = [workspace.start("popbuild", "run", *jobs) for _ in range(PROCESSES)]
    results = [running.wait() for running in started]
    assert [result.code for result in results] == [0] * PROCESSES, results
    assert len(provider.requests) == 2 * len(jobs)
    assert asked_once(provider)
    assert sorted(line["id"] for line in workspace.runs()) == jobs
    assert workspace.popbuild("verify").code == 0
    assert workspace.popbuild("run", *jobs).code == 0
    assert len(provider.requests) == 2 * len(jobs)


def test_eight_that_submit_and_run_everything(workspace: Workspace, provider: Provider) -> None:
    """Every seed is claimed by one of them, and none is lost, nor a line of runs.jsonl."""
    seed = workspace.write("one.json", {"name": "one", "data": {"topic": "x"}})
    jobs = [f"job-{number}" for number in range(2 * PROCESSES)]
    program = (
        "import sys; from popbuild.cli.main import main\n"
        f"for job in sys.argv[1:]: main(['submit', {str(seed)!r}, '--id', job])\n"
        f"sys.exit(main(['run', *{jobs!r}]))"
    )
    for job in jobs:
        workspace.seed(job, {"topic": job})
    started = [
        workspace.start("python", "-c", program, *jobs[number::PROCESSES])
        for number in range(PROCESSES)
    ]
    results = [running.wait() for running in started]
    assert [result.code for result in results] == [0] * PROCESSES, results
    assert len(provider.requests) == 2 * len(jobs)
    assert asked_once(provider)
    assert sorted(line["id"] for line in workspace.runs()) == sorted(jobs)
    assert list((workspace.root / "pipeline-data/pending").glob("[!.]*")) == []
    assert workspace.popbuild("verify").code == 0


def test_a_dead_owners_lock_is_free(workspace: Workspace, provider: Provider) -> None:
    """The very next command has it: nothing expires, and nothing waits."""
    provider.hold()
    running = workspace.start("popbuild", "run", "first")
    provider.wait_for(1)
    assert workspace.popbuild("run", "first", "--no-wait").code == 5
    running.kill_alone()
    running.wait()
    provider.release()
    result = workspace.popbuild("run", "first", "--no-wait")
    assert result.code == 0, result
    assert len(provider.requests) == 3
    assert workspace.popbuild("run", "first", "--no-wait").code == 0
    assert len(provider.requests) == 3


def test_a_reader_never_sees_half_a_state(workspace: Workspace, provider: Provider) -> None:
    """While a job is built and rebuilt, each look at it is whole: one state, its tasks, and never
    none at all once it is complete."""
    assert workspace.popbuild("run", "first").code == 0
    seen: Counter[str] = Counter()
    for number in range(3):
        workspace.seed("first", {"topic": f"topic {number}"})
        with workspace.start("popbuild", "run", "first") as running:
            for look in looks(workspace, running):
                (job,) = look
                seen[job["state"]] += 1
                assert set(job["tasks"]) == {"research", "analysis"}
                assert workspace.artifact("first", "analysis")["content"]
            assert running.wait().code == 0
    assert set(seen) <= {"complete", "running", "stopped"}
    assert seen.total() >= 3
    assert len(provider.requests) == 8


def looks(workspace: Workspace, running: Running) -> Iterator[list[dict[str, object]]]:
    """What `status --json` says, again and again until the command has said that it is done."""
    done = False
    while not done:
        done = "complete," in running.out
        result = workspace.popbuild("status", "first", "--json")
        assert result.code in (0, 1), result
        yield json.loads(result.out)


OPEN_FILES = """
import json, os, sys
json.load(sys.stdin)
names = []
for each in os.listdir("/proc/self/fd"):
    try:
        names.append(os.readlink("/proc/self/fd/" + each))
    except OSError:
        pass
print(json.dumps({"content": " ".join(names)}))
"""


def test_a_command_inherits_no_descriptor(workspace: Workspace, provider: Provider) -> None:
    """A task's command, and whatever it leaves running, holds none of our files: no lock lives on
    in it."""
    workspace.task("research", prompt="")
    workspace.write("pipeline-config/tasks/research/work.py", OPEN_FILES)
    workspace.write(
        "pipeline-config/tasks/index.yaml",
        'research: {command: ["python3", "work.py"]}\nanalysis: ./analysis\n',
    )
    result = workspace.popbuild("run", "first")
    assert result.code == 0, result
    opened = str(workspace.artifact("first", "research"))
    assert "pipe:" in opened  # it was really looked at
    assert ".popbuild" not in opened
    assert "pipeline-data" not in opened
    assert len(provider.requests) == 1
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 1


@pytest.mark.parametrize("state", ["pending", "current", "complete", "rejected"])
def test_folders_on_different_file_systems(
    state: str, workspace: Workspace, provider: Provider
) -> None:
    """Refused at the start, with the folders: a promotion would fail when all is paid for."""
    reason = disks.missing("tmpfs")
    if reason is not None:
        pytest.skip(reason)
    folder = workspace.root / "pipeline-data" / state
    folder.mkdir(parents=True)
    mount(folder)
    try:
        for command in (("run", "first"), ("watch", "--once")):
            result = workspace.popbuild(*command)
            assert result.code != 0
            assert "different file systems" in result.err
            assert "Traceback" not in result.err
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert provider.requests == []
    assert workspace.popbuild("run", "first").code == 0


def mount(folder: Path) -> None:
    argv = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    subprocess.run(argv, check=True)


# Runs popbuild where locks of one kind are granted to everybody, as some file systems do.
NO_LOCKS = """
import fcntl, sys
from popbuild.cli.main import main

def granted(*arguments):
    return 0

real = fcntl.fcntl

def some(file, command, *more):
    return 0 if command == fcntl.F_OFD_SETLK else real(file, command, *more)

kind = sys.argv[1]
if kind == "fcntl":
    fcntl.lockf, fcntl.fcntl = granted, some
if kind == "flock":
    fcntl.flock = granted
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("kind", ["fcntl", "flock", "none"])
def test_locks_that_do_not_hold(kind: str, workspace: Workspace, provider: Provider) -> None:
    """A file system that gives every lock to everybody is found at the start, and told with the
    kind of lock; one whose locks hold is not."""
    result = workspace.run("python", "-c", NO_LOCKS, kind, "run", "first")
    assert result.code == 0, result
    told = [line for line in (result.out + result.err).splitlines() if "locks do not hold" in line]
    if kind == "none":
        assert told == []
    else:
        (line,) = told
        assert f"two holders got the same {kind} lock" in line
        assert ".popbuild" in line
    assert len(provider.requests) == 2
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 2
