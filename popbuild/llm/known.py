"""Names of model settings that are known without litellm, whose import takes seconds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OURS = frozenset("model temperature maxTokens seed timeout fallbacks strict accepts".split())
# The most common ones. A test compares them with litellm's.
COMMON = frozenset(
    "api_base api_version base_url extra_headers frequency_penalty logit_bias logprobs "
    "max_completion_tokens max_tokens metadata modalities n presence_penalty prompt_cache_key "
    "reasoning_effort response_format service_tier stop store thinking top_logprobs top_p user "
    "verbosity web_search_options".split()
)
PASSED_ON = frozenset({"extra_body"})
# Further settings of servers with OpenAI's API (vLLM, SGLang, llama.cpp, OpenRouter), of Ollama and
# Gemini: litellm passes on what it does not know.
OF_SERVERS = frozenset(
    "bad_words best_of cache_prompt cached_content chat_template_kwargs generation_config grammar "
    "guided_choice guided_grammar guided_json guided_regex ignore_eos include_reasoning keep_alive "
    "length_penalty min_p min_tokens mirostat models num_ctx num_predict plugins prompt_logprobs "
    "provider reasoning repeat_penalty repetition_penalty route safety_settings "
    "skip_special_tokens stop_token_ids system_instruction think top_a top_k transforms "
    "typical_p".split()
)
_CERTAIN = 0.8  # of difflib: `max_token`, `presence_penality`
_LIKELY = 0.6  # as everywhere


def doubtful(settings: Iterable[str]) -> list[str]:
    """The settings that only litellm may know, sorted."""
    return sorted(set(settings) - OURS - COMMON - PASSED_ON)


def meant(name: str, known: Iterable[str]) -> tuple[str | None, bool]:
    """The known setting nearest to a name, and whether the name is surely a typo."""
    by_folded = {each.casefold(): each for each in sorted(known)}
    for cutoff in (_CERTAIN, _LIKELY):
        close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
        if close:
            return by_folded[close[0]], cutoff == _CERTAIN
    return None, False
