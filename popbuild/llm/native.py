"""What a provider's body says about an answer, for each form that bodies have. Pure.

litellm turns most finish reasons that it does not know into `stop`, and missing usage into zeros.
Here a body is read as it came: its end, text, refusal, error and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.llm.ends import worse
from popbuild.llm.faults import Fault, as_object, fault_in

_JSON_TOOL = "json_tool_call"  # the tool by which litellm asks some models for JSON


@dataclass(frozen=True)
class Said:
    """An answer as its provider words it. `reason` is the provider's word for why the answer ended.
    `text` is None where litellm makes it from a tool call. `counts` are the tokens of input and
    output, each None where it is missing or not a count; all of it is None without any usage.
    `tools` are the names of the called tools."""

    reason: str | None = None
    text: str | None = None
    refusal: str = ""
    fault: Fault | None = None
    counts: tuple[int | None, int | None] | None = None
    tools: tuple[str, ...] = ()
    is_blocked: bool = False

    @property
    def is_json_tool(self) -> bool:
        """Whether only litellm's tool for JSON documents is called."""
        return bool(self.tools) and set(self.tools) == {_JSON_TOOL}


def read_native(body: object) -> Said | None:
    """What a body says, or None for an unknown form."""
    if not isinstance(body, Mapping):
        return None
    fault = fault_in(body)
    if isinstance(body.get("choices"), list):
        return _chat_completion(body, fault)
    if fault is not None:
        return Said(fault=fault)
    return next((form(body) for names, form in _FORMS if names <= body.keys()), None)


def _chat_completion(body: Mapping[str, Any], fault: Fault | None) -> Said:
    """OpenAI's form: also Azure's, Mistral's, OpenRouter's and most others'."""
    choice = as_object(next(iter(body["choices"]), None))
    message = as_object(choice.get("message"))
    content = message.get("content", choice.get("text"))
    calls = [*_objects(message.get("tool_calls")), as_object(message.get("function_call"))]
    names = (as_object(call.get("function")).get("name") or call.get("name") for call in calls)
    tools, text = _tools(names), _joined(content)
    return Said(
        worse(_text(choice.get("finish_reason")), _text(choice.get("native_finish_reason"))),
        text or _text_beside(tools, text),
        _refusal_in([message]) or _refusal_in(content),
        fault or fault_in(choice) or fault_in(message),
        _counts(body.get("usage"), "prompt_tokens", "completion_tokens"),
        tools,
    )


def _response(body: Mapping[str, Any]) -> Said:
    items = _objects(body.get("output"))
    parts = [part for item in items for part in _objects(item.get("content"))]
    reason = _text(as_object(body.get("incomplete_details")).get("reason"))
    return Said(
        worse(_text(body.get("status")), reason),
        _joined(parts),
        _refusal_in(parts),
        counts=_counts(body.get("usage"), "input_tokens", "output_tokens"),
        tools=_tools(item.get("name") for item in items if item.get("type") == "function_call"),
    )


def _anthropic(body: Mapping[str, Any]) -> Said:
    blocks, text = _objects(body.get("content")), _joined(body.get("content"))
    reason = _text(body.get("stop_reason"))
    tools = _tools(block.get("name") for block in blocks if block.get("type") == "tool_use")
    return Said(
        reason,
        _text_beside(tools, text),
        text if reason == "refusal" else "",
        counts=_counts(body.get("usage"), "input_tokens", "output_tokens"),
        tools=tools,
    )


def _gemini(body: Mapping[str, Any]) -> Said:
    candidate = next(iter(_objects(body.get("candidates"))), {})
    parts = _objects(as_object(candidate.get("content")).get("parts"))
    prompt = as_object(body.get("promptFeedback"))
    blocked = _text(prompt.get("blockReason"))
    return Said(
        blocked or _text(candidate.get("finishReason")),
        _joined([part for part in parts if not part.get("thought")]),
        _text(candidate.get("finishMessage")) or _text(prompt.get("blockReasonMessage")) or "",
        counts=_gemini_counts(body.get("usageMetadata")),
        tools=_tools(as_object(part.get("functionCall")).get("name") for part in parts),
        is_blocked=bool(blocked),
    )


def _gemini_counts(usage: Any) -> tuple[int | None, int | None] | None:
    """Gemini leaves zeros out; the total then says so."""
    counts = _counts(usage, "promptTokenCount", "candidatesTokenCount")
    if counts is None or "candidatesTokenCount" in usage:
        return counts
    total, thought = _count(usage.get("totalTokenCount")), _count(usage.get("thoughtsTokenCount"))
    is_none = total is not None and total == (counts[0] or 0) + (thought or 0)
    return counts[0], 0 if is_none else None


def _ollama(body: Mapping[str, Any]) -> Said:
    message = as_object(body.get("message"))
    has_counts = "prompt_eval_count" in body or "eval_count" in body
    return Said(
        # One that is not done says that more was to come.
        _text(body.get("done_reason")) if body["done"] is True else "interrupted",
        _joined(message.get("content", body.get("response"))),
        counts=_counts(body, "prompt_eval_count", "eval_count") if has_counts else None,
        tools=_functions(message),
    )


def _bedrock(body: Mapping[str, Any]) -> Said:
    message = as_object(as_object(body.get("output")).get("message"))
    parts = _objects(message.get("content"))
    tools = _tools(as_object(part.get("toolUse")).get("name") for part in parts)
    return Said(
        _text(body.get("stopReason")),
        _text_beside(tools, _joined(parts)),
        counts=_counts(body.get("usage"), "inputTokens", "outputTokens"),
        tools=tools,
    )


def _cohere(body: Mapping[str, Any]) -> Said:
    message = as_object(body.get("message"))
    tokens = as_object(body.get("usage")).get("tokens")
    return Said(
        _text(body.get("finish_reason")),
        _joined(message.get("content")),
        counts=_counts(tokens, "input_tokens", "output_tokens"),
        tools=_functions(message),
    )


# Each form by the members that its bodies have.
_FORMS: tuple[tuple[set[str], Callable[[Mapping[str, Any]], Said]], ...] = (
    ({"object", "status", "output"}, _response),
    ({"type", "role", "content"}, _anthropic),
    ({"candidates"}, _gemini),
    ({"promptFeedback"}, _gemini),
    ({"done", "message"}, _ollama),
    ({"done", "response"}, _ollama),
    ({"stopReason", "output"}, _bedrock),
    ({"finish_reason", "message"}, _cohere),
)


# Parts of bodies.


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _joined(content: object) -> str:
    """All the text of a content: a text, or a list of parts. Reasoning is left out."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type", "text") in ("text", "output_text"):
            text = part.get("text")
            texts.append(text if isinstance(text, str) else str(as_object(text).get("value") or ""))
    return "".join(texts)


def _refusal_in(parts: object) -> str:
    found = (part.get("refusal") for part in _objects(parts))
    return "".join(each for each in found if isinstance(each, str) and each.strip())


def _tools(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in names if name)


def _functions(message: Mapping[str, Any]) -> tuple[str, ...]:
    calls = _objects(message.get("tool_calls"))
    return _tools(as_object(call.get("function")).get("name") for call in calls)


def _text_beside(tools: tuple[str, ...], text: str) -> str | None:
    """litellm makes the document from a call of its own tool."""
    return None if set(tools) == {_JSON_TOOL} else text


def _counts(usage: object, *names: str) -> tuple[int | None, int | None] | None:
    """Tokens by their names in a provider's usage; None for what is not a count."""
    if not isinstance(usage, Mapping) or not usage:
        return None
    first, second = (_count(usage.get(name)) for name in names)
    return first, second


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
