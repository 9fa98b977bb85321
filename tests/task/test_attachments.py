"""Files that a task sends along: what the provider gets, what is kept, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
from provider import Provider, Reply, default_answer
from workspace import Workspace

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x24\0\0\0WAVEfmt "
PDF = documents.pdf("A page")


@pytest.fixture
def filed(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """`look` sends a photo along, `other` does not."""
    with Workspace(tmp_path, provider) as workspace:
        put(workspace, "site.png", PNG)
        workspace.task("look", prompt="What is this?\n", task_yaml={"attach": ["photo"]})
        workspace.task("other", prompt="{{ seed.name }}\n", task_yaml={"needs": []})
        workspace.pipeline(["look", "other"])
        yield workspace


def put(workspace: Workspace, name: str, data: bytes, key: str = "photo") -> None:
    workspace.write(f"inputs/{name}", data)
    seed = {"name": "first", "files": {key: f"inputs/{name}"}, "data": {}}
    workspace.write("seeds/first.json", seed)


def run(workspace: Workspace, *argv: str, code: int = 0) -> str:
    result = workspace.popbuild(*argv)
    assert result.code == code, result
    return result.out + result.err


def contents(provider: Provider) -> list[Any]:
    return [request.messages[-1]["content"] for request in provider.requests]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        (
            "site.png",
            PNG,
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(PNG).decode()},
            },
        ),
        (
            "plan.pdf",
            PDF,
            {
                "type": "file",
                "file": {
                    "file_data": "data:application/pdf;base64," + base64.b64encode(PDF).decode(),
                    "filename": "photo.pdf",
                },
            },
        ),
    ],
)
def test_what_is_sent_and_what_is_kept(
    filed: Workspace, provider: Provider, name: str, data: bytes, part: dict[str, Any]
) -> None:
    """The provider gets the bytes; on disk they are in the copy of the file alone, everything else
    names them. A second run sends nothing; another picture is another request."""
    put(filed, name, data)
    run(filed, "run", "first")
    text = {"type": "text", "text": "What is this?"}
    assert [text, part] in contents(provider)
    packed = base64.b64encode(data)
    for path in filed.root.rglob("*"):
        assert not path.is_file() or packed not in path.read_bytes(), path
    prompt = json.loads((filed.job("first") / "files/logs/look-prompt-0.json").read_text())
    assert prompt[0]["content"][1]["attached"]["digest"] == digest(data)
    letter = filed.letter("first", "look")["fingerprint"]
    assert "input:photo:/digest" in letter
    assert "attach" in letter
    assert "attach" not in filed.letter("first", "other")["fingerprint"]
    assert not [each.name for each in (filed.job("first") / "inputs").glob("*.extracted.json")]
    run(filed, "run", "first")
    run(filed, "verify")
    assert digest(data) in run(filed, "prompt", "first", "look")
    assert len(provider.requests) == 2
    filed.write(f"inputs/{name}", data + b"\0")
    run(filed, "run", "first")
    assert len(provider.requests) == 3
    filed.write(f"inputs/{name}", data)
    run(filed, "run", "first")
    assert len(provider.requests) == 3


def test_a_model_that_takes_it_by_its_settings(filed: Workspace, provider: Provider) -> None:
    """`accepts` is neither sent nor a dependency, and only needed for models that litellm does not
    know."""
    put(filed, "said.wav", WAV)
    told = "a model is not known to take files of this kind"
    for argv, code in ((("validate",), 1), (("run", "first"), 3), (("run", "first"), 3)):
        said = run(filed, *argv, code=code)
        assert told in said
        assert "accepts: [audio]" in said
    assert provider.requests == []
    assert filed.states("first") == []
    accepting = {"attach": ["photo"], "config": {"accepts": ["audio"]}}
    filed.task("look", task_yaml=accepting)
    run(filed, "validate")
    run(filed, "run", "first")
    (sent,) = [each for each in contents(provider) if isinstance(each, list)]
    audio = {"data": base64.b64encode(WAV).decode(), "format": "wav"}
    assert sent[1] == {"type": "input_audio", "input_audio": audio}
    assert all("accepts" not in request.body for request in provider.requests)
    filed.task("look", task_yaml={**accepting, "config": {"accepts": ["audio", "image"]}})
    run(filed, "run", "first")
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("name", "data", "key", "told"),
    [
        ("site.png", PNG, "picture", "the seed names no file that a task attaches"),
        ("notes.txt", b"a text", "photo", "no model takes files of this kind"),
        ("site.png", b"<html>", "photo", "not image/png, as its name says"),
    ],
)
def test_what_cannot_be_attached(
    filed: Workspace, provider: Provider, name: str, data: bytes, key: str, told: str
) -> None:
    """An error of validate and of run, which names the file and sends nothing at all."""
    put(filed, name, data, key)
    assert run(filed, "validate", code=1).count(told) == 1
    said = run(filed, "run", "first", code=1 if "html" in str(data) else 3)
    assert told in said
    assert provider.requests == []


def test_a_refinement_and_a_fallback_see_it_too(filed: Workspace, provider: Provider) -> None:
    """The picture stays in the conversation; a model asked in another's place must take it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    filed.task("look", schema=schema)
    answers = iter(['{"n": "one"}', '{"n": 1}'])
    provider.answer = lambda request: (
        Reply(next(answers)) if request.schema else default_answer(request)
    )
    run(filed, "run", "first")
    asked = [each.messages for each in provider.requests if each.schema]
    assert [len(each) for each in asked] == [1, 3]
    assert asked[0][0] == asked[1][0]
    assert asked[0][0]["content"][1]["type"] == "image_url"
    fallbacks = {"attach": ["photo"], "config": {"fallbacks": ["openai/gpt-3.5-turbo"]}}
    filed.task("look", task_yaml=fallbacks)
    assert "openai/gpt-3.5-turbo" in run(filed, "validate", code=1)


def test_code_attaches_a_file(filed: Workspace, provider: Provider) -> None:
    """By its part; what is no file of the seed is refused."""
    filed.task(
        "look",
        task_yaml={},
        stages="def prompt_templating(context):\n"
        "    part = context.files['photo'].part\n"
        "    return [{'role': 'user', 'content': [{'type': 'text', 'text': 'This:'}, part]}]\n",
    )
    run(filed, "run", "first")
    (sent,) = [each for each in contents(provider) if isinstance(each, list)]
    assert [part["type"] for part in sent] == ["text", "image_url"]
    assert "input:photo:/digest" in filed.letter("first", "look")["fingerprint"]
    filed.task(
        "look",
        stages="def prompt_templating(context):\n"
        "    part = {'type': 'attached', 'attached': {'digest': 'sha256:0'}}\n"
        "    return [{'role': 'user', 'content': [part]}]\n",
    )
    assert "a message attaches what is no file of the seed" in run(filed, "run", "first", code=2)
    assert len(provider.requests) == 2


def test_a_budget_counts_the_bytes(filed: Workspace, provider: Provider) -> None:
    """A call may cost as much as its file is long: a budget below that sends nothing."""
    put(filed, "site.png", PNG + bytes(3_000_000))
    run(filed, "run", "first:look", "--budget", "0.1", code=6)
    assert provider.requests == []
    run(filed, "run", "first:look", "--budget", "2")
    assert len(provider.requests) == 1
