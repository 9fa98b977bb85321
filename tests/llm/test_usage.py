"""What a provider does not say of a call is unknown: never zero, never $0, and no way round a
budget."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from commands import in_python
from provider import Provider, Reply, Request, default_answer
from workspace import Workspace

from popbuild.llm import tokens
from popbuild.llm import usage as said
from popbuild.llm.budget import Spent
from popbuild.llm.history import History
from popbuild.llm.prices import Price
from popbuild.llm.request import Answer
from popbuild.llm.request import Request as Asked
from popbuild.llm.store import Store
from popbuild.llm.tokens import billed
from popbuild.llm.usage import Tokens
from popbuild.model.letter import Usage
from popbuild.query import untrusted
from popbuild.query.estimate import Estimate, Range, TokenShares
from popbuild.query.table.job_table import JobTable
from popbuild.query.table.row import JobRow

TEXT = "Some words of an answer."
NOTHING = Tokens()
LIMITED = {"maxTokens": 100}


def response(usage: Any, text: str = TEXT) -> dict[str, Any]:
    body: dict[str, Any] = {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "model": "a-model",
    }
    return body if usage is None else body | {"usage": usage}


def counts(asked: Any, answered: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": asked, "completion_tokens": answered, **more}


def cached(**more: Any) -> dict[str, Any]:
    return {"prompt_tokens_details": more}


def reasoned(count: Any) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": count}}


# What a response holds, and what is known by it.
USAGES: dict[str, tuple[Any, Tokens]] = {
    "whole": (counts(12, 5), Tokens(12, 5)),
    "whole as floats": (counts(12.0, 5.0), Tokens(12, 5)),
    "missing": (None, NOTHING),
    "null inside": (counts(None, None), NOTHING),
    "no object": ([1, 2], NOTHING),
    "empty": ({}, NOTHING),
    "zeros in the place of nothing": (counts(0, 0, total_tokens=0), NOTHING),
    "nothing asked": (counts(0, 5), Tokens(None, 5)),
    "nothing answered": (counts(12, 0), Tokens(12, None)),
    "negative": (counts(-12, -5), NOTHING),
    "negative input": (counts(-1, 5), Tokens(None, 5)),
    "text": (counts("12", "5"), NOTHING),
    "truth": (counts(True, True), NOTHING),
    "a fraction": (counts(12.5, 5.5), NOTHING),
    "not a number": (counts(math.nan, math.nan), NOTHING),
    "infinite": (counts(math.inf, math.inf), NOTHING),
    "absurdly much": (counts(10**12, 10**12), NOTHING),
    "only a total": ({"total_tokens": 17}, NOTHING),
    "a total that is not the sum": (counts(12, 5, total_tokens=99), Tokens(12, 5)),
    "details that are none": (counts(12, 5, prompt_tokens_details=3), Tokens(12, 5)),
    "OpenAI's cache": (counts(12, 5, **cached(cached_tokens=8)), Tokens(12, 5, cached=8)),
    "Anthropic's cache": (
        counts(
            100,
            5,
            **cached(cached_tokens=30, cache_creation_tokens=20),
            cache_creation_input_tokens=20,
            cache_read_input_tokens=30,
        ),
        Tokens(100, 5, cached=30, written=20),
    ),
    "DeepSeek's cache": (counts(12, 5, prompt_cache_hit_tokens=8), Tokens(12, 5, cached=8)),
    "no cache": (counts(12, 5, **cached(cached_tokens=0)), Tokens(12, 5, cached=0)),
    "more cached than asked": (counts(12, 5, **cached(cached_tokens=13)), Tokens(None, 5)),
    "more cached and written than asked": (
        counts(12, 5, **cached(cached_tokens=8, cache_write_tokens=8)),
        Tokens(None, 5),
    ),
    "a negative cache": (counts(12, 5, **cached(cached_tokens=-8)), Tokens(12, 5)),
    "reasoning": (counts(12, 9, **reasoned(4)), Tokens(12, 9, reasoning=4)),
    "reasoning beside the output": (counts(12, 5, **reasoned(7)), Tokens(12, 12, reasoning=7)),
    "negative reasoning": (counts(12, 5, **reasoned(-7)), Tokens(12, 5)),
}


@pytest.mark.parametrize("kind", USAGES)
def test_what_a_provider_says_it_used(kind: str) -> None:
    """What is missing, no count or absurd is unknown; the rest is read by whatever name."""
    usage, expected = USAGES[kind]
    assert said.reported_tokens(response(usage)) == expected


def test_an_empty_answer_may_have_no_tokens() -> None:
    """Zero is a count where there is no text, unless nothing was asked either."""
    assert said.reported_tokens(response(counts(12, 0), "")) == Tokens(12, 0)
    assert said.reported_tokens(response(counts(0, 0), "")) == NOTHING


def test_a_text_has_more_tokens_than_that() -> None:
    """No token is as long as a page."""
    assert said.reported_tokens(response(counts(12, 1), "x" * 5_000)) == Tokens(12, None)


PRICE = Price(1.0, 10.0, cached=0.1, written=1.25, reasoning=20.0)


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        (Tokens(100, 10), 200.0),
        (Tokens(100, 10, cached=40), 60 + 4 + 100),
        (Tokens(100, 10, cached=40, written=20), 40 + 4 + 25 + 100),
        (Tokens(100, 10, reasoning=6), 100 + 40 + 120),
        (Tokens(None, 10), None),
        (Tokens(100, None), None),
    ],
)
def test_each_kind_of_token_has_its_price(used: Tokens, cost: float | None) -> None:
    assert PRICE.cost_of(used) == (cost if cost is None else pytest.approx(cost))
    assert Price(0.0, 0.0).cost_of(used) == 0.0


def test_a_plan_counts_on_no_cache() -> None:
    """At best as much is cached as ever so far; at most all is written there, at its price."""
    one = Range(100, 100)
    estimate = Estimate(Range(1, 1), one, Range(10, 10), one, Range(10, 10))
    cost = estimate.cost(PRICE, TokenShares(cached=Range(0.0, 0.5)))
    assert (cost.low, cost.high) == (pytest.approx(50 + 5 + 100), pytest.approx(125 + 200))
    cost = estimate.cost(PRICE, TokenShares())
    assert (cost.low, cost.high) == (pytest.approx(200), pytest.approx(125 + 200))


MAXIMUM_COST = """
import json, sys
from popbuild.llm.client import maximum_cost
from popbuild.llm.request import Request
messages = ({"role": "user", "content": "Write."},)
print(json.dumps(maximum_cost(Request(sys.argv[1], messages, json.loads(sys.argv[2])))))
"""


@pytest.mark.parametrize(
    ("model", "settings", "most"),
    [
        ("anthropic/claude-sonnet-4-5", {"maxTokens": 10}, 22 * 3.75e-6 + 10 * 15e-6),
        ("openai/gpt-4o-mini", {"max_completion_tokens": 10}, 22 * 0.15e-6 + 10 * 0.6e-6),
        ("openai/gpt-4o-mini", {}, 22 * 0.15e-6 + 16384 * 0.6e-6),
        ("baseten/zai-org/GLM-4.6", {}, None),
        ("local/smollm2-135m", {}, 0.0),
    ],
)
def test_the_most_that_a_call_may_cost(
    model: str, settings: Mapping[str, Any], most: float | None
) -> None:
    """All input written to a cache, where that costs more; unknown without a limit of answers."""
    found = in_python(MAXIMUM_COST, model, json.dumps(settings))
    assert found == (most if most is None else pytest.approx(most))


def asked(model: str, content: Any = "Write.", **settings: Any) -> Asked:
    return Asked(model, ({"role": "user", "content": content},), settings)


COUNTED: dict[str, tuple[Asked, bool]] = {
    "a model with its own table": (asked("openai/gpt-4o-mini"), True),
    "an older table": (asked("gpt-3.5-turbo", temperature=0.5, maxTokens=50), True),
    "an answer that may hide reasoning": (asked("openai/gpt-5-nano"), False),
    "another maker's model": (asked("anthropic/claude-sonnet-4-5"), False),
    "no known model": (asked("openai/gpt-4o-of-mine"), False),
    "a model that searches": (asked("openai/gpt-4o-search-preview"), False),
    "another provider's model of the name": (asked("groq/gpt-4o"), False),
    "parts of text": (asked("gpt-4o", [{"type": "text", "text": "Write."}]), True),
    "a picture": (asked("gpt-4o", [{"type": "image_url", "image_url": {"url": "x"}}]), False),
    "several answers": (asked("gpt-4o", n=3), False),
    "more than takes a second": (asked("gpt-4o", "x" * 1_000_001), False),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_what_we_count_by_ourselves(kind: str) -> None:
    """Only where the table is the model's own, and all that is billed is seen."""
    request, known = COUNTED[kind]
    found = tokens.count_usage(request, TEXT)
    assert (found is not None) == known
    if found is not None:
        assert found.is_counted_by_us
        assert found.both == (4 + 3 + 2, 6)


def test_a_local_model_costs_nothing_whatever_it_says() -> None:
    answer = Answer(response(None), 0.0, 1.0)
    assert billed(asked("local/smollm2-135m"), answer).cost == 0.0


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    """But for the kinds of tokens, of which some providers never speak."""
    total = Usage(1, 0, 10, 5, 0.5, cached_tokens=4) + Usage(1, 0, None, 7, None)
    assert (total.input_tokens, total.output_tokens, total.cost) == (None, 12, None)
    assert (total.tokens, total.cached_tokens, total.reasoning_tokens) == (None, 4, None)


def test_usage_of_a_version_before(tmp_path: Any) -> None:
    """Files without the kinds are read; a stored answer with invented zeros has no known cost."""
    usage = untrusted.usage(
        {"calls": 1, "storedCalls": 0, "inputTokens": 9, "outputTokens": 4, "cost": 0.1}
    )
    assert usage == Usage(1, 0, 9, 4, 0.1)
    store = Store(tmp_path)
    for model, cost in (("openai/gpt-4o-mini", None), ("local/smollm2-135m", 0.0)):
        request = asked(model)
        store.make_room(request)
        prepared = store.prepare(request, Answer(response(counts(0, 0)), 0.0, 1.0))
        prepared.temporary.replace(prepared.path)
        found = store.get(request.digest)
        assert isinstance(found, Answer)
        assert found.cost == cost


def entry(event: str, name: str, **more: Any) -> dict[str, Any]:
    origin = {"model": "m", "run": name, "job": "j", "task": "t", "pipeline": "p"}
    start = {"at": "2026-11-30T00:00:00.000Z", "cost": 1.0, "command": "c", **origin}
    return {"event": event, "entry": name, **(start if event == "reserved" else {}), **more}


ENDS: dict[str, tuple[Mapping[str, Any], float]] = {
    "known": ({"cost": 0.25, "inputTokens": 5, "outputTokens": 5}, 0.25),
    "unknown": ({"cost": None, "inputTokens": None, "outputTokens": None}, 1.0),
    "counted by us": ({"cost": None, "inputTokens": 5, "outputTokens": 5}, 1.0),
    "zeros of a version before": ({"cost": 0.0, "inputTokens": 0, "outputTokens": 0}, 1.0),
}


@pytest.mark.parametrize("kind", ENDS)
def test_an_unknown_cost_counts_at_its_most(kind: str, tmp_path: Any) -> None:
    """For ever: an entry whose cost is not known keeps what was reserved, also when it is read
    again; a second end of an entry changes nothing."""
    end, spent = ENDS[kind]
    lines = [entry("reserved", "a"), entry("settled", "a", **end), entry("settled", "a", cost=0.5)]
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    sums = Spent(path)
    sums.refresh()
    assert sums.of(("command", "c")) == pytest.approx(spent)
    attempts = History(lines).of("p", "t", "m")
    assert len(attempts) == (0 if "version" in kind or kind == "unknown" else 1)


def test_totals_of_the_board_say_what_is_unknown() -> None:
    def row(name: str, tokens: int | None, cost: float | None) -> JobRow:
        return JobRow(name, "complete", "", 1, 1, tokens, cost, 0.0)

    board = JobTable()
    board.put(row("a", None, None))
    assert board.tokens().told("{:,.0f}".format) == "unknown"
    board.put(row("b", 1200, 0.5))
    assert board.tokens().told("{:,.0f}".format) == "1,200 + unknown"
    assert board.cost().told("${:.2f}".format) == "$0.50 + unknown"


# --- whole commands ---


def silent(request: Request) -> Reply:
    """The usual answer, without a word on what it took."""
    body = {
        "id": f"chatcmpl-{request.number}",
        "object": "chat.completion",
        "created": 1,
        "model": request.model,
        "choices": response(None, default_answer(request).text)["choices"],
    }
    body["choices"][0] |= {"index": 0}
    body["choices"][0]["message"] |= {"role": "assistant"}
    return Reply(body=json.dumps(body).encode())


def with_usage(usage: Mapping[str, Any]) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        body = json.loads(silent(request).body or b"")
        return Reply(body=json.dumps(body | {"usage": dict(usage)}).encode())

    return answer


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "openai/gpt-5-nano"])
def test_a_budget_holds_without_usage(model: str, workspace: Workspace, provider: Provider) -> None:
    """No more calls than a provider with usage gets, and the same exit code; counted by us or
    unknown, a call counts at what was reserved, in a later command too."""
    (workspace.root / "seeds/first.json").unlink()
    for number in range(10):
        workspace.seed(f"job-{number}", {"topic": f"topic {number}"})
    budget = {"openai/gpt-4o-mini": 0.00014, "openai/gpt-5-nano": 0.00009}[model]
    sent = []
    for answer in (default_answer, silent):
        before = len(provider.requests)
        workspace.pipeline(["research"], {"research": LIMITED}, model=model)
        provider.answer = answer
        result = workspace.popbuild("run", "-n", "1", "--budget", f"{budget:.5f}")
        assert result.code == 6, result.out + result.err
        sent.append(len(provider.requests) - before)
        workspace.task("research", prompt="Say something else about {{ seed.data.topic }}.")
    assert 1 <= sent[1] <= sent[0] < 10
    workspace.pipeline(["research"], {"research": LIMITED}, model=model, budget={"day": budget})
    assert workspace.popbuild("run", "-n", "1").code == 6
    assert len(provider.requests) == sum(sent)


def told(workspace: Workspace) -> list[str]:
    """What is said of a job that was built: status, trace, summary and report."""
    said = []
    for command in (("status", "first"), ("trace", "first/research"), ("summary",)):
        shown = workspace.popbuild(*command)
        assert shown.code == 0, shown.err
        said.append(shown.out)
    assert workspace.popbuild("report", "first", "-o", "report.html").code == 0
    return [*said, (workspace.root / "report.html").read_text()]


def test_unknown_usage_is_told_as_unknown(workspace: Workspace, provider: Provider) -> None:
    """In the letter, the ledger, status, report, summary, trace and plan: nowhere zero."""
    workspace.pipeline(["research"], model="openai/gpt-5-nano")
    provider.answer = silent
    result = workspace.popbuild("run", "first")
    assert result.code == 0, result.err
    assert "unknown tokens, unknown cost" in result.out
    (call,) = workspace.letter("first", "research")["calls"]
    assert [call[name] for name in ("inputTokens", "outputTokens", "cost")] == [None] * 3
    assert not {"cachedTokens", "reasoningTokens", "counted"} & call.keys()
    ledger = (workspace.root / ".popbuild/ledger.jsonl").read_text().splitlines()
    settled = json.loads(ledger[-1])
    assert (settled["cost"], settled["inputTokens"]) == (None, None)
    for text in told(workspace):
        assert "unknown" in text
        assert "$0" not in text
    plan = json.loads(workspace.popbuild("plan", "first", "fresh=research", "--json").out)
    assert plan["total"]["cost"]["high"] > 0
    assert workspace.popbuild("run", "first").code == 0
    assert len(provider.requests) == 1


def test_what_we_counted_is_said_to_be_ours(workspace: Workspace, provider: Provider) -> None:
    """Where the table of the model is at hand; and so it is when the answer comes out of the
    store."""
    workspace.pipeline(["research"], model="openai/gpt-4o-mini")
    provider.answer = silent
    result = workspace.popbuild("run", "first")
    assert result.code == 0, result.err
    assert "counted by us" in result.out
    assert "counted by us" in workspace.popbuild("status", "first").out
    letter = workspace.letter("first", "research")
    (call,) = letter["calls"]
    assert call["counted"]
    assert call["inputTokens"] > 5
    assert call["outputTokens"] > 5
    assert 0 < call["cost"] < 0.001
    assert letter["usage"]["countedCalls"] == 1
    again = workspace.popbuild("run", "first", "-a")
    assert again.code == 0, again.err
    (stored,) = workspace.letter("first", "research")["calls"]
    names = ("counted", "inputTokens", "outputTokens", "cost")
    assert stored["stored"]
    assert [stored[name] for name in names] == [call[name] for name in names]
    assert len(provider.requests) == 1


def test_kinds_of_tokens_are_told_apart(workspace: Workspace, provider: Provider) -> None:
    """Cached input and reasoning, from the provider's answer to letter, status, report and plan."""
    workspace.pipeline(["research"], model="openai/gpt-5-nano")
    details = cached(cached_tokens=1000) | reasoned(300)
    provider.answer = with_usage(counts(1500, 400, total_tokens=1900, **details))
    result = workspace.popbuild("run", "first")
    assert result.code == 0, result.err
    kinds = "(1,000 cached, 300 reasoning)"
    assert kinds in result.out
    usage = workspace.letter("first", "research")["usage"]
    assert (usage["cachedTokens"], usage["reasoningTokens"]) == (1000, 300)
    assert workspace.status("first")["usage"] == usage == workspace.runs()[0]["usage"]
    status, trace, _, report = told(workspace)
    assert kinds in status
    assert kinds in " ".join(trace.split())
    assert kinds in report
    (planned,) = json.loads(workspace.popbuild("plan", "first", "fresh=research", "--json").out)[
        "jobs"
    ][0]["tasks"]
    assert planned["cachedTokens"]["high"] > 0
    assert planned["reasoningTokens"]["low"] > 0
    assert planned["cacheWriteTokens"] is None
    said = workspace.popbuild("plan", "first", "fresh=research").out
    assert "cached" in said
    assert "reasoning" in said
