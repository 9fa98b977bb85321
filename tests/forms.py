"""The forms of seven providers: models, and bodies of answers and errors as they word them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from provider import Reply

TEXT = "A whole text."
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "azure": "azure/gpt-4o-mini",
    "mistral": "mistral/mistral-small-latest",
    "openrouter": "openrouter/openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-3-5-haiku-20241022",
    "gemini": "gemini/gemini-2.0-flash",
    "ollama": "ollama_chat/llama3.2:1b",
}
CHAT = ("openai", "azure", "mistral", "openrouter")  # which speak as OpenAI does
# Variables by which litellm finds each, given the loopback's address.
ADDRESSES = {
    "openai": ("OPENAI_BASE_URL", "/v1"),
    "azure": ("AZURE_API_BASE", ""),
    "mistral": ("MISTRAL_AZURE_API_BASE", "/v1"),
    "openrouter": ("OPENROUTER_API_BASE", "/v1"),
    "anthropic": ("ANTHROPIC_API_BASE", ""),
    "gemini": ("GEMINI_API_BASE", "/v1beta"),
    "ollama": ("OLLAMA_API_BASE", ""),
}
KEYS = {
    f"{name}_API_KEY": "not-a-real-key"
    for name in ("OPENAI", "AZURE", "MISTRAL", "OPENROUTER", "ANTHROPIC", "GEMINI")
} | {"AZURE_API_VERSION": "2024-06-01"}
ABSENT: Any = object()  # leaves a member out


def _without_absent(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def chat(reason: Any = "stop", content: Any = TEXT, usage: Any = None, **more: Any) -> Any:
    """OpenAI's form. `choice` and `top` of `more` go to those places, the rest to the message."""
    choice, top = more.pop("choice", {}), more.pop("top", {})
    message = {"role": "assistant", "content": content, **more}
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return _without_absent(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                _without_absent({"index": 0, "finish_reason": reason, "message": message, **choice})
            ],
            "usage": counts if usage is None else usage,
            **top,
        }
    )


def anthropic(reason: Any = "end_turn", content: Any = TEXT, usage: Any = None) -> Any:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return _without_absent(
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "claude-3-5-haiku-20241022",
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5} if usage is None else usage,
        }
    )


def gemini(reason: Any = "STOP", content: Any = TEXT, usage: Any = None, **top: Any) -> Any:
    parts = [{"text": content}] if isinstance(content, str) else content
    candidate = {"index": 0, "finishReason": reason}
    if parts is not None:
        candidate["content"] = {"role": "model", "parts": parts}
    counts = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    return _without_absent(
        {
            "candidates": [_without_absent(candidate)],
            "usageMetadata": counts if usage is None else usage,
            "modelVersion": "gemini-2.0-flash",
            **top,
        }
    )


def ollama(reason: Any = "stop", content: Any = TEXT, usage: Any = None, **more: Any) -> Any:
    counts = {"prompt_eval_count": 10, "eval_count": 5} if usage is None else usage
    return _without_absent(
        {
            "model": "llama3.2:1b",
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": content, **more.pop("message", {})},
            "done": True,
            "done_reason": reason,
            **({} if counts is ABSENT else counts),
            **more,
        }
    )


FORMS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(CHAT, chat),
    "anthropic": anthropic,
    "gemini": gemini,
    "ollama": ollama,
}


def error(family: str, message: str, code: str | int = "", status: int = 400) -> Any:
    """An error as a provider words it; `code` is its short name for it."""
    if family == "anthropic":
        return {
            "type": "error",
            "error": {"type": code or "invalid_request_error", "message": message},
        }
    if family == "gemini":
        return {"error": {"code": status, "message": message, "status": code or "INVALID_ARGUMENT"}}
    if family == "ollama":
        return {"error": message}
    if family == "mistral":
        return {
            "object": "error",
            "message": message,
            "type": code or "invalid_request_error",
            "code": code,
        }
    if family == "azure":
        return {"error": {"message": message, "code": code, "innererror": {"code": "inner"}}}
    if family == "openrouter":
        return {"error": {"message": message, "code": code or status}, "user_id": "u"}
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    }


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """A body as JSON; text and bytes as they are. Names of headers have `_` for `-`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(body=data, status=status, headers=named)
