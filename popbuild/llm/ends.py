"""Why an answer ended: every word that providers use, and what it means. Pure."""

from __future__ import annotations

import re

CLEAN = "clean"  # the model finished
CUT = "cut"  # a limit of tokens ended it
PAUSED = "paused"  # the provider wants another request to go on
ABORTED = "aborted"  # stopped on its way, by the provider or by a person there
DECLINED = "declined"  # the model or a filter refuses: the same request gets the same no
TOOL = "tool"  # the model calls a tool instead of answering
PROVIDER_FAILED = "failed"  # the provider itself calls it an error
MODEL_LOADING = "loading"  # the model was not loaded yet: nothing was asked of it
UNKNOWN_END = "unknown"  # no reason, or a word that is not in this table

# From the providers' documentation. Compared in lower case and without `_`, `-` and spaces:
# `MAX_TOKENS`, `max_tokens` and `maxTokens` are one word here.
_WORDS = {
    CLEAN: (
        "stop stop_sequence end_turn eos eos_token end_of_text complete completed finish finished "
        "finish_reason_stop"
    ),
    CUT: (
        "length max_tokens max_output_tokens max_completion_tokens model_length max_length "
        "model_context_window_exceeded context_window_exceeded context_length_exceeded "
        "context_length token_limit error_limit incomplete finish_reason_max_tokens"
    ),
    PAUSED: "pause pause_turn paused in_progress queued requires_action",
    ABORTED: (
        "abort aborted cancel canceled cancelled user_cancel interrupted timeout time_limit "
        "disconnect shutdown preempted"
    ),
    DECLINED: (
        "content_filter content_filtered content_filter_error refusal refused safety recitation "
        "blocklist prohibited_content spii sensitive guardrail_intervened guardrail error_toxic "
        "image_safety image_prohibited_content image_recitation model_armor moderation flagged "
        "language policy_violation content_policy_violation"
    ),
    TOOL: "tool_calls tool_call tool_use function_call",
    PROVIDER_FAILED: (
        "error failed failure network_error insufficient_system_resource server_error "
        "internal_error malformed_response malformed_function_call malformed_model_output "
        "malformed_tool_use unexpected_tool_call too_many_tool_calls missing_thought_signature "
        "no_image image_other repetition"
    ),
    MODEL_LOADING: "load loading unload model_loading",
}
# OpenAI's and litellm's names; a word with another meaning stays as it is.
_COMMON_NAMES = {CLEAN: "stop", CUT: "length", DECLINED: "content_filter", TOOL: "tool_calls"}


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", "", word).lower()


_MEANINGS = {_plain(word): meaning for meaning, words in _WORDS.items() for word in words.split()}


def end_of(word: str | None) -> str:
    """What a provider's word means; UNKNOWN_END without a word, or for an unknown one."""
    return _MEANINGS.get(_plain(word), UNKNOWN_END) if word else UNKNOWN_END


def common_name(word: str | None) -> str | None:
    """OpenAI's word for a provider's: `length` for `MAX_TOKENS`."""
    return _COMMON_NAMES.get(end_of(word), word)


def worse(word: str | None, other: str | None) -> str | None:
    """Of two words for one answer's end, the one that says that something is wrong. A router gives
    its own and the provider's, and may say `stop` where the provider did not."""
    return other if other and end_of(other) not in (CLEAN, UNKNOWN_END) else word or other
