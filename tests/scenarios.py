"""What the crash matrix breaks: real commands, the roots that they begin with, and what they owe.

Where `again` is another command than the first: one that made its file has nothing more to do, and
refuses to make it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import documents
import harms
from foreign_data import ARTIFACTS, JOB, ForeignData, example
from matrix import CANARY, Scenario
from provider import Reply, Request, default_answer
from workspace import MODEL, Workspace

from popbuild.model.scores import open_scores

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


def _two_tasks(workspace: Workspace) -> None:
    workspace.seed("first", {"topic": "grid batteries"})
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
    workspace.pipeline(["research", "analysis"])


def _built(workspace: Workspace) -> None:
    _two_tasks(workspace)
    _must(workspace, 0, "run", "first")


def _edited(workspace: Workspace) -> None:
    _built(workspace)
    workspace.seed("first", {"topic": "wind"})


def _measured(workspace: Workspace) -> None:
    """A job whose scores no longer hold, and one that is to be built."""
    _two_tasks(workspace)
    place = "pipeline-config/tasks/research/scores.py"
    source = "def length(output, seed, expected):\n    return len(output['content']) {}\n"
    workspace.write(place, source.format(""))
    _must(workspace, 0, "run", "first")
    workspace.write(place, source.format("/ 10"))
    rule = {"short": {"length": {"max": 100_000}}}
    workspace.task("analysis", task_yaml={"scores": rule})
    workspace.seed("second", {"topic": "wind"})


def _scores_whole(workspace: Workspace) -> Iterator[str]:
    """Scores are whole documents of ours at every moment."""
    for path in workspace.root.glob("pipeline-data/*/[!.]*/tasks/*/scores.json"):
        task = path.parent.name
        if open_scores(json.loads(path.read_bytes()), task) is None:
            yield f"scores that are not whole: {path}"


def _gated(workspace: Workspace) -> None:
    _two_tasks(workspace)
    workspace.task("analysis", schema=SCHEMA, task_yaml={"gate": {"refinements": 1}})


def _rejected(workspace: Workspace) -> None:
    _gated(workspace)
    assert workspace.provider is not None
    workspace.provider.answer = _bad_answer
    _must(workspace, 1, "run", "first")


def _bad_answer(request: Request) -> Reply:
    return Reply('{"title": 3}') if request.schema else default_answer(request)


def _waiting(workspace: Workspace) -> None:
    _two_tasks(workspace)
    workspace.task("research", task_yaml={"gate": {"message": "Is this fit to print?"}})
    _must(workspace, 4, "run", "first")


def _conditioned(workspace: Workspace, first: str, then: str) -> None:
    """`analysis` is built or skipped by the mood of the seed, which has changed since."""
    _two_tasks(workspace)
    workspace.task("analysis", task_yaml={"when": 'seed.data.mood == "loud"'})
    for mood in (first, then):
        workspace.seed("first", {"topic": "grid batteries", "mood": mood})
        if mood == first:
            _must(workspace, 0, "run", "first")


def _to_be_skipped(workspace: Workspace) -> None:
    _conditioned(workspace, "loud", "calm")


def _skipped(workspace: Workspace) -> None:
    _conditioned(workspace, "calm", "loud")


def _artifact_or_reason(workspace: Workspace) -> Iterator[str]:
    """A letter stands for an artifact or for a reason why there is none."""
    for letter in workspace.root.glob("pipeline-data/*/[!.]*/tasks/analysis/letter.json"):
        job = letter.parent.parent.parent
        there = (job / "files/artifacts/analysis-output.json").exists()
        if there == ("skipped" in json.loads(letter.read_bytes())):
            yield f"a letter that is not about what stands there: {letter}"


def _submitted(workspace: Workspace) -> None:
    _two_tasks(workspace)
    (workspace.root / "seeds/first.json").unlink()
    for job in ("one", "two", "three"):
        seed = workspace.write("seed.json", {"name": job, "data": {"topic": f"topic of {job}"}})
        _must(workspace, 0, "submit", "--id", job, str(seed))
        seed.unlink()


def _files(workspace: Workspace) -> None:
    """A job of a seed that names a file, and one that waits with a file of its own."""
    _two_tasks(workspace)
    workspace.write("inputs/q3.md", "# Third quarter\n\nWe sold 40.\n")
    workspace.task("research", prompt="Research: {{ files.report.text }}\n")
    seed = {"name": "first", "files": {"report": "inputs/q3.md"}, "data": {}}
    workspace.write("seeds/first.json", seed)
    _must(workspace, 0, "run", "first")
    _must(workspace, 0, "submit", "seeds/first.json", "--id", "sent")
    workspace.write("inputs/q3.md", "# Third quarter\n\nWe sold 41.\n")


def _items(workspace: Workspace) -> None:
    """A task over three items, of which two have changed since, and one that reads all of them."""
    workspace.task(
        "research",
        prompt="Research: {{ item.topic }}.\n",
        task_yaml={"foreach": "seed.data.topics", "key": "id"},
    )
    each = "{{ artifacts.research.items | map(attribute='output.content') | join }}"
    workspace.task("analysis", prompt=f"Analysis of: {each}\n")
    workspace.pipeline(["research", "analysis"])
    topics = [{"id": name, "topic": f"the {name}"} for name in ("sun", "wind", "rain")]
    workspace.seed("first", {"topics": topics})
    _must(workspace, 0, "run", "first")
    workspace.seed("first", {"topics": [topics[0], *({**e, "topic": "more"} for e in topics[1:])]})


def _over_jobs(workspace: Workspace) -> None:
    """A job over two others, one of which has changed since, and a new one."""
    _two_tasks(workspace)
    workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
    workspace.pipeline(["research"])
    folder = "pipeline-config/pipelines/sum"
    body = {"name": "sum", "version": "1", "tasks": ["combine"]}
    body["taskConfig"] = {"combine": {"model": MODEL}}
    workspace.write(f"{folder}/pipeline.json", body)
    workspace.write(f"{folder}/tasks/index.yaml", "combine: ./combine\n")
    each = "{% for job in jobs.parts %}{{ job.artifacts.research.content }}{% endfor %}"
    workspace.write(f"{folder}/tasks/combine/prompt.md", f"Sum up: {each}\n")
    seed = {"name": "first", "pipeline": "sum", "jobs": {"parts": "part-*"}, "data": {}}
    workspace.write("seeds/first.json", seed)
    for number in (1, 2):
        workspace.seed(f"part-{number}", {"topic": f"topic {number}"})
    _must(workspace, 0, "run", "first")
    workspace.seed("part-2", {"topic": "another topic"})
    workspace.seed("part-3", {"topic": "a third topic"})


def _rows(workspace: Workspace) -> None:
    """A table in which a row that was built has changed, one is odd by now, one is new, and one is
    gone; and a workbook of which a row has changed."""
    _two_tasks(workspace)
    workspace.write("seeds/more.yaml", 'rows: more.xlsx\nid: "{{ row.id }}"\n')
    workspace.write("seeds/more.xlsx", documents.workbook({"S": [["id", "topic"], ["cell", 1]]}))
    (workspace.root / "seeds/first.json").unlink()
    workspace.write("seeds/topics.yaml", 'rows: topics.csv\nid: "{{ row.id }}"\n')
    workspace.write("seeds/topics.csv", "id,topic\nfirst,sun\nodd,rain\ngone,ice\n")
    _must(workspace, 0, "run")
    workspace.write("seeds/topics.csv", "id,topic\nodd,rain,2\nnew,fog\nfirst,wind\n")
    workspace.write("seeds/more.xlsx", documents.workbook({"S": [["id", "topic"], ["cell", 2]]}))


def _with_variant(workspace: Workspace) -> None:
    """A complete job, and a variant of its last task."""
    _built(workspace)
    prompt = "Short: {{ artifacts.research.content }}\n"
    workspace.write("pipeline-config/variants/cheap/tasks/analysis/prompt.md", prompt)


def _variant_built(workspace: Workspace) -> None:
    _with_variant(workspace)
    _must(workspace, 0, "run", "first", "--variant", "cheap")


def _drop_or_list(workspace: Workspace) -> tuple[str, ...]:
    """Once nothing of the variant is left there is nothing to drop."""
    places = ("pipeline-data", ".popbuild", "samples")
    left = any((workspace.root / place / "variants/cheap").exists() for place in places)
    return DROP if left else ("variant", "list")


def _inputs_whole(workspace: Workspace) -> Iterator[str]:
    """A job that has its seed has the files of it, each as it was at one moment."""
    for seed in workspace.root.glob("pipeline-data/*/[!.]*/seed.json"):
        path = seed.parent / "inputs/report.md"
        if not path.is_file() or not path.read_text().endswith((" 40.\n", " 41.\n")):
            yield f"a seed without its file: {seed.parent}"


def _must(workspace: Workspace, code: int, *argv: str) -> None:
    result = workspace.popbuild(*argv, env={"OPENAI_API_KEY": CANARY})
    assert result.code == code, result


def _retry_or_run(workspace: Workspace) -> tuple[str, ...]:
    """A retry that was cut short goes on as a run, as its message says."""
    rejected = workspace.states("first") == ["rejected"]
    return ("retry", "first") if rejected else ("run", "first")


def _watch_or_run(workspace: Workspace) -> tuple[str, ...]:
    """What failed waits for a person, who runs it; an orchestrator goes on with all else."""
    jobs = ("one", "two", "three")
    current = [workspace.job(job, "current") / "tasks-status.json" for job in jobs]
    failed = any('"failed"' in path.read_text() for path in current if path.exists())
    return ("run", *jobs) if failed else WATCH


def _archived(workspace: Workspace) -> None:
    _built(workspace)
    _must(workspace, 0, "archive", "first", "-o", ARCHIVE, "--remove")


def _replaced(workspace: Workspace) -> None:
    """An archive of the last result but one."""
    _built(workspace)
    _must(workspace, 0, "archive", "first", "-o", ARCHIVE)
    workspace.seed("first", {"topic": "wind"})
    _must(workspace, 0, "run", "first")


def _backed_up(workspace: Workspace) -> None:
    _built(workspace)
    _must(workspace, 0, "backup", "-o", ARCHIVE)


def _ailing(workspace: Workspace) -> None:
    """One of each that doctor mends. The letter is a rejected job's: of a complete one nothing
    could be said until it is built again."""
    _gated(workspace)
    workspace.task("analysis", prompt="{{ seed.data.topic }}: {{ artifacts.research.content }}\n")
    workspace.seed("second", {"topic": "bad"})
    assert workspace.provider is not None
    workspace.provider.answer = lambda request: (
        _bad_answer(request) if "bad: " in str(request.messages) else default_answer(request)
    )
    _must(workspace, 0, "run", "first")
    _must(workspace, 1, "run", "second")
    for harm in (harms.tear_runs, harms.tear_ledger, harms.cut_claim, harms.lose_seed):
        harm(workspace)
    harms.add_file(workspace)
    letter = workspace.job("second", "rejected") / "tasks/research/letter.json"
    letter.write_text(letter.read_text().replace('Attempts": 0', 'Attempts": 1'))


def _beside(workspace: Workspace) -> ForeignData:
    """Another program's data beside the root, with jobs that are complete, waiting and failed."""
    _two_tasks(workspace)
    (workspace.root / "seeds/first.json").unlink()
    data = ForeignData(workspace.root.parent / "demo")
    data.job(strays=("notes.txt", "tasks/outline/letter.json"))
    data.job(FAILED, "current", state="failed", strays=())
    data.write("pipeline-data/pending/waits-seed.json", example("seed-market-analysis.json"))
    data.runs()
    return data


def _foreign(workspace: Workspace) -> None:
    """A complete job of another program, whose artifacts are what the tasks write."""
    data = _beside(workspace)
    workspace.task("analysis", task_yaml={"artifact": ARTIFACTS["analysis"]})
    _must(workspace, 0, "import", str(data.path))


def _source_untouched(workspace: Workspace) -> Iterator[str]:
    """An import only reads."""
    data = workspace.root.parent / "demo"
    if len([path for path in data.rglob("*") if path.is_file()]) != SOURCE_FILES:
        yield "the source was changed"


def _original_kept(workspace: Workspace) -> Iterator[str]:
    """Either the other program's letters are still where they were, or they are kept."""
    kept = [workspace.job(JOB), *workspace.root.glob(f".popbuild/originals/{JOB}/0*")]
    said = b'{\n  "task": "research",\n  "at": "2025-10-02"\n}'
    if not any((path / "tasks/research/letter.json").read_bytes() == said for path in kept):
        yield "the other program's letter is gone"


def _either(workspace: Workspace) -> Iterator[str]:
    """A job goes only once its archive is there."""
    if not workspace.states("first") and not (workspace.root / ARCHIVE).exists():
        yield "neither the job nor its archive is there"


def _nothing_deleted(workspace: Workspace) -> Iterator[str]:
    """What doctor moves is still somewhere, byte for byte."""
    there = {path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    for name, data in {"notes": b"x", "added file": b'{\n  "x": 1\n}\n'}.items():
        if data not in there:
            yield f"deleted: {name}"


def _unless_made(name: str, *argv: str) -> Callable[[Workspace], tuple[str, ...]]:
    def again(workspace: Workspace) -> tuple[str, ...]:
        return ("verify",) if (workspace.root / name).exists() else argv

    return again


ARCHIVE = "a.tar.zst"
FAILED = "pl-2025-10-03T06-37-29-980Z-0d57ed"
SOURCE_FILES = 55
DROP = ("variant", "drop", "cheap", "--yes")
WATCH = ("watch", "--once", "--workers", "2", "-n", "4", "--rescan", "0.2")
CACHE_PRUNE = ("cache", "prune", "--older-than", "0h", "--referenced", "--yes")
BACKUP = ("backup", "-o", ARCHIVE)
RESTORE_ROOT = ("restore", ARCHIVE, "--into", "again")

SCENARIOS = (
    Scenario("build", ("run", "first"), _two_tasks),
    Scenario("rebuild", ("run", "first"), _edited, stands=("first",)),
    Scenario(
        "files",
        ("run", "first", "sent", "-n", "1"),
        _files,
        jobs=("first", "sent"),
        stands=("first",),
        holds=_inputs_whole,
    ),
    Scenario(
        "skip",
        ("run", "first"),
        _to_be_skipped,
        stands=("first",),
        holds=_artifact_or_reason,
    ),
    Scenario("skip no more", ("run", "first"), _skipped, holds=_artifact_or_reason),
    Scenario("items", ("run", "first"), _items, stands=("first",)),
    Scenario(
        "over jobs",
        ("run", "first", "-n", "1"),
        _over_jobs,
        jobs=("part-1", "part-2", "part-3", "first"),
        stands=("part-1", "part-2", "first"),
    ),
    Scenario(
        "rows",
        ("run", "-c", "-n", "1"),
        _rows,
        jobs=("first", "new", "odd", "gone", "cell"),
        code=1,  # of the row that is odd
        stands=("first", "odd", "gone", "cell"),
    ),
    Scenario(
        "variants",
        ("run", "first", "--variant", "cheap,base"),
        _with_variant,
        jobs=("first", "cheap/first"),
        stands=("first",),
        variants=("base", "cheap"),
    ),
    Scenario(
        "promote variant",
        ("variant", "promote", "cheap", "--yes"),
        _variant_built,
        jobs=("first", "cheap/first"),
        stands=("first",),
        variants=("base", "cheap"),
    ),
    Scenario(
        "drop variant",
        DROP,
        _variant_built,
        jobs=("first", "cheap/first"),
        stands=("first",),
        again=_drop_or_list,
    ),
    Scenario(
        "scores",
        ("run", "first", "second", "-n", "1"),
        _measured,
        jobs=("first", "second"),
        stands=("first",),
        holds=_scores_whole,
    ),
    Scenario("rejection", ("run", "first"), _gated, code=1, answer=_bad_answer),
    Scenario("retry", ("retry", "first"), _rejected, again=_retry_or_run),
    Scenario("approve", ("approve", "first"), _waiting),
    Scenario("reject", ("reject", "first", "--note", "Too long."), _waiting),
    Scenario("prune", ("prune", "--older-than", "0h", "--yes"), _built),
    Scenario("prune logs", ("prune", "--logs", "--yes"), _built, stands=("first",)),
    Scenario("cache prune", CACHE_PRUNE, _built, stands=("first",), keeps_answers=False),
    Scenario(
        "doctor",
        ("doctor", "--yes"),
        _ailing,
        jobs=("first", "second", "claimed", "lost"),
        stands=("first",),
        holds=_nothing_deleted,
    ),
    Scenario(
        "archive",
        ("archive", "first", "-o", ARCHIVE, "--remove"),
        _built,
        made=ARCHIVE,
        holds=_either,
    ),
    Scenario("restore", ("restore", ARCHIVE), _archived),
    Scenario(
        "restore over",
        ("restore", ARCHIVE, "--force"),
        _replaced,
        stands=("first",),
    ),
    Scenario(
        "backup",
        BACKUP,
        _built,
        stands=("first",),
        made=ARCHIVE,
        again=_unless_made(ARCHIVE, *BACKUP),
    ),
    Scenario(
        "restore root",
        RESTORE_ROOT,
        _backed_up,
        stands=("first",),
        made="again",
        again=_unless_made("again", *RESTORE_ROOT),
    ),
    Scenario(
        "import",
        ("import", "../demo"),
        _beside,
        jobs=(JOB, FAILED),
        holds=_source_untouched,
    ),
    Scenario(
        "accept",
        ("accept", JOB),
        _foreign,
        jobs=(JOB,),
        stands=(JOB,),
        holds=_original_kept,
    ),
    Scenario(
        "orchestrator",
        WATCH,
        _submitted,
        jobs=("one", "two", "three"),
        again=_watch_or_run,
        in_flight=4,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
