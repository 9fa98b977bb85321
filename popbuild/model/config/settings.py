"""Model settings that popbuild refuses, and why: an answer is one whole text from one request.

A task that is a command may have any settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from popbuild.model.problem import MISSING, Problem, pointer_of, value_at

FORMAT = "response_format"
STRICT = "strict"

_TOOLS = "tools are not supported yet: a tool call is not an answer"
_OURS = "popbuild decides this for every call"
_MADE_UP = "no provider would be asked, and what litellm makes up kept as an answer"
_UNSEEN = "litellm would ask again by itself, uncounted; see `fallbacks` and POPBUILD_TRIES"
_ONE = "an answer is one; `popbuild retry` draws another sample"

_REFUSED = {
    **dict.fromkeys(("tools", "tool_choice", "parallel_tool_calls"), _TOOLS),
    **dict.fromkeys(("functions", "function_call"), _TOOLS),
    **dict.fromkeys(("messages", "stream", "stream_options"), _OURS),
    **dict.fromkeys(("mock_response", "mock_tool_calls", "mock_timeout"), _MADE_UP),
    **dict.fromkeys(("model_list", "context_window_fallback_dict"), _UNSEEN),
    **dict.fromkeys(("retry_policy", "retry_strategy"), _UNSEEN),
    "audio": "an answer is a text",
}
# Settings with one harmless value: others would bring answers that are never read.
_ONLY: Mapping[str, tuple[Any, str]] = {
    "n": (1, _ONE),
    "candidate_count": (1, _ONE),
    "modalities": (["text"], "an answer is a text"),
}
_BODY = "extra_body"  # its members replace those of the request


def refusals(settings: Mapping[str, Any], pointer: str = "") -> Iterator[Problem]:
    """A problem for each refused setting; `pointer` is the place of the settings."""
    yield from _refusals(settings, pointer)
    body = settings.get(_BODY)
    if isinstance(body, dict):
        place = pointer + pointer_of([_BODY])
        yield from _refusals(body, place)
        if "model" in body:
            yield _refusal("model", "the model is a setting of its own", place)


def _refusals(settings: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    for name, value in settings.items():
        if name in _REFUSED:
            yield _refusal(name, _REFUSED[name], pointer)
        elif name in _ONLY and value not in (None, _ONLY[name][0]):
            yield _refusal(name, _ONLY[name][1], pointer)


def _refusal(name: str, why: str, pointer: str) -> Problem:
    return Problem(f"not allowed here: {why}", pointer + pointer_of([name]))


def formats_by_hand(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Where settings have a response format: JSON Pointers into them."""
    places = ([FORMAT], [_BODY, FORMAT])
    found = (pointer_of([*place]) for place in places)
    return tuple(each for each in found if value_at(settings, each) is not MISSING)


def effective(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings without `strict: false`, the default: it is not a dependency."""
    return {name: value for name, value in settings if (name, value) != (STRICT, False)}
