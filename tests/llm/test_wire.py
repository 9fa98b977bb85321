"""An answer has a size: what is larger is not read to its end, compressed or not."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import forms
import pytest
from patience import PATIENCE_S
from provider import Provider, Reply, fail
from workspace import Workspace

MB = 2**20
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
START = b'{"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "'
ONCE = {"POPBUILD_TRIES": "3", "POPBUILD_BACKOFF_S": "0"}


@contextmanager
def endless(size: int, head: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server whose answers go on for so many bytes; gives its address, and what it sent in each
    answer before the client hung up."""
    listener = socket.create_server(("127.0.0.1", 0))
    sent: list[int] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                sent.append(0)
                try:
                    connection.sendall(head + b"\r\n" + START)
                    while sent[-1] < size:
                        sent[-1] += connection.send(b"x" * MB)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", sent
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


# A run, and how much more memory it took at its peak than it had when litellm was loaded.
MEASURED = """
import re, sys
from pathlib import Path
import popbuild.llm.client
from popbuild.cli.main import main

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
code = main(["run"])
print("took", peak() - before)
sys.exit(code)
"""


@pytest.mark.parametrize("head", [HEAD, HEAD + b"content-length: 734003200\r\n"])
def test_an_answer_that_is_too_large_is_not_read(head: bytes, workspace: Workspace) -> None:
    """Of 700 MB some 32 are read, or none where the size is told before; it is not asked again,
    and no more memory is taken than the limit says."""
    with endless(700 * MB, head) as (address, sent):
        env = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "x", **ONCE}
        result = workspace.run("python", "-c", MEASURED, env=env, real=True)
    assert result.code == 2
    assert int(result.out.rpartition("took ")[2]) < 150 * MB  # above litellm, which is loaded first
    assert "the provider's answer is too large" in result.err
    assert "32 MB" in result.err
    assert "POPBUILD_MAX_ANSWER_MB" in result.err
    assert len(sent) == 1
    assert sent[0] < (50 if head is HEAD else 10) * MB
    assert workspace.states("first") == ["current"]


def test_the_limit_is_a_setting(workspace: Workspace, provider: Provider) -> None:
    provider.answer = lambda _: Reply("word " * 100_000)
    said = workspace.popbuild("run", env={**ONCE, "POPBUILD_MAX_ANSWER_MB": "0.4"})
    assert said.code == 2
    assert "0.4 MB" in said.err
    assert len(provider.requests) == 1
    for _ in range(2):
        assert workspace.popbuild("run", env={"POPBUILD_MAX_ANSWER_MB": "0.6"}).code == 0
    assert len(provider.requests) == 3  # research once more, and analysis
    said = workspace.popbuild("run", "-a", env={"POPBUILD_MAX_ANSWER_MB": "much"})
    assert said.code == 3
    assert "POPBUILD_MAX_ANSWER_MB" in said.err


def test_a_compressed_answer_is_bounded_too(workspace: Workspace, provider: Provider) -> None:
    """A megabyte that unpacks to a gigabyte, from a provider that was asked for no compression."""
    bomb = gzip.compress(START + b"x" * (200 * MB), 9)
    provider.answer = lambda _: Reply(body=bomb, headers={"content-encoding": "gzip"})
    result = workspace.popbuild("run", env=ONCE)
    assert result.code == 2
    assert "the provider's answer is too large" in result.err
    (request,) = provider.requests
    assert request.headers["accept-encoding"] == "identity"


def test_no_setting_of_litellm_goes_round_it(workspace: Workspace, provider: Provider) -> None:
    """Its other transports are made where their answers could not be seen."""
    provider.answer = lambda _: forms.reply(forms.chat("wibble"))
    env = {"DISABLE_AIOHTTP_TRANSPORT": "True", "LITELLM_HTTP2": "True"}
    for _ in range(2):
        assert workspace.popbuild("run", env=env).code == 0
    assert "wibble" in workspace.letter("first", "research")["warnings"][0]
    assert len(provider.requests) == 2


def test_a_used_up_quota_is_asked_once(workspace: Workspace, provider: Provider) -> None:
    """By a command of twenty jobs: each fails with the provider's words, and the next command asks
    again."""
    for number in range(19):
        workspace.seed(f"job-{number}", {"topic": str(number)})
    provider.answer = lambda _: fail(429, text="You exceeded your current quota.")
    for times in (1, 2):
        result = workspace.popbuild("run", "-c", "-n", "1")
        assert result.code == 2
        assert result.err.count("the provider's quota is used up") >= 20
        assert len(provider.requests) == times
