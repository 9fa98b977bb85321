"""Model settings that popbuild cannot take, and why: an answer is one whole text, asked for once.

A task that is a command may have settings of any name: they are its own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from popbuild.model.problem import Problem, pointer_of

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
# Settings of which one value changes nothing: the others would bring answers that nothing reads.
_ONLY: Mapping[str, tuple[Any, str]] = {
    "n": (1, _ONE),
    "candidate_count": (1, _ONE),
    "modalities": (["text"], "an answer is a text"),
}
_BODY = "extra_body"  # goes into the request as it is, over what stands there


def refusals(settings: Mapping[str, Any], pointer: str = "") -> Iterator[Problem]:
    """A problem for each setting that a call cannot have; `pointer` is where the settings stand."""
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
    """Where settings say by themselves which form an answer has: JSON Pointers into them."""
    body = settings.get(_BODY)
    found = [pointer_of([FORMAT])] if FORMAT in settings else []
    if isinstance(body, dict) and FORMAT in body:
        found.append(pointer_of([_BODY, FORMAT]))
    return tuple(found)


def effective(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings without those that say what is so anyway: `strict: false` is not a dependency."""
    return {name: value for name, value in settings if (name, value) != (STRICT, False)}
