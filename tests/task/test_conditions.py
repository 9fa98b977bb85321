"""Conditions: a task whose `when` is false is skipped, by what its expression reads and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
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
        ("artifacts.triag.kind == 1", "a condition reads an artifact that the task does not get"),
        ("seed.data | no_such", "No filter named 'no_such'"),
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
