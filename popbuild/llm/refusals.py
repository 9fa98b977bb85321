"""What a provider's error means for the request, by its codes and its wording. Pure.

A status says little: a filter, a prompt that is too long and a mistake of ours are all 400, and
each provider words them differently. Each row of the tables below has a test.
"""

from __future__ import annotations

import re

from popbuild.llm.faults import Fault

FILTERED = "filtered"  # a content filter refuses this prompt
TOO_LONG = "too long"  # the prompt is longer than the model's context
NO_QUOTA = "no quota"  # money or quota is used up: requests will fail for a long time
TOO_LARGE = "too large"  # larger than a limit, so that waiting does not help
LOADING = "loading"  # the model is not loaded yet


# By meaning: the codes that stand for it, and the words, each by the providers that use them. The
# first meaning that fits counts.
SIGN_CODES = {
    FILTERED: {
        "OpenAI, Azure": "content_filter content_policy_violation moderation_blocked "
        "invalid_prompt responsibleaipolicyviolation cyber_policy_violation",
        "Gemini": "prohibited_content blocked_reason",
        "DashScope": "data_inspection_failed datainspectionfailed",
        "Zhipu": "1301",
        "Mistral": "guardrail_violation",
    },
    TOO_LONG: {
        "OpenAI": "context_length_exceeded string_above_max_length",
        "Azure": "model_max_prompt_tokens_exceeded",
        "Anthropic": "model_context_window_exceeded",
        "Ollama, llama.cpp": "exceed_context_size_error",
        "Zhipu": "1261",
        "Together, Fireworks": "context_window_exceeded",
    },
    NO_QUOTA: {
        "OpenAI": "insufficient_quota billing_hard_limit_reached billing_not_active",
        "Anthropic": "billing_error",
        "DeepSeek, others": "insufficient_balance",
        "Moonshot": "exceeded_current_quota_error",
        "DashScope": "arrearage allocationquota.freetieronly",
        "Zhipu": "1113",
        "Mistral, Together": "credit_limit payment_required",
    },
    TOO_LARGE: {
        "Anthropic": "request_too_large",
        "nginx, others": "payload_too_large request_entity_too_large",
    },
    LOADING: {"Hugging Face": "model_loading"},
}
SIGN_WORDS = {
    FILTERED: {
        "OpenAI, Azure": r"content management policy|safety system"
        r"|violat\w+ (our |the )?(usage|content) polic",
        "litellm": r"content[ _]policy[ _]?violation",
        "Anthropic": r"blocked by (our |the )?content[ -]filter",
        "OpenRouter": r"requires moderation|input was flagged|flagged (as|by|for) ",
        "Gemini": r"prompt was blocked|blocked due to safety",
        "xAI": r"content violates usage guidelines|SAFETY_CHECK_TYPE",
        "DeepSeek": r"content exists risk",
        "DashScope": r"inappropriate content|data inspection failed",
        "Moonshot": r"considered high risk",
        "Zhipu": r"unsafe or sensitive content|不安全或敏感",
        "Mistral": r"guardrail|content moderation",
        "Bedrock": r"blocked by (a |the )?guardrail|content filter(ing)? (blocked|polic)",
    },
    TOO_LONG: {
        "OpenAI": r"maximum context length|context[ _]length[ _]exceeded|string too long",
        "Azure": r"max prompt tokens",
        "Anthropic": r"prompt (is )?too long|input length and .?max_tokens.? exceed context",
        "Gemini": r"input token count.{0,40} exceeds the maximum",
        "Mistral": r"prompt contains \d+ tokens.{0,60}too large for model",
        "xAI": r"maximum prompt length",
        "Groq": r"reduce the length of the (messages|prompt|input|completion)",
        "Bedrock": r"input is too long|too many input tokens",
        "Cohere": r"total number of tokens in the prompt cannot exceed|too many tokens:",
        "Ollama, llama.cpp": r"(available|configured) context size"
        r"|exceeds? (the )?context (length|window|size|limit)",
        "vLLM, TGI": r"longer than the maximum model length|inputs.? tokens \+ .?max_new_tokens"
        r"|decoder prompt.{0,60}longer than",
        "DashScope": r"range of input length should be|input length should be",
        "Zhipu": r"prompt exceeds max length",
        "Together, Fireworks": r"prompt is too (long|large)"
        r"|(exceeds|larger than|over) (the )?(model'?s )?(maximum )?context (length|window)",
        "Cerebras": r"current length is \d+ while limit is",
    },
    NO_QUOTA: {
        "OpenAI": r"billing hard limit|account is not active",
        "OpenAI, Perplexity": r"exceeded your current quota",
        "Anthropic": r"credit balance is too low|reached your specified api usage limits",
        "OpenRouter": r"insufficient credits|requires more credits|free-models-per-day"
        r"|key limit exceeded",
        "DeepSeek, others": r"insufficient (account )?(balance|funds|quota)",
        "xAI": r"used all available credits|(reached|hit) (its|your|the) monthly spending limit",
        "DashScope": r"overdue[- ]payment"
        r"|access denied, please make sure your account is in good standing",
        "Zhipu": r"余额不足|欠费",
        "Cohere, others": r"(calls?|requests|tokens) ?(/|per) ?month"
        r"|monthly (usage )?(limit|quota)",
        "Mistral, Together": r"credit limit|payment required",
    },
    TOO_LARGE: {
        "Anthropic": r"request exceeds the maximum (size|allowed number of bytes)",
        "OpenAI, Groq": r"request too large",
        "nginx, others": r"(payload|entity|body) (is )?too large",
    },
    LOADING: {"Hugging Face": r"is currently loading|loading model|model is loading"},
}
_PAYMENT_REQUIRED = 402
_TOO_LARGE = 413
_LIMIT = re.compile(r"limit:? *(\d[\d,]*).{0,80}?requested:? *(\d[\d,]*)", re.IGNORECASE)
_A_DAY = re.compile(r"per[ _-]?day|daily|\b[rt]pd\b", re.IGNORECASE)
_COMPILED = tuple(
    (
        meaning,
        frozenset(" ".join(SIGN_CODES[meaning].values()).split()),
        re.compile("|".join(SIGN_WORDS[meaning].values()), re.IGNORECASE),
    )
    for meaning in SIGN_CODES
)


def meaning_of(status: int | None, fault: Fault | None, wait_s: float | None = None) -> str | None:
    """What an error means beyond its status, or None. `wait_s` is how long the provider asks us to
    wait."""
    if status == _PAYMENT_REQUIRED:
        return NO_QUOTA
    if fault is not None:
        for meaning, codes, words in _COMPILED:
            if codes & fault.codes:
                return meaning
            if words.search(fault.message):
                # Gemini words a limit by the minute like a used-up quota, and says when to try.
                is_passing = meaning == NO_QUOTA and wait_s is not None and not _is_daily(fault)
                return None if is_passing else meaning
        if _never_fits(fault.message):
            return TOO_LARGE
        if wait_s is None and _A_DAY.search(fault.message):
            return NO_QUOTA
        if _is_daily(fault):  # Gemini's, which asks for seconds all the same
            return NO_QUOTA
    return TOO_LARGE if status == _TOO_LARGE else None


def _is_daily(fault: Fault) -> bool:
    return any("perday" in code for code in fault.codes)


def _never_fits(message: str) -> bool:
    """`Limit 30000, Requested 40000`: more than a whole minute has."""
    found = _LIMIT.search(message)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "")) for number in found.groups())
    return requested > limit
