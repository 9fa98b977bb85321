"""What a provider's error means for the request: by its codes and by every provider's wording.

Providers refuse alike and word it apart, and a status says little: a filter, a prompt that is too
long and a mistake of ours are all 400. A row of the table below has a test of its own. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from popbuild.llm.native import Fault

FILTERED = "filtered"  # a content filter refuses this prompt
TOO_LONG = "too long"  # the prompt is longer than the model's context
NO_QUOTA = "no quota"  # money or quota is used up: no request will pass for a long time
TOO_LARGE = "too large"  # larger than a limit that no waiting lifts
LOADING = "loading"  # the model is not loaded yet


@dataclass(frozen=True)
class RefusalSign:
    """One sign of a meaning: a code, as it stands in one of an error's short names, or a wording.
    `source` says whose it is."""

    meaning: str
    source: str
    codes: str = ""
    words: str = ""


RULES = (
    # Filters.
    RefusalSign(
        FILTERED,
        "OpenAI, Azure",
        "content_filter content_policy_violation moderation_blocked responsibleaipolicyviolation "
        "invalid_prompt cyber_policy_violation",
        r"content management policy|safety system|violat\w+ (our |the )?(usage|content) polic",
    ),
    RefusalSign(FILTERED, "litellm", "", r"content[ _]policy[ _]?violation"),
    RefusalSign(FILTERED, "Anthropic", "", r"blocked by (our |the )?content[ -]filter"),
    RefusalSign(
        FILTERED, "OpenRouter", "", r"requires moderation|input was flagged|flagged (as|by|for) "
    ),
    RefusalSign(
        FILTERED,
        "Gemini",
        "prohibited_content blocked_reason",
        r"prompt was blocked|blocked due to safety",
    ),
    RefusalSign(FILTERED, "xAI", "", r"content violates usage guidelines|SAFETY_CHECK_TYPE"),
    RefusalSign(FILTERED, "DeepSeek", "", r"content exists risk"),
    RefusalSign(
        FILTERED,
        "DashScope",
        "data_inspection_failed datainspectionfailed",
        r"inappropriate content|data inspection failed",
    ),
    RefusalSign(FILTERED, "Moonshot", "content_filter", r"considered high risk"),
    RefusalSign(FILTERED, "Zhipu", "1301", r"unsafe or sensitive content|不安全或敏感"),
    RefusalSign(FILTERED, "Mistral", "guardrail_violation", r"guardrail|content moderation"),
    RefusalSign(
        FILTERED,
        "Bedrock",
        "",
        r"blocked by (a |the )?guardrail|content filter(ing)? (blocked|polic)",
    ),
    # Prompts that are too long.
    RefusalSign(
        TOO_LONG,
        "OpenAI",
        "context_length_exceeded string_above_max_length",
        r"maximum context length|context[ _]length[ _]exceeded|string too long",
    ),
    RefusalSign(TOO_LONG, "Azure", "model_max_prompt_tokens_exceeded", r"max prompt tokens"),
    RefusalSign(
        TOO_LONG,
        "Anthropic",
        "model_context_window_exceeded",
        r"prompt (is )?too long|input length and .?max_tokens.? exceed context",
    ),
    RefusalSign(TOO_LONG, "Gemini", "", r"input token count.{0,40} exceeds the maximum"),
    RefusalSign(TOO_LONG, "Mistral", "", r"prompt contains \d+ tokens.{0,60}too large for model"),
    RefusalSign(TOO_LONG, "xAI", "", r"maximum prompt length"),
    RefusalSign(
        TOO_LONG, "Groq", "", r"reduce the length of the (messages|prompt|input|completion)"
    ),
    RefusalSign(TOO_LONG, "Bedrock", "", r"input is too long|too many input tokens"),
    RefusalSign(
        TOO_LONG,
        "Cohere",
        "",
        r"total number of tokens in the prompt cannot exceed|too many tokens:",
    ),
    RefusalSign(
        TOO_LONG,
        "Ollama, llama.cpp",
        "exceed_context_size_error",
        r"(available|configured) context size|exceeds? (the )?context (length|window|size|limit)",
    ),
    RefusalSign(
        TOO_LONG,
        "vLLM, TGI",
        "",
        r"longer than the maximum model length|inputs.? tokens \+ .?max_new_tokens"
        r"|decoder prompt.{0,60}longer than",
    ),
    RefusalSign(
        TOO_LONG, "DashScope", "", r"range of input length should be|input length should be"
    ),
    RefusalSign(TOO_LONG, "Zhipu", "1261", r"prompt exceeds max length"),
    RefusalSign(
        TOO_LONG,
        "Together, Fireworks",
        "context_window_exceeded",
        r"prompt is too (long|large)"
        r"|(exceeds|larger than|over) (the )?(model'?s )?(maximum )?context (length|window)",
    ),
    RefusalSign(TOO_LONG, "Cerebras", "", r"current length is \d+ while limit is"),
    # Money and quotas.
    RefusalSign(
        NO_QUOTA,
        "OpenAI",
        "insufficient_quota billing_hard_limit_reached billing_not_active",
        r"billing hard limit|account is not active",
    ),
    RefusalSign(NO_QUOTA, "OpenAI, Perplexity", "", r"exceeded your current quota"),
    RefusalSign(
        NO_QUOTA,
        "Anthropic",
        "billing_error",
        r"credit balance is too low|reached your specified api usage limits",
    ),
    RefusalSign(
        NO_QUOTA,
        "OpenRouter",
        "",
        r"insufficient credits|requires more credits|free-models-per-day|key limit exceeded",
    ),
    RefusalSign(
        NO_QUOTA,
        "DeepSeek, others",
        "insufficient_balance",
        r"insufficient (account )?(balance|funds|quota)",
    ),
    RefusalSign(NO_QUOTA, "Moonshot", "exceeded_current_quota_error", ""),
    RefusalSign(
        NO_QUOTA,
        "xAI",
        "",
        r"used all available credits|(reached|hit) (its|your|the) monthly spending limit",
    ),
    RefusalSign(
        NO_QUOTA,
        "DashScope",
        "arrearage allocationquota.freetieronly",
        r"overdue[- ]payment|access denied, please make sure your account is in good standing",
    ),
    RefusalSign(NO_QUOTA, "Zhipu", "1113", r"余额不足|欠费"),
    RefusalSign(
        NO_QUOTA,
        "Cohere, others",
        "",
        r"(calls?|requests|tokens) ?(/|per) ?month|monthly (usage )?(limit|quota)",
    ),
    RefusalSign(
        NO_QUOTA,
        "Mistral, Together",
        "credit_limit payment_required",
        r"credit limit|payment required",
    ),
    # What no waiting lets through.
    RefusalSign(
        TOO_LARGE,
        "Anthropic",
        "request_too_large",
        r"request exceeds the maximum (size|allowed number of bytes)",
    ),
    RefusalSign(TOO_LARGE, "OpenAI, Groq", "", r"request too large"),
    RefusalSign(
        TOO_LARGE,
        "nginx, others",
        "payload_too_large request_entity_too_large",
        r"(payload|entity|body) (is )?too large",
    ),
    # Models that are not loaded.
    RefusalSign(
        LOADING,
        "Hugging Face",
        "model_loading",
        r"is currently loading|loading model|model is loading",
    ),
)
_PAYMENT_REQUIRED = 402
_TOO_LARGE = 413
_LIMIT = re.compile(r"limit:? *(\d[\d,]*).{0,80}?requested:? *(\d[\d,]*)", re.IGNORECASE)
_A_DAY = re.compile(r"per[ _-]?day|daily|\b[rt]pd\b", re.IGNORECASE)
_COMPILED = tuple(
    (
        rule,
        frozenset(rule.codes.split()),
        re.compile(rule.words, re.IGNORECASE) if rule.words else None,
    )
    for rule in RULES
)


def meaning_of(status: int | None, fault: Fault | None, wait_s: float | None = None) -> str | None:
    """What an error means beyond its status, or None where the status says it all. `wait_s` is how
    long the provider asks us to wait."""
    if status == _PAYMENT_REQUIRED:
        return NO_QUOTA
    if fault is not None:
        for rule, codes, words in _COMPILED:
            if codes & fault.codes or (words is not None and words.search(fault.message)):
                return None if _is_passing(rule, codes, fault, wait_s) else rule.meaning
        if _never_fits(fault.message):
            return TOO_LARGE
        if wait_s is None and _A_DAY.search(fault.message):
            return NO_QUOTA
        if any(
            "perday" in code for code in fault.codes
        ):  # Gemini: it asks for seconds all the same
            return NO_QUOTA
    return TOO_LARGE if status == _TOO_LARGE else None


def _is_passing(
    rule: RefusalSign, codes: frozenset[str], fault: Fault, wait_s: float | None
) -> bool:
    """Whether what sounds like a used-up quota is one of a minute: Gemini words both alike, and
    says when to come again."""
    return (
        rule.meaning == NO_QUOTA
        and not codes & fault.codes
        and wait_s is not None
        and not any("perday" in code for code in fault.codes)
    )


def _never_fits(message: str) -> bool:
    """`Limit 30000, Requested 40000`: more than a whole minute has."""
    found = _LIMIT.search(message)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "")) for number in found.groups())
    return requested > limit
