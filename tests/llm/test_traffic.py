"""Limits as a provider counts them: real commands, alone and several at once, and a provider that
refuses, fails, and goes away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Running
from patience import PATIENCE_S
from provider import Provider, Reply, Request, default_answer, fail
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.llm.admission import Traffic
from popbuild.llm.lanes import ANSWERED
from popbuild.llm.notices import Notices
from popbuild.llm.patience import Patience
from popbuild.llm.request import Request as CallRequest
from popbuild.model.pipeline import Limit

QUICK = {"POPBUILD_BACKOFF_S": "0.02"}
MINUTE_S = 4.0
MINUTE = {"POPBUILD_MINUTE_S": f"{MINUTE_S:g}"}


def jobs(workspace: Workspace, count: int, first: str = "job", **more: Any) -> list[str]:
    """So many jobs of the one task `research`, each with a request of its own."""
    names = [f"{first}-{number:02}" for number in range(count)]
    for name in names:
        workspace.seed(name, {"topic": f"the topic of {name}"})
    workspace.pipeline(["research"], **more)
    return names


def slow(delay_s: float) -> Callable[[Request], Reply]:
    return lambda request: Reply(default_answer(request).text, delay_s=delay_s)


def ledger(workspace: Workspace) -> Counter[str]:
    lines = (workspace.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["event"] for line in lines)


def state_file(workspace: Workspace) -> Path:
    (path,) = (workspace.root / ".popbuild/limits").iterdir()
    return path


def answered(provider: Provider) -> int:
    """Requests that were answered with a completion, as the provider counts."""
    return len({request.digest for request in provider.requests})


def all_complete(workspace: Workspace, names: list[str], *running: Running) -> str:
    """Wait for the commands; every job must be complete, and once. A further run makes no call.
    Gives what was said."""
    said = ""
    for each in running:
        result = each.wait()
        assert result.code == 0, result.out + result.err
        said += result.out
    assert sorted(each["id"] for each in workspace.runs()) == sorted(names)
    provider = workspace.provider
    assert provider is not None
    before = len(provider.requests)
    assert ledger(workspace)["reserved"] == before
    assert ledger(workspace)["settled"] == len(names)
    assert workspace.popbuild("run", *names).code == 0
    assert len(provider.requests) == before
    return said


# --- what is configured ---


@pytest.mark.parametrize("key", ["openai", "openai/gpt-4o-mini", "gpt-4o-mini"])
def test_calls_in_flight_of_two_processes(
    key: str, workspace: Workspace, provider: Provider
) -> None:
    """Of a provider or a model, by either of its names: three at a time, whatever `-n` says."""
    names = jobs(workspace, 16, limits={key: {"inFlight": 3}})
    provider.answer = slow(0.1)
    running = [workspace.start("popbuild", "run", "-n", "8", *half) for half in _halves(names)]
    all_complete(workspace, names, *running)
    assert provider.peak_in_flight == 3
    assert len(provider.requests) == 16


def _halves(names: list[str]) -> tuple[list[str], list[str]]:
    return names[::2], names[1::2]


def test_requests_a_minute_of_two_processes(workspace: Workspace, provider: Provider) -> None:
    """Within no minute do more requests arrive than are allowed, and nearly as many do."""
    names = jobs(workspace, 24, limits={"openai": {"requestsPerMinute": 10}})
    running = [workspace.start("popbuild", "run", *half, env=MINUTE) for half in _halves(names)]
    all_complete(workspace, names, *running)
    assert provider.most_within(MINUTE_S) == 10
    assert len(provider.requests) == 24


def test_tokens_a_minute(workspace: Workspace, provider: Provider) -> None:
    """A call counts with its maxTokens until its answer tells: what the provider counted stays
    below the limit, and far more calls are made than their maxTokens would allow."""
    names = jobs(
        workspace,
        12,
        task_config={"research": {"maxTokens": 400}},
        limits={"openai/gpt-4o-mini": {"tokensPerMinute": 1000}},
    )
    provider.answer = lambda request: Reply("Prose.", prompt_tokens=40, completion_tokens=110)
    all_complete(workspace, names, workspace.start("popbuild", "run", *names, env=MINUTE))
    assert 3 <= provider.most_within(MINUTE_S) <= 1000 // 150
    assert provider.peak_in_flight <= 2


def test_limits_are_no_dependency(workspace: Workspace, provider: Provider) -> None:
    jobs(workspace, 1)
    assert workspace.popbuild("run", "job-00").code == 0
    jobs(workspace, 1, limits={"openai": {"inFlight": 1}})
    assert "up to date" in workspace.popbuild("run", "job-00").out
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"openai": {"inflight": 3}}, "/limits/openai"),
        ({"openai": {"inFlight": 0}}, "/limits/openai/inFlight"),
        ({"openai": {"requestsPerMinute": 1.5}}, "/limits/openai/requestsPerMinute"),
        ({"openai": {"tokensPerMinute": "many"}}, "/limits/openai/tokensPerMinute"),
        ({"openai": {}}, "/limits/openai"),
        ({"": {"inFlight": 3}}, "/limits"),
        ([], "/limits"),
    ],
)
def test_a_wrong_limit_is_one_error_that_names_its_place(
    limits: Any, said: str, workspace: Workspace, provider: Provider
) -> None:
    jobs(workspace, 1, limits=limits)
    result = workspace.popbuild("run", "job-00")
    assert result.code == 3
    assert "pipeline-config/pipeline.json" in result.err
    assert said in result.err
    assert provider.requests == []


# --- a provider that refuses ---


def limiting(most: int, window_s: float, retry_after: float | None) -> Callable[[Request], Reply]:
    """A provider that answers so many requests in a time, and the others with 429."""
    accepted: list[float] = []

    def answer(request: Request) -> Reply:
        if sum(request.at - each < window_s for each in accepted) >= most:
            return fail(429, retry_after=retry_after)
        accepted.append(request.at)
        return Reply(default_answer(request).text, delay_s=0.05)

    return answer


@pytest.mark.parametrize("retry_after", [None, 0.4])
def test_a_storm_of_refusals(
    retry_after: float | None, workspace: Workspace, provider: Provider
) -> None:
    """Of two processes with 16 calls each, a provider takes 8 requests in 0.4 s: everything
    completes, no refusal is a failed try, and few requests are made in vain."""
    names = jobs(workspace, 40)
    provider.answer = limiting(8, 0.4, retry_after)
    env = QUICK | {"POPBUILD_TRIES": "1"}
    running = [
        workspace.start("popbuild", "run", "-n", "16", *half, env=env) for half in _halves(names)
    ]
    said = all_complete(workspace, names, *running)
    assert "rate limit is reached: trying again in" in said
    released = ledger(workspace)["released"]
    assert len(provider.requests) == 40 + released
    # Without a Retry-After the end of each 0.4 s has to be felt for, in five steps from 0.02 s.
    assert 1 <= released < (60 if retry_after is None else 40)


def test_retry_after_holds_for_the_whole_model(workspace: Workspace, provider: Provider) -> None:
    """Of eight that are under way one is refused: until its time is over, nothing is sent to that
    model, and then the one that was refused is sent first."""
    names = jobs(workspace, 30)
    provider.script([fail(429, retry_after=3)])
    provider.answer = slow(0.3)
    running = [
        workspace.start("popbuild", "run", "-n", "8", *half, env=QUICK) for half in _halves(names)
    ]
    all_complete(workspace, names, *running)
    first, *rest = provider.requests
    early = [each for each in rest if each.at < first.at + 3]
    # What was under way when the refusal came; two start, the slower one a little later.
    assert len(early) <= 15
    assert all(each.at < first.at + 1.5 for each in early)
    assert len(provider.requests) == 31
    assert ledger(workspace)["released"] == 1


def test_refusals_without_end(workspace: Workspace, provider: Provider) -> None:
    """Patience has an end, and the error says how long it was; nothing was spent."""
    jobs(workspace, 1)
    provider.answer = lambda request: fail(429)
    result = workspace.popbuild(
        "run", "job-00", env=QUICK | {"POPBUILD_TRIES": "1", "POPBUILD_PATIENCE_S": "1"}
    )
    assert result.code == 2
    assert "the provider's rate limit is reached" in result.err
    assert "waited" in result.err
    assert "POPBUILD_PATIENCE_S" in result.err
    assert len(provider.requests) > 2
    assert ledger(workspace) == {
        "reserved": len(provider.requests),
        "released": len(provider.requests),
    }
    provider.answer = default_answer
    assert workspace.popbuild("run", "job-00").code == 0


def test_who_is_told_to_come_back_tomorrow_asks_no_more(
    workspace: Workspace, provider: Provider
) -> None:
    """Every job of this command fails with it, after the calls that were under way; the next
    command may ask again."""
    names = jobs(workspace, 30)
    provider.answer = lambda request: fail(429, retry_after=86400)
    result = workspace.popbuild("run", "-c", *names, env=QUICK)
    assert result.code == 2
    assert result.err.count("86400 s") == 30
    assert 1 <= len(provider.requests) <= 8
    provider.answer = default_answer
    assert workspace.popbuild("run", *names).code == 0
    assert len(workspace.runs()) == 30


# --- a provider that fails ---


@pytest.mark.slow
def test_a_provider_that_is_down_for_a_while(workspace: Workspace, provider: Provider) -> None:
    """It refuses connections: tasks of both processes wait, whatever the number of tries, it is
    said once, and everything completes."""
    names = jobs(workspace, 40)
    provider.answer = slow(0.05)
    down = threading.Event()

    def go_down(_: Request) -> None:
        down.set()

    provider.at(10, go_down)
    env = QUICK | {"POPBUILD_TRIES": "8"}
    running = [
        workspace.start("popbuild", "run", "-n", "8", *half, env=env) for half in _halves(names)
    ]
    assert down.wait(PATIENCE_S)
    provider.go_down()
    for each in running:
        each.wait_for("openai is down")
    time.sleep(3)  # far longer than eight tries take
    assert len(workspace.runs()) < 40
    provider.come_back()
    results = [each.wait() for each in running]
    assert [each.code for each in results] == [0, 0], results
    for each in results:
        assert each.out.count("openai is down") == 1
    assert len(workspace.runs()) == 40
    before = len(provider.requests)
    assert workspace.popbuild("run", *names).code == 0
    assert len(provider.requests) == before
    assert ledger(workspace)["settled"] == 40


def test_few_ask_while_a_provider_is_down(workspace: Workspace, provider: Provider) -> None:
    """With 503 for two seconds, 30 jobs of two processes make a few requests, not hundreds."""
    names = jobs(workspace, 30)
    starts: list[float] = []

    def answer(request: Request) -> Reply:
        starts.append(request.at)
        return fail(503) if request.at < starts[0] + 2 else default_answer(request)

    provider.answer = answer
    env = QUICK | {"POPBUILD_TRIES": "3"}
    running = [
        workspace.start("popbuild", "run", "-n", "15", *half, env=env) for half in _halves(names)
    ]
    all_complete(workspace, names, *running)
    # Those under way when it went down, once more where an answer came late, and those that tried.
    assert len(provider.requests) - 30 < 60


def test_a_provider_that_stays_down(workspace: Workspace, provider: Provider) -> None:
    """Patience has an end: the jobs fail, and say why. The next command goes on."""
    names = jobs(workspace, 8)
    provider.answer = lambda request: fail(503)
    env = QUICK | {"POPBUILD_PATIENCE_S": "0.5"}
    result = workspace.popbuild("run", "-c", *names, env=env)
    assert result.code == 2
    assert result.err.count("error: the provider") == 8
    assert "the provider is down" in result.err
    assert "waited" in result.err
    assert [workspace.states(name) for name in names] == [["current"]] * 8
    provider.answer = default_answer
    assert workspace.popbuild("run", *names, env=QUICK).code == 0
    assert len(workspace.runs()) == 8
    assert ledger(workspace)["reserved"] == len(provider.requests)


def test_every_third_call_fails(workspace: Workspace, provider: Provider) -> None:
    """A provider that answers 500 to every third request is not down: no call pauses for it, and
    everything completes."""
    names = jobs(workspace, 40)

    def answer(request: Request) -> Reply:
        return default_answer(request) if request.number % 3 else fail(500)

    provider.answer = answer
    running = [
        workspace.start("popbuild", "run", *half, env=QUICK | {"POPBUILD_TRIES": "20"})
        for half in _halves(names)
    ]
    said = all_complete(workspace, names, *running)
    assert "is down" not in said
    assert len(provider.requests) == 40 + len(provider.requests) // 3


# --- processes ---


def test_a_killed_process_leaves_its_places_free(workspace: Workspace, provider: Provider) -> None:
    """Two processes share four calls in flight; after `kill -9` of one, the other has all four."""
    names = jobs(workspace, 12, limits={"openai": {"inFlight": 4}})
    provider.hold()
    one, other = (
        workspace.start("popbuild", "run", "-n", "8", *half, real=True) for half in _halves(names)
    )
    provider.wait_for(4)
    half = {f"the topic of {name}" for name in names[::2]}
    of_one = sum(
        any(each in request.said("user") for each in half) for request in provider.requests
    )
    one.kill()
    provider.wait_for(4 + of_one)
    provider.release()
    assert other.wait().code == 0
    assert workspace.popbuild("run", *names).code == 0
    assert len(workspace.runs()) == 12
    assert len(provider.requests) == 12 + of_one


@pytest.mark.parametrize("content", [b"", b'{"version":1,"at":', b"\0" * 4096, None])
def test_a_state_that_is_torn_or_gone_is_a_modest_start(
    content: bytes | None, workspace: Workspace, provider: Provider
) -> None:
    """Also while a command uses it: nothing fails, and the limits hold from then on."""
    names = jobs(workspace, 12, limits={"openai": {"inFlight": 3}})
    provider.answer = slow(0.05)

    def harm(_: Request) -> None:
        if content is None:
            state_file(workspace).unlink()
        else:
            state_file(workspace).write_bytes(content)

    provider.at(4, harm)
    all_complete(workspace, names, workspace.start("popbuild", "run", *names))
    assert provider.peak_in_flight <= 3 + 3


def submitted(workspace: Workspace, names: list[str]) -> None:
    """Put seeds into pending/, as another program would."""
    for name in names:
        seed = {"name": name, "data": {"topic": f"the topic of {name}"}}
        workspace.write(f"pipeline-data/pending/{name}-seed.json", seed)
    (workspace.root / "seeds/first.json").unlink()


def test_workers_of_an_orchestrator_share_limits(workspace: Workspace, provider: Provider) -> None:
    names = [f"job-{number}" for number in range(12)]
    workspace.pipeline(["research"], limits={"openai": {"inFlight": 3}})
    submitted(workspace, names)
    provider.answer = slow(0.1)
    result = workspace.popbuild("watch", "--once", "--workers", "2", "-n", "12")
    assert result.code == 0, result.out + result.err
    assert sorted(each["id"] for each in workspace.runs()) == sorted(names)
    assert provider.peak_in_flight == 3
    assert len(provider.requests) == 12


def test_an_orchestrator_that_ends_waits_for_no_limit(
    workspace: Workspace, provider: Provider
) -> None:
    """Told to come back in four minutes, and then to end: what waits to be sent is left, and goes
    on with the next start."""
    workspace.pipeline(["research"])
    submitted(workspace, ["one", "two"])
    provider.answer = lambda request: fail(429, retry_after=240)
    with workspace.start("popbuild", "watch", "--workers", "1") as orchestrator:
        orchestrator.wait_for("trying again in 240.0 s")
        orchestrator.terminate()
        assert orchestrator.wait().code == 0
    assert 1 <= len(provider.requests) <= 2
    assert workspace.status("one", "current")["state"] == "running"
    state_file(workspace).unlink()
    provider.answer = default_answer
    assert workspace.popbuild("watch", "--once").code == 0
    assert sorted(each["id"] for each in workspace.runs()) == ["one", "two"]


def traffic(root: Path, **limits: Limit) -> tuple[Traffic, list[float]]:
    """The traffic of this process, and a list that grows whenever it looks at the clock."""
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    patience = Patience(in_flight=2000)
    return Traffic(Root(root), patience, limits, Notices(), lambda a, b: b, clock), looks


def ask(number: int) -> CallRequest:
    return CallRequest("openai/small", ({"role": "user", "content": f"{number}"},), {})


def test_a_thousand_that_wait_are_sent_in_order_and_cost_nothing(tmp_path: Path) -> None:
    """First come, first served; while no call can be sent, none looks. One that is stopped while
    it waits holds up no other."""

    async def main() -> None:
        gate, looks = traffic(tmp_path, openai=Limit(1))
        callers = [gate.caller(ask(n), ("small", "openai"), False) for n in range(1000)]
        waiting = [asyncio.create_task(gate.enter(each)) for each in callers]
        await asyncio.sleep(0.1)
        assert [each.done() for each in waiting] == [True] + [False] * 999
        before = len(looks)
        await asyncio.sleep(0.3)
        # Once for the call that is under way: that it has certainly arrived is known after 5 s.
        assert len(looks) - before <= 2
        for each in waiting[500:600]:
            each.cancel()
        passed = [0]
        while len(passed) < 900:
            await gate.leave(callers[passed[-1]], ANSWERED)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            (new,) = {
                n for n, each in enumerate(waiting) if each.done() and not each.cancelled()
            } - set(passed)
            passed.append(new)
        assert passed == [*range(500), *range(600, 1000)]

    asyncio.run(main())
