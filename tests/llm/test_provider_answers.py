"""Answers that providers really give, in the forms of seven of them: each row is a job of its own,
which finds its provider at an address of its own. Only a whole answer is promoted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forms
import pytest
from forms import ABSENT, CHAT, FORMS, MODELS, TEXT, error, reply
from patience import PATIENCE_S
from provider import Provider, Reply, Request
from workspace import Workspace

QUICK = {"POPBUILD_BACKOFF_S": "0", "POPBUILD_TRIES": "2", "POPBUILD_PATIENCE_S": "0.2"}
FALLBACK = "openai/gpt-4.1-mini"


@dataclass(frozen=True)
class Row:
    """What a model answers to each request, and what must become of the job: its state, what it
    says, how many requests that model gets, the warning in the letter."""

    family: str
    reply: Reply
    state: str
    says: str = ""
    calls: int = 1
    warns: str = ""
    has_fallback: bool = False
    content: str = TEXT
    by_environment: bool = False  # whether litellm's own variable has its address
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """The root after two commands: what the first asked, what both said, and what the second asked
    of jobs whose end is settled."""

    workspace: Workspace
    requests: list[Request]
    said: str
    vain: list[str]


ROWS: dict[str, Row] = {}


def row(name: str, family: str, answer: Any, state: str, says: str = "", **more: Any) -> None:
    sent = answer if isinstance(answer, Reply) else reply(answer)
    ROWS[f"{family}-{name}".replace("_", "-").replace(" ", "-").lower()] = Row(
        family, sent, state, says, **more
    )


# --- why an answer ended ---

CUT = {
    **dict.fromkeys(
        ("openai", "azure", "openrouter"), ("length", "max_tokens", "max_output_tokens")
    ),
    "mistral": ("length", "model_length"),
    "anthropic": ("max_tokens", "model_context_window_exceeded"),
    "gemini": ("MAX_TOKENS", "FINISH_REASON_MAX_TOKENS"),
    "ollama": ("length",),
}
STOPPED = {
    **dict.fromkeys(CHAT, ("abort", "cancelled", "timeout")),
    "anthropic": ("pause_turn",),
    "gemini": ("CANCELLED",),
    "ollama": ("interrupted",),
}
DECLINED = {
    **dict.fromkeys(CHAT, ("content_filter",)),
    "anthropic": ("refusal",),
    "gemini": ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE"),
    "ollama": ("content_filter",),
}
FAILED = {
    "openai": ("error", "network_error", "insufficient_system_resource"),
    "azure": ("error",),
    "mistral": ("error",),
    "openrouter": ("error",),
    "anthropic": ("error",),
    "gemini": ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"),
    "ollama": ("error",),
}
for family, form in FORMS.items():
    row("clean", family, form(), "complete")
    for word in CUT[family]:
        row(f"cut {word}", family, form(word), "rejected", "cut off", calls=3)
    for word in STOPPED[family]:
        row(f"stopped {word}", family, form(word), "rejected", word, calls=3)
    for word in DECLINED[family]:
        row(f"declined {word}", family, form(word), "rejected", "content filter")
        row(f"fallback {word}", family, form(word, ""), "complete", has_fallback=True)
    for word in FAILED[family]:
        row(f"failed {word}", family, form(word), "current", word, calls=2)
    row("odd end", family, form("wibble"), "complete", warns="not known here: wibble")
    row("no end", family, form(None), "complete", warns="does not say why")
    row("end left out", family, form(ABSENT), "complete", warns="does not say why")
row("loading", "ollama", forms.ollama("load", ""), "current", "loading", calls=2)
row("unloaded", "ollama", forms.ollama("unload", ""), "current", "loading", calls=2)
row("not done", "ollama", forms.ollama(done=False), "rejected", "interrupted", calls=3)
blocked = {"promptFeedback": {"blockReason": "OTHER"}, "candidates": ABSENT}
row("prompt blocked", "gemini", forms.gemini(**blocked), "rejected", "OTHER")
row(
    "native end",
    "openrouter",
    forms.chat(choice={"native_finish_reason": "SAFETY"}),
    "rejected",
    "SAFETY",
)
row(
    "native cut",
    "openrouter",
    forms.chat(choice={"native_finish_reason": "MAX_TOKENS"}),
    "rejected",
    "MAX_TOKENS",
    calls=3,
)
row(
    "native clean",
    "openrouter",
    forms.chat(choice={"native_finish_reason": "completed"}),
    "complete",
)

# --- the seam: what is read below litellm, by each provider's own address ---

for family, form in FORMS.items():
    row("seam", family, form("wibble"), "complete", warns="wibble", by_environment=True)

# --- errors inside an answer ---

died = {"code": 502, "message": "upstream died"}
for family in CHAT:
    row(
        "error in choice",
        family,
        forms.chat(content="Half a te", choice={"error": died}),
        "current",
        "upstream died",
        calls=2,
    )
    row(
        "error beside",
        family,
        forms.chat(content="Half a te", top={"error": died}),
        "current",
        "upstream died",
        calls=2,
    )
for family in MODELS:
    row(
        "error with 200",
        family,
        error(family, "upstream died", 502, 502),
        "current",
        "upstream died",
        calls=2,
    )
row(
    "429 with 200",
    "openrouter",
    error("openrouter", "slow down", 429),
    "current",
    "slow down",
    calls=1,
    more={"at least": True},
)
row(
    "quota with 200",
    "openrouter",
    error("openrouter", "Insufficient credits", 402),
    "current",
    "quota",
)
row(
    "moderation with 200",
    "openrouter",
    error("openrouter", "Your chosen model requires moderation and your input was flagged", 403),
    "rejected",
    "flagged",
)

# --- texts ---

parts = [{"type": "text", "text": "A whole "}, {"type": "text", "text": "text."}]
thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}]
call = {"id": "a", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
for family in CHAT:
    row("parts", family, forms.chat(content=parts), "complete")
    row("thinking parts", family, forms.chat(content=thought + parts), "complete")
    row(
        "refusal",
        family,
        forms.chat(content=None, refusal="I cannot help."),
        "rejected",
        "I cannot help.",
    )
    row(
        "refusal part",
        family,
        forms.chat(content=[{"type": "refusal", "refusal": "I will not."}]),
        "rejected",
        "I will not.",
    )
    row(
        "refusal fallback",
        family,
        forms.chat(content=None, refusal="No."),
        "complete",
        has_fallback=True,
    )
    row(
        "tool",
        family,
        forms.chat("tool_calls", None, tool_calls=[call]),
        "rejected",
        "look_up",
        calls=3,
    )
    row(
        "tool and stop",
        family,
        forms.chat("stop", None, tool_calls=[call]),
        "rejected",
        "tool",
        calls=3,
    )
    row("no choices", family, forms.chat(top={"choices": []}), "rejected", "empty", calls=3)
row("blocks", "anthropic", forms.anthropic(content=parts), "complete")
use = [{"type": "tool_use", "id": "t", "name": "look_up", "input": {"a": 1}}]
row("tool", "anthropic", forms.anthropic("tool_use", use), "rejected", "look_up", calls=3)
# The tool by which litellm asks for JSON: its call is the document, if it ended as a call does.
document = {"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"content": TEXT}}
wanted = {"schema": {"type": "object", "required": ["content"]}}
introduced = [{"type": "text", "text": "Here it is:"}, document]
for name, blocks in (("json tool", [document]), ("json tool behind text", introduced)):
    row(name, "anthropic", forms.anthropic("tool_use", blocks), "complete", more=wanted)
for reason, said, asked in (
    ("max_tokens", "cut off", 3),
    ("pause_turn", "paused", 3),
    ("refusal", "refus", 1),
):
    row(
        f"json tool {reason}",
        "anthropic",
        forms.anthropic(reason, [document]),
        "rejected",
        said,
        calls=asked,
        more=wanted,
    )
row(
    "refusal words",
    "anthropic",
    forms.anthropic("refusal", "I would rather not."),
    "rejected",
    "rather not",
)
row("nothing", "anthropic", forms.anthropic(content=[]), "rejected", "empty", calls=3)
row("parts", "gemini", forms.gemini(content=[{"text": "A whole "}, {"text": "text."}]), "complete")
row(
    "thought",
    "gemini",
    forms.gemini(content=[{"text": "Hm.", "thought": True}, {"text": TEXT}]),
    "complete",
)
row(
    "tool",
    "gemini",
    forms.gemini(content=[{"functionCall": {"name": "look_up", "args": {}}}]),
    "rejected",
    "look_up",
    calls=3,
)
row(
    "recitation without parts", "gemini", forms.gemini("RECITATION", None), "rejected", "RECITATION"
)
row(
    "tool",
    "ollama",
    forms.ollama(
        content="", message={"tool_calls": [{"function": {"name": "look_up", "arguments": {}}}]}
    ),
    "rejected",
    "look_up",
    calls=3,
)
for family, form in FORMS.items():
    row(
        "half a pair",
        family,
        form(content="half \ud800 a pair"),
        "rejected",
        "half a surrogate pair",
        calls=3,
    )
    row("empty", family, form(content=""), "rejected", "empty", calls=3)

# --- usage ---

absurd = {"prompt_tokens": -3, "completion_tokens": None, "total_tokens": "many"}
for family, form in FORMS.items():
    row("no usage", family, form(usage=ABSENT), "complete", more={"unknown": True})
for family in CHAT:
    row("absurd usage", family, forms.chat(usage=absurd), "complete", more={"unknown": True})
    row(
        "zeros",
        family,
        forms.chat(usage=dict.fromkeys(absurd, 0)),
        "complete",
        more={"unknown": True},
    )
row("plain content", "anthropic", {**forms.anthropic(), "content": TEXT}, "complete")

# --- bodies that cannot be read ---

for family, form in FORMS.items():
    whole = json.dumps(form()).encode()
    html = reply(b"<html><body>Please sign in</body></html>", content_type="text/html")
    row("html", family, html, "current", "Please sign in")
    row("half a body", family, reply(whole[:-9]), "current", "cannot be read")
    row("nothing at all", family, reply(b""), "current", "cannot be read")
    row("another form", family, reply({"ok": True}), "current", "cannot be read")
    row("latin 1", family, reply(whole.replace(b"whole", b"na\xefve")), "current", "cannot be read")
    row("gzip", family, reply(gzip.compress(whole), content_encoding="gzip"), "complete")
    row("brotli", family, reply(whole, content_encoding="br"), "current", "br")
    row("bad gzip", family, reply(whole, content_encoding="gzip"), "current", "gzip")
    row("html fallback", family, html, "complete", has_fallback=True)

# --- statuses ---

for family in MODELS:
    filtered = error(
        family, "The prompt triggered the content management policy.", "content_filter"
    )
    row("400 filter", family, reply(filtered, 400), "rejected", "content policy")
    row("400 filter fallback", family, reply(filtered, 400), "complete", has_fallback=True)
    long = error(family, "Prompt too long")
    row("400 context", family, reply(long, 400), "rejected", "too long")
    row("400 context fallback", family, reply(long, 400), "complete", has_fallback=True)
    row(
        "400", family, reply(error(family, "temperature is no number"), 400), "current", "no number"
    )
    quota = error(family, "You exceeded your current quota, please check your plan.", status=429)
    row("429 quota", family, reply(quota, 429), "current", "quota")
    row("429 quota fallback", family, reply(quota, 429), "complete", has_fallback=True)
    row("402", family, reply(error(family, "pay first", status=402), 402), "current", "quota")
    row("413", family, reply(error(family, "too big", status=413), 413), "current", "larger")
    large = error(family, "Request too large for m: Limit 30000, Requested 40000.", status=429)
    row("429 too large", family, reply(large, 429), "current", "larger")
    row("500", family, reply(error(family, "boom", status=500), 500), "current", "boom", calls=2)
    row(
        "503 html",
        family,
        reply(b"<h1>Down</h1>", 503, content_type="text/html"),
        "current",
        "Down",
        calls=2,
    )
    row("401", family, reply(error(family, "bad key", status=401), 401), "current", "key")
    row(
        "404",
        family,
        reply(error(family, "no such model", status=404), 404),
        "current",
        "does not know",
    )


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Built]:
    """All rows, built by one command; then once more those whose end is settled."""
    folder: Path = tmp_path_factory.mktemp("rows")
    with Provider() as provider, Workspace(folder, provider) as workspace:
        provider.serves_every_path = True
        provider.answer = _answer
        for name, each in ROWS.items():
            config: dict[str, Any] = {"model": MODELS[each.family]}
            if not each.by_environment:
                config["api_base"] = f"http://127.0.0.1:{provider.port}/{name}"
            if each.has_fallback:
                config["fallbacks"] = [FALLBACK]
            own = f"pipeline-config/pipelines/{name}"
            pipeline = {"name": name, "tasks": ["one"], "taskConfig": {"one": config}}
            workspace.write(f"{own}/pipeline.json", pipeline)
            workspace.write(f"{own}/tasks/index.yaml", "one: ./one\n")
            workspace.write(f"{own}/tasks/one/prompt.md", "Write.\n")
            if "schema" in each.more:
                workspace.write(f"{own}/tasks/one/output.schema.json", each.more["schema"])
            workspace.write(f"seeds/{name}.json", {"name": name, "pipeline": name, "data": {}})
        workspace.pipeline(["one"])
        workspace.task("one", prompt="Write.\n")
        env = QUICK | forms.KEYS
        for family, (variable, path) in forms.ADDRESSES.items():
            env[variable] = f"http://127.0.0.1:{provider.port}/{family}-seam{path}"
        result = workspace.popbuild("run", "-c", "-n", "64", env=env, timeout_s=2 * PATIENCE_S)
        first = list(provider.requests)
        settled = [name for name, each in ROWS.items() if each.state != "current"]
        again = workspace.popbuild("run", "-c", *settled, env=env)
        vain = [each.path for each in provider.requests[len(first) :]]
        yield Built(workspace, first, result.out + result.err + again.err, vain)


def _answer(request: Request) -> Reply:
    name = request.path.split("/")[1].partition(":")[0]
    if request.model == FALLBACK.partition("/")[2]:
        return reply(forms.chat())
    return ROWS[name].reply


@pytest.mark.parametrize("name", ROWS)
def test_what_becomes_of_an_answer(name: str, built: Built) -> None:
    """A whole answer is promoted, with what is odd about it in its letter; another fails or is
    rejected with the provider's words, or a fallback is asked. No request is sent in vain."""
    workspace, right = built.workspace, ROWS[name]
    assert workspace.states(name) == [right.state]
    folder = workspace.job(name, right.state)
    calls = [each for each in built.requests if each.body.keys() & {"messages", "contents"}]
    asked = [each for each in calls if each.path.split("/")[1].partition(":")[0] == name]
    own = [each for each in asked if each.model != FALLBACK.partition("/")[2]]
    if "at least" in right.more:
        assert len(own) >= right.calls
    else:
        assert len(own) == right.calls
    assert len(asked) - len(own) == right.has_fallback
    assert "Traceback" not in built.said
    assert not [path for path in built.vain if path.startswith(f"/{name}/")]
    if right.state == "complete":
        assert workspace.artifact(name, "one") == {"content": right.content}
        letter = workspace.letter(name, "one")
        if "unknown" in right.more:  # or we counted ourselves, and say so
            (call,) = letter["calls"]
            assert call.get("counted") or (call["inputTokens"], call["cost"]) == (None, None), call
        warnings = letter["warnings"]
        assert (
            any(right.warns in each for each in warnings)
            if right.warns
            else (bool(warnings) == right.has_fallback)
        ), warnings
    elif right.state == "rejected":
        rejection = (folder / "rejection.json").read_text(encoding="utf-8")
        assert right.says.lower() in rejection.lower()
    else:
        told = workspace.status(name, "current")["tasks"]["one"]["error"]
        assert right.says.lower() in told.lower()
