"""Conditions: a task whose `when` is false is skipped, by what its expression reads and no more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_data import ARTIFACTS, JOB, TASKS, ForeignData
from provider import Provider, Reply, Request
from workspace import Workspace

FAQ = 'artifacts.triage.kind == "faq"'
TRIAGE = {
    "type": "object",
    "required": ["kind", "note"],
    "properties": {"kind": {"type": "string"}, "note": {"type": "string"}},
}
SUMMARY = (
    "Sum up.{% if artifacts.reply is defined %} Reply: {{ artifacts.reply.content }}{% endif %}"
)


@pytest.fixture
def support(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`reply` answers what `triage` calls a FAQ; `summary` is about both. The seed says which kind
    the model gives."""
    provider.answer = answer
    with Workspace(tmp_path, provider) as workspace:
        workspace.seed("first", {"kind": "bug", "note": "a", "text": "It broke."})
        workspace.task("triage", prompt="TRIAGE {{ seed.data | tojson }}", schema=TRIAGE)
        workspace.task("reply", prompt="Reply.", task_yaml={"when": FAQ})
        workspace.task("summary", prompt=SUMMARY)
        workspace.pipeline(["triage", "reply", "summary"])
        yield workspace


def answer(request: Request) -> Reply:
    text = request.said("user")
    if text.startswith("TRIAGE "):
        data = json.loads(text.removeprefix("TRIAGE "))
        return Reply(json.dumps({"kind": data["kind"], "note": data["note"]}))
    return Reply(f"Said: {text}")


def run(workspace: Workspace, *argv: str, code: int = 0) -> str:
    result = workspace.popbuild(*argv)
    assert result.code == code, result
    return result.out + result.err


def asked(provider: Provider, since: int = 0) -> list[str]:
    """What the model was asked, each by its first word."""
    return [each.said("user").split()[0] for each in provider.requests[since:]]


def kind(workspace: Workspace, given: str, note: str = "a") -> None:
    workspace.seed("first", {"kind": given, "note": note, "text": "It broke."})


def test_a_task_is_skipped_where_its_condition_is_false(
    support: Workspace, provider: Provider
) -> None:
    """No call, no artifact; status, letter, log and listings say why; the job is complete, and the
    second run has nothing to do."""
    out = run(support, "run", "first")
    assert asked(provider) == ["TRIAGE", "Sum"]
    reason = f"when {FAQ} is false: artifact:triage:/kind is bug"
    assert f"first:reply  skipped: when {FAQ}" in out
    entry = support.status("first")["tasks"]["reply"]
    assert (entry["state"], entry["skipped"], entry["reason"]) == ("done", True, reason)
    letter = support.letter("first", "reply")
    assert (letter["skipped"], letter["reason"], letter["outputs"]) == (True, reason, {})
    assert letter["fingerprint"].keys() == {"when", "output", "artifact:triage:/kind"}
    folder = support.job("first")
    assert not (folder / "files/artifacts/reply-output.json").exists()
    assert not (folder / "tasks/reply/output.json").exists()
    log = json.loads((folder / "tasks/reply/execution-logs.json").read_bytes())
    assert {each["message"] for each in log} == {f"skipped: {reason}"}
    assert len(log) == 11
    assert support.runs()[-1]["finalArtifacts"] == ["triage", "summary"]
    assert "first  up to date" in run(support, "run", "first")
    assert len(provider.requests) == 2
    assert "skipped: reply" in run(support, "list")
    for argv in (["status", "first"], ["explain", "first"]):
        assert f"skipped: {reason}"[:60] in run(support, *argv)
    run(support, "verify")
    run(support, "validate")


def test_a_change_of_what_it_read_decides_anew(support: Workspace, provider: Provider) -> None:
    """From false to true and back: the task is built, then its files go from the rebuild's copy;
    what the condition did not read decides nothing."""
    run(support, "run", "first")
    kind(support, "bug", note="another")
    before = len(provider.requests)
    run(support, "run", "first")
    assert asked(provider, before) == ["TRIAGE"]
    kind(support, "faq")
    before = len(provider.requests)
    run(support, "run", "first")
    assert asked(provider, before) == ["TRIAGE", "Reply.", "Sum"]
    assert "Reply: Said: Reply." in provider.requests[-1].said("user")
    entry = support.status("first")["tasks"]["reply"]
    assert "skipped" not in entry
    assert entry["files"]["artifacts"] == ["reply-output.json"]
    assert "first  up to date" in run(support, "run", "first")
    run(support, "verify")
    kind(support, "bug")
    run(support, "run", "first")  # from the store
    folder = support.job("first")
    assert support.status("first")["tasks"]["reply"]["files"]["artifacts"] == []
    names = [path.name for path in folder.rglob("*") if path.name.startswith("reply")]
    assert names == ["reply"]  # its folder, with the letter and the log
    out = run(support, "diff", "first")
    assert "reply    skipped (before: from the store)" in out or "reply    skipped" in out
    assert "reply-output.json removed" in out
    assert "first  up to date" in run(support, "run", "first")
    run(support, "verify")


def test_its_prompt_and_its_model_decide_nothing(support: Workspace, provider: Provider) -> None:
    """A skipped task is up to date whatever happens to its files; the expression is what counts."""
    run(support, "run", "first")
    support.task("reply", prompt="Reply at length.")
    support.pipeline(["triage", "reply", "summary"], {"reply": {"temperature": 0.5}})
    assert "first  up to date" in run(support, "run", "first")
    support.task("reply", task_yaml={"when": "seed.data.kind == 'faq'"})
    assert "when changed" in run(support, "explain", "first")
    run(support, "run", "first")
    assert support.letter("first", "reply")["fingerprint"].keys() == {
        "when",
        "output",
        "seed:/data/kind",
    }
    support.write("pipeline-config/tasks/reply/task.yaml", "")
    run(support, "run", "first")
    assert (support.job("first") / "files/artifacts/reply-output.json").exists()


def test_below_a_skipped_task_there_is_no_artifact(support: Workspace, provider: Provider) -> None:
    """Templates, `in`, loops and code see the same; each is a dependency on that absence."""
    support.task(
        "summary",
        prompt="{{ 'reply' in artifacts }} {{ artifacts | list }} {{ artifacts.reply is defined }}"
        " {{ artifacts.get('reply', 'none') }} {{ variables }}",
        stages="def pre_processing(context):\n"
        "    names = list(context.artifacts)\n"
        "    there = 'reply' in context.artifacts\n"
        "    got = context.read('/content', task='reply', default='nothing')\n"
        "    return {'names': names, 'there': there, 'got': got}\n",
    )
    run(support, "run", "first")
    said = "False ['triage'] False none {'names': ['triage'], 'there': False, 'got': 'nothing'}"
    assert provider.requests[-1].said("user") == said
    fingerprint = support.letter("first", "summary")["fingerprint"]
    assert fingerprint["artifact:reply:"] == "absent"
    kind(support, "faq")
    run(support, "run", "first")
    assert "['triage', 'reply'] True" in provider.requests[-1].said("user")
    assert "first  up to date" in run(support, "run", "first")


def test_a_skipped_artifact_that_is_read_all_the_same(support: Workspace) -> None:
    """One located error, which says why there is no artifact."""
    support.task("summary", prompt="{{ artifacts.reply.content }}")
    out = run(support, "run", "first", code=2)
    assert "artifacts.reply is undefined: its task was skipped" in out
    assert "pipeline-config/tasks/summary/prompt.md" in out


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("artifacts.triage.kind ==", "unexpected 'end of the expression'"),
        ("{{ artifacts.triage.kind }}", "stands without braces"),
        ("artifacts.triage.kind 'faq'", "more than one expression"),
        ("artifact.triage.kind", "did you mean: artifacts"),
        ("config.temperature > 1", "known: artifacts, files, seed"),
        ("config.temperature > 1", "does not depend on its settings"),
        ("jobs.all | length > 1", "name: jobs"),
        ("jobs.all | length > 1", "decided before the jobs that its own is over are built"),
        ("artifacts.triag.kind == 1", "a condition reads an artifact that the task does not get"),
        ("seed.data | no_such", "there is no filter 'no_such'"),
    ],
)
def test_validate_finds_a_condition_that_cannot_work(
    support: Workspace, provider: Provider, when: str, found: str
) -> None:
    support.task("reply", task_yaml={"when": when})
    out = run(support, "validate", code=1)
    assert found in out
    assert "pipeline-config/tasks/reply/task.yaml" in out


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("artifacts.triage.sort == 1", "'sort'"),
        ("seed.data.kind > 1", "not supported between"),
        ("artifacts.triage.kind.upper", "is called with ()"),
        ("seed.__class__", "leave the sandbox"),
        ("[1] * 10 ** 9", "too large"),
    ],
)
def test_a_condition_that_fails(
    support: Workspace, provider: Provider, when: str, found: str
) -> None:
    """One error when the task is reached, with the expression and what it read; nothing below is
    bought, and a mended one goes on from there."""
    support.task("reply", task_yaml={"when": when})
    out = run(support, "run", "first", code=2)
    assert found in out
    assert when in out
    assert "pipeline-config/tasks/reply/task.yaml" in out
    assert asked(provider) == ["TRIAGE"]
    support.task("reply", task_yaml={"when": FAQ})
    run(support, "run", "first")
    assert asked(provider) == ["TRIAGE", "Sum"]
    assert "first  up to date" in run(support, "run", "first")


def test_what_a_human_gate_asks_of_a_skipped_task(support: Workspace, provider: Provider) -> None:
    """Nothing: the tasks below go on. Where the task is built, it asks, and waits."""
    gate = {"when": FAQ, "gate": {"message": "Kind enough?"}}
    support.task("reply", task_yaml=gate)
    run(support, "run", "first")
    assert asked(provider) == ["TRIAGE", "Sum"]
    out = run(support, "approve", "first", "--task", "reply", code=3)
    assert "the task was skipped" in out
    kind(support, "faq")
    run(support, "run", "first", code=4)
    assert "waits for a person at reply" in run(support, "plan", "first")
    run(support, "approve", "first")
    run(support, "run", "first")
    assert asked(provider)[2:] == ["TRIAGE", "Reply.", "Sum"]
    kind(support, "bug")
    assert "only the promotion" not in run(support, "plan", "first")
    run(support, "run", "first")
    assert "first  up to date" in run(support, "run", "first")
    run(support, "verify")


def test_a_plan_knows_what_is_skipped(support: Workspace, provider: Provider) -> None:
    """From the seed and from artifacts that stand; otherwise the cost is from nothing. What a run
    then sends is within the plan, and nothing was sent for it."""
    support.task("reply", task_yaml={"when": "seed.data.kind == 'faq'"})
    tasks = planned(support)
    assert tasks["reply"]["basis"].startswith("skipped: when seed.data.kind == 'faq' is false")
    assert tasks["reply"]["calls"] == {"low": 0, "high": 0}
    support.task("reply", task_yaml={"when": FAQ})
    tasks = planned(support)
    assert tasks["reply"]["runs"] == "may"
    assert tasks["reply"]["basis"].endswith(f"; only when {FAQ}")
    assert tasks["reply"]["calls"]["low"] == 0 < tasks["reply"]["calls"]["high"]
    assert not provider.requests
    run(support, "run", "first:triage")
    tasks = planned(support)
    assert tasks["reply"]["basis"].startswith("skipped: ")
    assert tasks["summary"]["basis"] == "input counted, output at most"
    assert tasks["summary"]["runs"] == "will"
    run(support, "run", "first")
    assert planned(support) == {}


def planned(workspace: Workspace) -> dict[str, dict[str, Any]]:
    (job,) = json.loads(run(workspace, "plan", "first", "--json"))["jobs"]
    return {task["task"]: task for task in job["tasks"]}


def test_a_plan_sees_past_a_decision_that_stays(support: Workspace) -> None:
    """The tasks below a skipped one are not planned if it is skipped again."""
    run(support, "run", "first")
    support.task("reply", task_yaml={"when": f"{FAQ} or 1 > 2"})
    assert list(planned(support)) == ["reply"]


def test_prompt_trace_show_and_graph(support: Workspace) -> None:
    """Each command says that there is nothing, and why."""
    run(support, "run", "first")
    why = "artifact:triage:/kind is bug"
    assert why in run(support, "prompt", "first", "reply", code=3)
    run(support, "prompt", "first", "summary")
    assert why in run(support, "trace", "first/reply", code=3)
    out = run(support, "trace", "first/summary")
    assert "reply: no artifact" in out
    assert f"reply is skipped: when {FAQ} is false: {why}" in run(support, "show", "first")
    assert "skipped" in run(support, "graph", "first")
    page = support.root / "page.html"
    run(support, "report", "first", "-o", str(page))
    assert "artifact:triage:/kind is bug" in page.read_text()
    body = json.loads(run(support, "status", "first", "--json"))[0]["tasks"]["reply"]
    assert (body["skipped"], why in body["reason"], body["stale"]) == (True, True, False)


def test_a_frozen_one_stays_skipped(support: Workspace, provider: Provider) -> None:
    run(support, "run", "first")
    run(support, "freeze", "first", "reply")
    kind(support, "faq")
    before = len(provider.requests)
    run(support, "run", "first")
    assert "Reply." not in asked(provider, before)
    assert support.status("first")["tasks"]["reply"]["skipped"]
    assert "frozen, else stale" in run(support, "explain", "first")
    run(support, "thaw", "first", "reply")
    run(support, "run", "first")
    assert "Reply." in asked(provider, before)


def test_an_artifact_that_was_put_in_its_place(support: Workspace) -> None:
    """verify finds it, with and without a seal; run stops at it, and keeps nothing of it unless a
    person removes it or says so."""
    run(support, "run", "first")
    path = support.job("first") / "files/artifacts/reply-output.json"
    path.write_text('{"content": "Mine."}\n')
    seal = support.job("first") / "seal.json"
    assert "reply-output.json" in run(support, "verify", code=1)
    sealed = seal.read_bytes()
    seal.unlink()
    assert "stands there, and reply was skipped" in run(support, "verify", code=1)
    seal.write_bytes(sealed)
    out = run(support, "run", "first", code=1)
    assert "the task was skipped, and has no artifact" in out
    assert path.exists()
    run(support, "accept", "first", code=1)
    run(support, "run", "first", "--keep-edits", code=1)
    run(support, "run", "first", "--discard-edits")
    assert not path.exists()
    run(support, "verify")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/reply/letter.json", "kind is bug", "kind is faq"),
        ("tasks/reply/letter.json", '"skipped": true', '"skipped": false'),
        ("tasks-status.json", '"skipped": true,', ""),
        ("files/artifacts/triage-output.json", "bug", "faq"),
    ],
)
def test_an_altered_decision_is_found(support: Workspace, file: str, old: str, new: str) -> None:
    """With its seal, and without one: by the letter's digest, and by what it read."""
    run(support, "run", "first")
    path = support.job("first") / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert f"first/{file}" in run(support, "verify", code=1)
    (support.job("first") / "seal.json").unlink()
    assert f"first/{file}" in run(support, "verify", code=1)


def test_retry_fresh_and_always(support: Workspace, provider: Provider) -> None:
    """A draw of a skipped task is none: it is decided again, and nothing is sent."""
    run(support, "run", "first")
    before = len(provider.requests)
    run(support, "run", "first", "fresh=reply")
    run(support, "run", "-a", "first")
    assert len(provider.requests) == before
    assert support.status("first")["tasks"]["reply"]["skipped"]


def test_a_command_is_skipped_as_well(support: Workspace, provider: Provider) -> None:
    """And a command below a skipped task gets no artifact of it."""
    support.write(
        "pipeline-config/tasks/index.yaml",
        "triage: ./triage\nreply: {command: [echo, hello]}\n"
        "summary: {command: [python3, -c, 'import json, sys; "
        'print(sorted(json.load(sys.stdin)["artifacts"]))\']}\n',
    )
    run(support, "run", "first")
    assert support.artifact("first", "summary") == {"content": "['triage']"}
    kind(support, "faq")
    run(support, "run", "first")
    assert support.artifact("first", "summary") == {"content": "['reply', 'triage']"}


def test_the_last_task_of_a_job(support: Workspace, provider: Provider) -> None:
    """A pipeline all of whose tasks are skipped is complete, and sends nothing."""
    for task in ("triage", "reply", "summary"):
        support.task(task, task_yaml={"when": "seed.data.kind == 'none'"})
    run(support, "run", "first")
    assert not provider.requests
    assert support.runs()[-1]["finalArtifacts"] == []
    assert "first  up to date" in run(support, "run", "first")
    out = run(support, "export", "first", "out.json", code=3)
    assert "skipped" in out


def test_many_jobs_are_known_by_the_index(support: Workspace, provider: Provider) -> None:
    """Jobs with skipped tasks are not opened again, and listings say which they are."""
    for number in range(3):
        support.seed(f"job-{number}", {"kind": "bug", "note": "a"})
    run(support, "run")
    run(support, "list")  # the index learns them
    before = len(provider.requests)
    for _ in range(2):
        assert run(support, "list").count("skipped: reply") == 4
        assert run(support, "run").count("up to date") == 4
    assert len(provider.requests) == before


def test_a_condition_on_a_skipped_task(support: Workspace, provider: Provider) -> None:
    """Absence is a value too: a task for where another one was left out."""
    support.task("summary", task_yaml={"when": "artifacts.reply is not defined"})
    run(support, "run", "first")
    assert asked(provider) == ["TRIAGE", "Sum"]
    kind(support, "faq")
    run(support, "run", "first")
    assert asked(provider)[2:] == ["TRIAGE", "Reply."]
    reason = support.status("first")["tasks"]["summary"]["reason"]
    assert reason == "when artifacts.reply is not defined is false"
    assert "first  up to date" in run(support, "run", "first")


def test_keys_are_masked_in_a_reason(support: Workspace) -> None:
    """A reason stands in a letter, where no key may be."""
    key = "sk-canary-7f3a91c5d2e84b06"
    kind(support, "bug", note=f"use {key}")
    support.task("triage", prompt='TRIAGE {"kind": "bug", "note": "a"}')
    support.task("reply", task_yaml={"when": "seed.data.note == 'x'"})
    result = support.popbuild("run", "first", env={"OTHER_API_KEY": key})
    assert result.code == 0, result
    assert key not in (support.job("first") / "tasks/reply/letter.json").read_text()
    assert key not in (support.job("first") / "tasks/reply/execution-logs.json").read_text()


def test_an_orchestrator_skips(support: Workspace, provider: Provider) -> None:
    run(support, "submit", "seeds/first.json", "--id", "sent")
    run(support, "watch", "--once")
    assert asked(provider) == ["TRIAGE", "Sum"]
    assert support.status("sent")["tasks"]["reply"]["skipped"]


def test_a_file_of_the_seed_decides(support: Workspace, provider: Provider) -> None:
    """That a seed names a file, and what it says; in prompts that it does is a dependency too."""
    when = "files.report is defined"
    support.task("reply", task_yaml={"needs": [], "when": when}, prompt="Reply.")
    support.task(
        "summary",
        prompt="Sum up{% if files.report is defined %} with a report{% endif %}.",
        task_yaml={"needs": []},
    )
    seed = {"name": "first", "data": {"kind": "bug", "note": "a"}}
    support.write("inputs/q3.md", "We sold 40.\n")
    named = {**seed, "files": {"report": "inputs/q3.md"}}
    support.write("seeds/first.json", named)
    run(support, "run", "first")
    assert "Sum up with a report." in [each.said("user") for each in provider.requests]
    assert "skipped" not in support.status("first")["tasks"]["reply"]
    support.write("inputs/q3.md", "We sold 41.\n")
    assert "first  up to date" in run(support, "run", "first")  # neither read what it says
    support.write("seeds/first.json", seed)
    run(support, "run", "first")
    assert support.status("first")["tasks"]["reply"]["skipped"]
    assert provider.requests[-1].said("user") == "Sum up."
    support.write("seeds/first.json", {**named, "files": {"other": "inputs/q3.md"}})
    run(support, "run", "first")
    assert support.status("first")["tasks"]["reply"]["skipped"]
    support.task("reply", task_yaml={"needs": [], "when": "'41' in files.other.text"})
    run(support, "run", "first")
    support.write("inputs/q3.md", "We sold 42.\n")
    run(support, "run", "first")
    reason = support.status("first")["tasks"]["reply"]["reason"]
    assert (
        reason == "when '41' in files.other.text is false: input:other:/text is \"We sold 42.\\n\""
    )


@pytest.mark.parametrize(
    "when", ["seed.data.tags | select('eq', 'x')", "seed.data.tags | map('upper')", "range"]
)
def test_a_condition_without_a_value(support: Workspace, when: str) -> None:
    """A filter that gives its items one by one is true whatever it has: refused."""
    support.seed("first", {"kind": "bug", "note": "a", "tags": []})
    support.task("reply", task_yaml={"when": when})
    out = run(support, "run", "first", code=2)
    assert "has no value of its own" in out or "gives a function" in out
    support.task("reply", task_yaml={"when": f"({when}) | list" if "|" in when else "range(0)"})
    run(support, "run", "first")
    assert support.status("first")["tasks"]["reply"]["skipped"]


def test_a_job_that_another_program_built(workspace: Workspace, tmp_path: Path) -> None:
    """What it made is adopted, and a run decides about the task that made nothing: no call."""
    for task in TASKS:
        prompt = f"{task}: {{{{ seed.data.topic }}}}\n"
        workspace.task(task, prompt=prompt, task_yaml={"artifact": ARTIFACTS[task]})
    last = {"artifact": ARTIFACTS["formatting"], "when": "seed.data.topic == 'none'"}
    workspace.task("formatting", task_yaml=last)
    workspace.pipeline(TASKS)
    (workspace.root / "seeds/first.json").unlink()
    ForeignData(tmp_path / "demo").job()
    shutil.copytree(tmp_path / f"demo/pipeline-data/complete/{JOB}", workspace.job(JOB))
    for name in (f"files/artifacts/{ARTIFACTS['formatting']}", "tasks/formatting/output.json"):
        (workspace.job(JOB) / name).unlink()
    assert "is missing" in run(workspace, "accept", JOB, code=1)
    run(workspace, "accept", JOB, *TASKS[:-1])
    run(workspace, "run", JOB)
    assert workspace.provider is not None
    assert not workspace.provider.requests
    assert workspace.status(JOB)["tasks"]["formatting"]["skipped"]
    assert "up to date" in run(workspace, "run", JOB)
    run(workspace, "verify")


def test_an_archive_has_the_reason(support: Workspace, provider: Provider) -> None:
    """A job with a skipped task comes back from an archive up to date."""
    run(support, "run", "first")
    run(support, "archive", "first", "-o", "job.tar.zst", "--remove")
    run(support, "restore", "job.tar.zst")
    assert "first  up to date" in run(support, "run", "first")
    run(support, "verify")
    assert len(provider.requests) == 2


@pytest.mark.slow
def test_a_cluster_skips_by_a_test_of_ones_own(support: Workspace, provider: Provider) -> None:
    """Workers have filters.py, and their skipped tasks are shown as they are skipped."""
    code = 'def is_faq(found):\n    return found["kind"] == "faq"\n'
    support.write("pipeline-config/filters.py", code)
    support.task("reply", task_yaml={"when": "artifacts.triage is faq"})
    support.seed("second", {"kind": "faq", "note": "a"})
    out = run(support, "run", "--dask", "local")
    assert "first:reply  skipped: when artifacts.triage is faq is false" in out
    assert asked(provider).count("Reply.") == 1
    assert support.status("first")["tasks"]["reply"]["skipped"]
    assert "skipped" not in support.status("second")["tasks"]["reply"]
    assert run(support, "run").count("up to date") == 2


ROWS = [{"id": "a", "stars": 5, "text": "Good."}, {"id": "b", "stars": 1, "text": "Bad."}]


@pytest.fixture
def reviews(support: Workspace) -> Workspace:
    """`triage` runs for each row of the seed, and `summary` loops over what it made."""
    rows(support, *ROWS)
    support.write("pipeline-config/tasks/triage/output.schema.json", {"type": "object"})
    (support.root / "pipeline-config/tasks/triage/output.schema.json").unlink()
    support.task(
        "triage",
        prompt="Row {{ item.text }}",
        task_yaml={"foreach": "seed.data.rows", "key": "id", "when": "item.stars < 4"},
    )
    support.task(
        "summary",
        prompt="Sum{% for each in artifacts.triage.items %} {{ each.output.content }}{% endfor %}",
        task_yaml={"needs": ["triage"]},
    )
    support.pipeline(["triage", "summary"])
    return support


def rows(workspace: Workspace, *given: dict[str, Any], **more: Any) -> None:
    workspace.seed("first", {"rows": list(given), **more})


def said(provider: Provider, since: int = 0) -> list[str]:
    return sorted(each.said("user") for each in provider.requests[since:])


def test_a_condition_about_an_item_filters(reviews: Workspace, provider: Provider) -> None:
    """Items of which it is false are left out of the artifact and cost nothing, with a receipt that
    says why; one that comes to hold runs alone."""
    (task,) = [each for each in planned(reviews).values() if each["task"] == "triage"]
    assert task["calls"]["low"] == 1
    run(reviews, "run", "first")
    assert said(provider) == ["Row Bad.", "Sum Said: Row Bad."]
    assert [each["key"] for each in reviews.artifact("first", "triage")["items"]] == ["b"]
    path = reviews.job("first") / "tasks/triage/items.jsonl"
    (skipped,) = [
        each for each in map(json.loads, path.read_text().splitlines()) if "skipped" in each
    ]
    assert skipped["reason"] == "when item.stars < 4 is false: item:/stars is 5"
    assert skipped["item"].keys() == {"item:/stars"}
    assert "first  up to date" in run(reviews, "run", "first")
    run(reviews, "verify")
    run(reviews, "validate")
    run(reviews, "report", "first", "-o", "page.html")
    assert "when item.stars &lt; 4 is false" in (reviews.root / "page.html").read_text()
    before = len(provider.requests)
    rows(reviews, {**ROWS[0], "text": "Great."}, ROWS[1])
    run(reviews, "run", "first")
    assert said(provider, before) == []  # a skipped one does not depend on its text
    rows(reviews, {**ROWS[0], "stars": 3}, ROWS[1])
    run(reviews, "run", "first")
    assert said(provider, before) == ["Row Good.", "Sum Said: Row Good. Said: Row Bad."]
    rows(reviews, *({**each, "stars": 5} for each in ROWS))
    before = len(provider.requests)
    run(reviews, "run", "first")
    assert said(provider, before) == ["Sum"]
    assert reviews.artifact("first", "triage") == {"failed": [], "items": []}
    assert "first  up to date" in run(reviews, "run", "first")


def test_the_prompt_of_an_item_that_is_left_out(reviews: Workspace, provider: Provider) -> None:
    assert "item:/stars is 5" in run(reviews, "prompt", "first", "triage", "--item", "a", code=3)
    assert "Row Bad." in run(reviews, "prompt", "first", "triage")
    run(reviews, "run", "first")
    reviews.task("triage", prompt="Review {{ item.text }}")
    out = run(reviews, "explain", "first", "triage")
    assert "1 of 2 items to run" in out  # the skipped one is not about its prompt
    run(reviews, "run", "first")
    assert "Review Bad." in said(provider)


def test_a_condition_about_all_items(reviews: Workspace, provider: Provider) -> None:
    """One that names no item is asked once, and skips the task."""
    triage = {"foreach": "seed.data.rows", "key": "id", "when": "seed.data.on is defined"}
    reviews.task("triage", task_yaml=triage)
    reviews.task("summary", prompt="Sum {{ artifacts | list }}")
    run(reviews, "run", "first")
    assert said(provider) == ["Sum []"]
    assert reviews.status("first")["tasks"]["triage"]["skipped"]
    rows(reviews, *ROWS, on=1)
    run(reviews, "run", "first")
    assert said(provider, 1) == ["Row Bad.", "Row Good.", "Sum ['triage']"]
    rows(reviews, *ROWS)
    run(reviews, "run", "first")
    assert not (reviews.job("first") / "tasks/triage/items.jsonl").exists()
    assert "first  up to date" in run(reviews, "run", "first")
    run(reviews, "verify")


def test_a_condition_that_fails_for_an_item(reviews: Workspace, provider: Provider) -> None:
    """The error names the item, and what was read of it."""
    rows(reviews, ROWS[1], {"id": "c", "text": "No stars."})
    out = run(reviews, "run", "first", code=2)
    assert "'stars'" in out
    assert "item" in out
    assert "c" in out
    reviews.task("triage", task_yaml={"foreach": "seed.data.rows", "when": "itm.stars < 4"})
    assert "did you mean: item" in run(reviews, "validate", code=1)


def test_a_place_in_the_list(reviews: Workspace, provider: Provider) -> None:
    """`position` is a dependency of the decision where it is asked for."""
    triage = {"foreach": "seed.data.rows", "key": "id", "when": "position == 0"}
    reviews.task("triage", task_yaml=triage)
    run(reviews, "run", "first")
    assert said(provider) == ["Row Good.", "Sum Said: Row Good."]
    rows(reviews, *reversed(ROWS))
    run(reviews, "run", "first")
    assert said(provider, 2) == ["Row Bad.", "Sum Said: Row Bad."]
