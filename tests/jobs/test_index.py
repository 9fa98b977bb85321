"""The index of unchanged jobs: what it spares, and every way in which it could lie."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clocks import rest
from provider import Provider
from workspace import MODEL, Workspace

JOBS = ("first", "second", "third")
TASKS = ("research", "analysis")

# A command that says on stderr which jobs' files were opened, and which folders were listed.
WATCHED = """
import re, sys
opened, listed = set(), set()


def watch(event, arguments):
    path = str(arguments[0]) if arguments else ""
    if event == "open":
        opened.update(re.findall("pipeline-data/[a-z]+/([a-z]+)/|seeds/([a-z]+)[.]json", path))
    elif event in ("os.scandir", "os.listdir"):
        listed.update(re.findall("(seeds|complete|current|rejected|pending)$", path))


{before}
sys.addaudithook(watch)
from popbuild.cli.main import main
code = main(sys.argv[1:])
jobs = {name for pair in opened for name in pair if name}
print("opened:", *sorted(jobs), "listed:", *sorted(listed), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Watched:
    out: str
    opened: set[str]
    listed: set[str]


def watched(
    workspace: Workspace, *words: str, before: str = "", env: Mapping[str, str] | None = None
) -> Watched:
    """Run a command that must succeed, after a line of Python."""
    program = WATCHED.replace("{before}", before)
    result = workspace.run("python", "-c", program, *words, env=env)
    assert result.code == 0, result.out + result.err
    found = re.search("opened: ?(.*?) ?listed: ?(.*)$", result.err, re.MULTILINE)
    assert found is not None, result.err
    return Watched(result.out, set(found[1].split()), set(found[2].split()))


@pytest.fixture
def built(workspace: Workspace) -> Workspace:
    """Three complete jobs, and an index that knows them."""
    for job in JOBS:
        workspace.seed(job, {"topic": f"the {job} one", "tone": "plain"})
    assert workspace.popbuild("run").code == 0
    rest()
    assert workspace.popbuild("list").code == 0
    assert index_of(workspace).exists()
    return workspace


def index_of(workspace: Workspace) -> Path:
    return workspace.root / ".popbuild/index/jobs.json"


def states(workspace: Workspace, **options: Any) -> dict[str, Any]:
    """What `list` says of each job and its tasks."""
    result = workspace.popbuild("list", "--json", **options)
    assert result.code == 0, result.err
    return {job["id"]: job for job in json.loads(result.out)}


def without_index(workspace: Workspace, **options: Any) -> dict[str, Any]:
    """The same of a root in which there is none."""
    index_of(workspace).unlink(missing_ok=True)
    return states(workspace, **options)


# --- what it spares ---


@pytest.mark.parametrize("words", ["run", "list", "status", "plan"])
def test_what_is_unchanged_is_not_opened(words: str, built: Workspace, provider: Provider) -> None:
    """No file of a job that is as it was is opened, and the answer is the same as without."""
    calls = len(provider.requests)
    known = watched(built, words)
    assert known.opened == set()
    index_of(built).unlink()
    read = watched(built, words)
    assert read.opened == set(JOBS)
    assert known.out == read.out
    assert len(provider.requests) == calls


def test_only_what_changed_is_opened(built: Workspace, provider: Provider) -> None:
    """One edited seed costs a look at one job, and its build; afterwards it is known too."""
    calls = len(provider.requests)
    built.seed("second", {"topic": "another", "tone": "plain"})
    assert watched(built, "list").opened == {"second"}
    assert watched(built, "run").opened == {"second"}
    assert len(provider.requests) == calls + 2
    rest()
    assert watched(built, "run").opened == {"second"}
    assert watched(built, "run").opened == set()
    assert len(provider.requests) == calls + 2


STALE = {
    "a prompt": lambda built: built.task("research", prompt="Say more: {{ seed.data.topic }}.\n"),
    "a seed": lambda built: built.seed("second", {"topic": "another", "tone": "plain"}),
    "an artifact": lambda built: same_size(artifact(built.job("first")), b".", b"!"),
    "a missing artifact": lambda built: artifact(built.job("first")).unlink(),
    "a missing letter": lambda built: (built.job("first") / "tasks/research/letter.json").unlink(),
}


@pytest.mark.parametrize("change", STALE)
def test_a_stale_job_is_looked_at_once(change: str, built: Workspace, provider: Provider) -> None:
    """A second listing says the same of it without opening it; a change of what it hangs on is
    seen; a build opens it, and it is known as up to date afterwards."""
    STALE[change](built)
    rest()
    first, again = watched(built, "list"), watched(built, "list")
    assert first.opened >= {"second"} or first.opened >= {"first"}
    assert (again.out, again.opened) == (first.out, set())
    assert "stale" in again.out or "edited" in again.out
    assert watched(built, "status").opened == set()
    assert states(built) == without_index(built)
    built.seed("first", {"topic": "a third", "tone": "plain"})
    rest()
    assert "first" in watched(built, "list").opened
    assert states(built) == without_index(built)
    assert built.popbuild("run", "-a", "--discard-edits").code == 0
    rest()
    calls = len(provider.requests)
    assert all(job["upToDate"] for job in states(built).values())
    assert watched(built, "run").opened == set()
    assert len(provider.requests) == calls


def test_doits_list_uses_it_too(built: Workspace) -> None:
    """`doit list` shows jobs, with --all their tasks, and a task by its name; the same without."""
    listings = (["list"], ["list", "-s"], ["list", "-s", "--all"], ["list", "first:research"])
    known = [built.doit(*words).out for words in listings]
    index_of(built).unlink()
    assert [built.doit(*words).out for words in listings] == known
    assert [len(text.splitlines()) for text in known] == [3, 3, 9, 1]


def test_one_job_is_found_without_the_others(built: Workspace) -> None:
    """A run of one job with nothing to do lists no folder of jobs, and opens no other job."""
    found = watched(built, "run", "job=second")
    assert found.out == "-- second  up to date\n"
    assert (found.opened, found.listed) == ({"second"}, set())


def test_ids_that_differ_by_case_are_found_where_one_is_built(
    built: Workspace, provider: Provider
) -> None:
    """A job with nothing to do is up to date, whatever its neighbour is called; one that would be
    built is refused, and so is a run of all."""
    calls = len(provider.requests)
    seed = built.seed("FIRST", {"topic": "another", "tone": "plain"})
    assert built.popbuild("run", "first").out == "-- first  up to date\n"
    built.seed("first", {"topic": "another", "tone": "plain"})
    for words in (["first"], ["FIRST"], []):
        result = built.popbuild("run", *words)
        assert (result.code, "FIRST, first" in result.err) == (3, True), result.err
    seed.unlink()
    assert built.popbuild("run", "first").code == 0
    assert len(provider.requests) == calls + 2


# --- ways to lie: the files of a job ---


def same_size(path: Path, old: bytes, new: bytes) -> None:
    """Write other bytes over these in place, and put the time of the last change back."""
    status, data = path.stat(), path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    with path.open("r+b") as file:
        file.write(data.replace(old, new, 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def replaced(path: Path, old: bytes, new: bytes) -> None:
    """Put another file in this one's place, of the same size, time and permissions."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    same_size(other, old, new)
    other.rename(path)


def letter(job: Path) -> Path:
    return job / "tasks/research/letter.json"


def artifact(job: Path) -> Path:
    return job / "files/artifacts/research-output.json"


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def restored(job: Path, root: Path) -> None:
    """From a backup that is as old as the index."""
    shutil.copytree(job, root / "backup")
    same_size(artifact(job), b"content", b"Content")
    shutil.rmtree(job)
    shutil.copytree(root / "backup", job)


Change = Callable[[Path, Path], object]  # the directory of the job `first`, and the root

CHANGES: dict[str, tuple[Change, list[str]]] = {
    "artifact edited in place": (
        lambda job, root: same_size(artifact(job), b"content", b"Content"),
        ["first"],
    ),
    "letter edited in place": (
        lambda job, root: same_size(letter(job), b"research", b"Research"),
        ["first"],
    ),
    "status edited in place": (
        lambda job, root: same_size(job / "tasks-status.json", b"done", b"gone"),
        ["first"],
    ),
    "seed edited in place": (
        lambda job, root: same_size(root / "seeds/first.json", b"the first", b"The first"),
        ["first"],
    ),
    "artifact replaced by another": (
        lambda job, root: replaced(artifact(job), b"content", b"Content"),
        ["first"],
    ),
    "letter replaced by another": (
        lambda job, root: replaced(letter(job), b"research", b"Research"),
        ["first"],
    ),
    "artifact deleted": (lambda job, root: artifact(job).unlink(), ["first"]),
    "letter deleted": (lambda job, root: letter(job).unlink(), ["first"]),
    "status deleted": (lambda job, root: (job / "tasks-status.json").unlink(), ["first"]),
    "seed deleted": (lambda job, root: (root / "seeds/first.json").unlink(), []),
    "artifact is a link to itself": (
        lambda job, root: (
            artifact(job).rename(root / "aside"),
            artifact(job).symlink_to(root / "aside"),
        ),
        ["first"],
    ),
    "two jobs exchanged": (lambda job, root: exchange(job, job.parent / "second"), JOBS[:2]),
    "two letters exchanged": (
        lambda job, root: exchange(letter(job), letter(job.parent / "second")),
        JOBS[:2],
    ),
    "two folders of letters exchanged": (
        lambda job, root: exchange(job / "tasks", job.parent / "second/tasks"),
        JOBS[:2],
    ),
    "two seeds exchanged": (
        lambda job, root: exchange(root / "seeds/first.json", root / "seeds/second.json"),
        JOBS[:2],
    ),
    "job restored from a backup": (restored, []),
    "job moved away": (lambda job, root: job.rename(root / "aside"), ["first"]),
    "job moved to current/": (
        lambda job, root: job.rename(root / "pipeline-data/current/first"),
        ["first"],
    ),
    "job moved away and back": (
        lambda job, root: (job.rename(root / "aside"), (root / "aside").rename(job)),
        [],
    ),
    "a leftover in rejected/": (
        lambda job, root: shutil.copytree(job, root / "pipeline-data/rejected/first"),
        [],
    ),
    "a leftover in current/": (
        lambda job, root: shutil.copytree(job, root / "pipeline-data/current/first"),
        [],
    ),
    "own copy of the seed edited": (
        lambda job, root: same_size(job / "seed.json", b"the first", b"The first"),
        [],
    ),
    "nothing": (lambda job, root: None, []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change: str, built: Workspace) -> None:
    """Whatever happens to the files of a job, what is said of it is what is said without an index;
    and a run leaves the same behind as one that has none."""
    work, stale = CHANGES[change]
    work(built.job("first"), built.root)
    found = states(built)
    assert [job for job in JOBS if not found[job]["upToDate"]] == list(stale)
    with Workspace(built.root.parent / "twin", built.provider) as twin:
        shutil.rmtree(twin.root)
        shutil.copytree(built.root, twin.root, symlinks=True)
        assert without_index(twin) == found
        results = [each.popbuild("run", "-c", "--json") for each in (built, twin)]
        assert results[0].code == results[1].code
        assert outcomes(results[0].out) == outcomes(results[1].out)
        trees = [{path for path, _ in each.tree("pipeline-data")} for each in (built, twin)]
        assert trees[0] == trees[1]
        assert states(built).keys() == states(twin).keys()
        assert described(states(built)) == described(states(twin))


def outcomes(out: str) -> list[tuple[str, str]]:
    return [(each["id"], each["outcome"]) for each in json.loads(out)]


def described(found: Mapping[str, Any]) -> list[Any]:
    return [(job["id"], job["state"], job["upToDate"]) for job in found.values()]


def test_a_copy_of_a_root_is_looked_at(built: Workspace, tmp_path: Path) -> None:
    """The index comes along with a copy of the whole root, and knows nothing of the files there."""
    with Workspace(tmp_path / "copy", built.provider) as copy:
        shutil.rmtree(copy.root)
        shutil.copytree(built.root, copy.root)
        same_size(artifact(copy.job("first")), b"content", b"Content")
        found = watched(copy, "list")
        assert found.opened == set(JOBS)
        assert "first   complete, stale: analysis, edited: research" in found.out


def test_a_moved_root_is_known(built: Workspace) -> None:
    """No path of the root is in the index: where it was only moved, nothing is opened."""
    moved = built.root.with_name("moved")
    built.root.rename(moved)
    built.root = moved
    assert watched(built, "list").opened == set()


# --- ways to lie: the clock ---

# Stats as a file system has them whose clock ticks every thousand seconds, from `start` on.
COARSE = """
import os
from types import SimpleNamespace
from popbuild.base import file_clock
lstat, fstat, now = os.lstat, os.fstat, {now}


def coarse(found):
    names = [name for name in dir(found) if name.startswith("st_")]
    seen = SimpleNamespace(**{name: getattr(found, name) for name in names})
    seen.st_ctime_ns = {ctime}
    return seen


os.lstat = lambda *given, **more: coarse(lstat(*given, **more))
os.fstat = lambda *given: coarse(fstat(*given))
file_clock.now = lambda folder: file_clock.Moment(now, lstat(folder).st_dev)
"""


def clock(now_s: int, changed_s: int) -> str:
    """A command's view of the clock, and of when all files were changed last."""
    program = COARSE.replace("{now}", str(now_s * 10**9))
    return program.replace("{ctime}", str(changed_s * 10**9))


def test_an_edit_within_one_tick_is_seen(built: Workspace) -> None:
    """A file that is written to twice within one tick of the file system's clock looks the same
    each time: nothing is known of it until the clock has moved on."""
    index_of(built).unlink()
    assert watched(built, "list", before=clock(1000, 1000)).opened == set(JOBS)
    same_size(artifact(built.job("first")), b"content", b"Content")
    assert "edited: research" in watched(built, "list", before=clock(1000, 1000)).out
    assert "edited: research" in watched(built, "list", before=clock(1003, 1000)).out
    same_size(artifact(built.job("first")), b"Content", b"content")
    assert watched(built, "list", before=clock(1005, 1000)).opened == set(JOBS)
    assert watched(built, "list", before=clock(1006, 1000)).opened == set()


def test_a_clock_that_was_moved_back(built: Workspace) -> None:
    """What was known from a later time is dropped, and nothing is known of files from the future:
    the clock may come by that time again, and a change with it."""
    index_of(built).unlink()
    assert watched(built, "list", before=clock(2000, 1000)).opened == set(JOBS)
    assert watched(built, "list", before=clock(2001, 1000)).opened == set()
    same_size(artifact(built.job("first")), b"content", b"Content")
    found = watched(built, "list", before=clock(1000, 1000))
    assert "edited: research" in found.out
    assert watched(built, "list", before=clock(900, 1000)).opened == set(JOBS)
    assert watched(built, "list", before=clock(901, 1000)).opened == set(JOBS)


def test_a_clock_of_another_file_system_says_nothing(built: Workspace) -> None:
    """A file on another file system is looked at each time: its times are by another clock."""
    elsewhere = "from popbuild.base import file_clock; now = file_clock.now\n" + (
        "file_clock.now = lambda folder: "
        "file_clock.Moment(now(folder).time_ns, now(folder).device + 1)"
    )
    index_of(built).unlink()
    for _ in range(2):
        assert watched(built, "list", before=elsewhere).opened == set(JOBS)


def test_a_network_file_system_has_no_index(built: Workspace) -> None:
    """Where stats may be a minute old, each job is examined."""
    remote = "from popbuild.base import file_clock; file_clock._is_remote = lambda device: True"
    assert watched(built, "list", before=remote).opened == set(JOBS)


# --- ways to lie: all else that a verdict hangs on ---


def test_configuration_changed_and_changed_back(built: Workspace, provider: Provider) -> None:
    """A prompt makes its tasks stale in all jobs; as it was, all are known again, unopened."""
    calls = len(provider.requests)
    built.task("research", prompt="Say more: {{ seed.data.topic }}.\n")
    assert [job["upToDate"] for job in states(built).values()] == [False] * 3
    built.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    assert watched(built, "run").opened == set()
    assert len(provider.requests) == calls


@pytest.mark.parametrize(
    "env",
    [{"POPBUILD_MODEL": "openai/gpt-5-nano"}, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}],
    ids=lambda env: next(iter(env)),
)
def test_the_environment_counts(env: dict[str, str], built: Workspace) -> None:
    """Another model, or another address of it, makes all stale; without it all is as it was."""
    assert [job["upToDate"] for job in states(built, env=env).values()] == [False] * 3
    assert watched(built, "list").opened == set()


def test_another_draw_is_asked_for(built: Workspace) -> None:
    """Sample numbers that appear, or change in place, make their task stale; without them all is as
    it was, unopened."""
    for number in (1, 2):
        built.write("samples/first.json", {"research": number})
        found = states(built)
        assert [job["upToDate"] for job in found.values()] == [False, True, True]
        assert found == without_index(built)
        rest()
        assert states(built) == found
    (built.root / "samples/first.json").unlink()
    states(built)
    assert watched(built, "run").opened == set()


@pytest.mark.parametrize("asked", ["fresh=research", "-a"])
def test_what_is_asked_for_is_planned(asked: str, built: Workspace) -> None:
    """Of jobs that are as they were, too: their tasks are read."""
    known = built.popbuild("plan", asked, "--json")
    index_of(built).unlink()
    assert known.code == 0
    assert known.out == built.popbuild("plan", asked, "--json").out
    assert len(json.loads(known.out)["jobs"][2]["tasks"]) == len(TASKS)


def test_frozen_and_thawed(built: Workspace) -> None:
    """A frozen task is told of, and its job stale again once it is thawed."""
    assert built.popbuild("freeze", "first", "research").code == 0
    assert "first   complete, frozen: research" in watched(built, "list").out
    built.seed("first", {"topic": "another", "tone": "plain"})
    assert states(built)["first"]["upToDate"]
    assert built.popbuild("thaw", "first", "research").code == 0
    assert not states(built)["first"]["upToDate"]
    built.seed("first", {"topic": "the first one", "tone": "plain"})
    assert states(built) == without_index(built)


def test_the_weights_count(built: Workspace) -> None:
    """A local model's file that was edited in place makes all stale, same size and time or not."""
    weights = built.write("one.gguf", "weights")
    env = {"POPBUILD_LOCAL_MODEL": str(weights)}
    built.pipeline(TASKS, model="local/mine")
    for job in JOBS:
        # No such model can answer: the letters are written for what stands there.
        assert built.popbuild("accept", job, env=env).code == 0
    rest()
    watched(built, "list", env=env)
    assert watched(built, "list", env=env).opened == set()
    same_size(weights, b"weights", b"Weights")
    assert [job["upToDate"] for job in states(built, env=env).values()] == [False] * 3


def test_another_version_of_popbuild_looks_itself(built: Workspace) -> None:
    """What another version found says nothing about what this one would."""
    newer = "from popbuild.jobs import own_code; own_code.__version__ = '999'"
    assert watched(built, "list", before=newer).opened == set(JOBS)
    stages = "from popbuild.jobs import fingerprint; fingerprint.STAGES_VERSION = '999'"
    assert "stale: research, analysis" in watched(built, "list", before=stages).out


# --- the index itself ---


DAMAGES: dict[str, Callable[[bytes], bytes] | None] = {
    "truncated": lambda data: data[:-20],
    "empty": lambda data: b"",
    "nonsense": lambda data: b"\xff\xfe\x00",
    "one byte altered": lambda data: data[:-10] + bytes([data[-10] ^ 1]) + data[-9:],
    "without its digest": lambda data: data.partition(b"\n")[2],
    "not UTF-8": lambda data: data.replace(b"first", b"f\xefrst"),
    "deleted": None,
    "a folder": None,
}


def damage(path: Path, how: str) -> None:
    work, data = DAMAGES[how], path.read_bytes()
    path.unlink()
    if work is not None:
        path.write_bytes(work(data))
    elif how == "a folder":
        path.mkdir()


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_index_is_none(how: str, built: Workspace) -> None:
    """Every job is examined, and nothing is said of it; then the index is there again."""
    right = states(built)
    damage(index_of(built), how)
    found = watched(built, "list")
    assert found.opened == set(JOBS)
    assert found.out == "first   complete\nsecond  complete\nthird   complete\n"
    if how == "a folder":
        index_of(built).rmdir()
        watched(built, "list")
    assert watched(built, "list").opened == set()
    assert states(built) == right


def test_an_index_that_cannot_be_written_is_none(built: Workspace) -> None:
    """Where no file can be made to ask the clock, each job is examined; that is no error."""
    shutil.rmtree(index_of(built).parent)
    index_of(built).parent.write_text("in the way")
    for _ in range(2):
        assert watched(built, "list").opened == set(JOBS)


def test_a_job_that_is_gone_leaves_the_index(built: Workspace) -> None:
    """The index does not grow for ever."""
    shutil.rmtree(built.job("third"))
    (built.root / "seeds/third.json").unlink()
    built.seed("second", {"topic": "the second one", "tone": "plain"})
    rest()
    assert built.popbuild("list").code == 0
    assert set(json.loads(index_of(built).read_bytes().partition(b"\n")[2])["jobs"]) == {
        "first",
        "second",
    }


def test_two_commands_at_once(built: Workspace) -> None:
    """Each gives the right answer, whichever writes the index last."""
    same_size(artifact(built.job("first")), b"content", b"Content")
    rest()
    right = states(built)
    index_of(built).unlink()
    for _ in range(5):
        running = [built.start("popbuild", "list", "--json") for _ in range(4)]
        for each in running:
            result = each.wait()
            assert result.code == 0, result.err
            assert {job["id"]: job for job in json.loads(result.out)} == right
    assert watched(built, "list").opened == set()
    assert states(built) == right


# --- many jobs ---


def test_strangers_are_examined_on_all_processors(built: Workspace) -> None:
    """Copies of the process examine their share of the jobs of which nothing is known; the answer
    is the same, and a copy that fails is done without."""
    same_size(artifact(built.job("third")), b"content", b"Content")
    rest()
    right = watched(built, "list").out
    for failing in ("", "fork_map.json.dump = None"):
        index_of(built).unlink()
        before = "from popbuild.base import fork_map; from popbuild.jobs import index\n" + (
            f"{failing}\nfork_map.processors = lambda: 3; index._JOBS_A_PROCESS = 1"
        )
        found = watched(built, "list", before=before)
        assert (found.out, found.opened) == (right, set(JOBS) if failing else {"first"})
        assert watched(built, "list").opened == set()


# --- jobs over jobs ---


def test_a_job_over_others_is_known_by_their_stamps(built: Workspace, provider: Provider) -> None:
    """Neither it nor one over it is opened while no job below has changed; then both are."""
    folder = "pipeline-config/pipelines/sum"
    task = {"combine": {"model": MODEL}}
    body = {"name": "sum", "version": "1", "tasks": ["combine"], "taskConfig": task}
    built.write(f"{folder}/pipeline.json", body)
    built.write(f"{folder}/tasks/index.yaml", "combine: ./combine\n")
    prompt = "{% for job in jobs.all %}{{ job.id }} {{ job.seed.data.topic }}{% endfor %}\n"
    built.write(f"{folder}/tasks/combine/prompt.md", prompt)
    for job, glob in {"book": "*[dt]", "all": "book"}.items():
        seed = {"name": job, "pipeline": "sum", "jobs": {"all": glob}, "data": {"topic": "x"}}
        built.write(f"seeds/{job}.json", seed)
    assert built.popbuild("run", "all").code == 0
    calls = len(provider.requests)
    rest()
    assert built.popbuild("list").code == 0
    for words in ("run", "list", "plan"):
        assert watched(built, words).opened == set()
    assert "up to date" in watched(built, "run").out
    built.seed("first", {"topic": "the first one", "tone": "plain", "more": 1})
    assert {"first", "book", "all"} <= watched(built, "list").opened
    assert states(built) == without_index(built)
    assert len(provider.requests) == calls
