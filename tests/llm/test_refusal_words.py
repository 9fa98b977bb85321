"""What providers' errors mean, by their codes and their words: a row for each wording."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from popbuild.llm.faults import fault_of, retry_after_s, seconds_in
from popbuild.llm.refusals import (
    FILTERED,
    LOADING,
    NO_QUOTA,
    SIGN_CODES,
    SIGN_WORDS,
    TOO_LARGE,
    TOO_LONG,
    meaning_of,
)

# The text of an error, as it stands in a provider's documentation or threads about it.
WORDS = {
    # --- filters
    "The prompt triggered Azure OpenAI's content management policy.": FILTERED,
    "Your request was rejected as a result of our safety system.": FILTERED,
    "Your prompt was flagged as potentially violating our usage policy.": FILTERED,
    "This request may violate our usage policies.": FILTERED,
    "content_policy_violation: rejected": FILTERED,
    "Output blocked by content filtering policy": FILTERED,
    'Your chosen model requires moderation and your input was flagged for "violence".': FILTERED,
    "The prompt was blocked.": FILTERED,
    "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_CSAM": FILTERED,
    "Content Exists Risk": FILTERED,
    "Input data may contain inappropriate content.": FILTERED,
    "The request was rejected because it was considered high risk": FILTERED,
    "系统检测到输入或生成内容可能包含不安全或敏感内容": FILTERED,
    "The request was stopped by a guardrail": FILTERED,
    # --- prompts that are too long
    "This model's maximum context length is 8192 tokens.": TOO_LONG,
    "Invalid 'messages[0].content': string too long.": TOO_LONG,
    "prompt is too long: 208310 tokens > 200000 maximum": TOO_LONG,
    "Prompt too long": TOO_LONG,
    "input length and `max_tokens` exceed context limit: 199759 + 20000 > 200000": TOO_LONG,
    "The input token count (1200000) exceeds the maximum number of tokens.": TOO_LONG,
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model": TOO_LONG,
    "This model's maximum prompt length is 131072.": TOO_LONG,
    "Please reduce the length of the messages or completion.": TOO_LONG,
    "Input is too long for requested model.": TOO_LONG,
    "too many tokens: total number of tokens in the prompt cannot exceed 4081": TOO_LONG,
    "the request exceeds the available context size. try increasing the context size": TOO_LONG,
    "The prompt is longer than the maximum model length": TOO_LONG,
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens": TOO_LONG,
    "Requested tokens (5000) exceed context window of 4096": TOO_LONG,
    "Range of input length should be [1, 30720]": TOO_LONG,
    "Prompt exceeds max length": TOO_LONG,
    "Current length is 9000 while limit is 8192": TOO_LONG,
    "input is larger than the model's maximum context length": TOO_LONG,
    # --- money and quotas
    "You exceeded your current quota, please check your plan and billing details.": NO_QUOTA,
    "Billing hard limit has been reached": NO_QUOTA,
    "Payment Required": NO_QUOTA,
    "max prompt tokens exceeded": TOO_LONG,
    "Your account is not active, please check your billing details on our website.": NO_QUOTA,
    "Your credit balance is too low to access the Anthropic API.": NO_QUOTA,
    "You have reached your specified API usage limits.": NO_QUOTA,
    "This request requires more credits, or fewer max_tokens.": NO_QUOTA,
    "Insufficient credits. Add more using https://openrouter.ai/credits": NO_QUOTA,
    "Rate limit exceeded: free-models-per-day": NO_QUOTA,
    "Insufficient Balance": NO_QUOTA,
    "Your team has used all available credits.": NO_QUOTA,
    "您的账户余额不足": NO_QUOTA,
    "You are using a Trial key, which is limited to 1000 API calls / month.": NO_QUOTA,
    "Access denied, please make sure your account is in good standing.": NO_QUOTA,
    "Too many tokens per day, please wait before trying again.": NO_QUOTA,
    # --- what no waiting lets through
    "Request too large for gpt-4o: Limit 30000, Requested 40000.": TOO_LARGE,
    "Rate limit reached (TPM): Limit: 30000, Used: 0, Requested: 40000.": TOO_LARGE,
    "Request exceeds the maximum size": TOO_LARGE,
    "Payload Too Large": TOO_LARGE,
    # --- models that are not loaded
    "Model meta-llama/Llama-3 is currently loading": LOADING,
    "Loading model": LOADING,
    # --- what the status says already
    "Rate limit reached: Limit 30000, Used 29000, Requested 2000.": None,
    "Number of request tokens has exceeded your per-minute rate limit": None,
    "This request would exceed your organization's rate limit of 10,000 tokens.": None,
    "max_tokens is too large: 100000. At most 16384 completion tokens.": None,
    "Invalid value for 'temperature'": None,
    "The server had an error while processing your request.": None,
    "Overloaded": None,
    "Service tier capacity exceeded for this model.": None,
    "No response schema is allowed with this model": None,
}


@pytest.mark.parametrize("words", WORDS)
def test_an_error_means_what_its_words_say(words: str) -> None:
    """Whatever form the error has."""
    for body in (
        {"error": {"message": words, "type": "invalid_request_error", "code": None}},
        {"type": "error", "error": {"type": "invalid_request_error", "message": words}},
        {"object": "error", "message": words, "type": "x", "code": 1},
        {"error": words},
        {"detail": words},
        [{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}],
        {"error": {"message": "Provider returned error", "metadata": {"raw": words}}},
    ):
        assert meaning_of(400, fault_of(body)) == WORDS[words], body


CODES = [
    (code, meaning)
    for meaning, rows in SIGN_CODES.items()
    for row in rows.values()
    for code in row.split()
]
RULES = [(meaning, row) for meaning, rows in SIGN_WORDS.items() for row in rows.values()]


@pytest.mark.parametrize(("code", "meaning"), CODES)
def test_an_error_means_what_its_code_says(code: str, meaning: str) -> None:
    """Wherever the code stands, in whatever case, and whatever the message."""
    for error in (
        {"code": code},
        {"type": code.upper()},
        {"code": "400", "innererror": {"code": code}},
        {"status": code, "details": [{"reason": code}]},
    ):
        assert meaning_of(400, fault_of({"error": {"message": "No.", **error}})) == meaning


@pytest.mark.parametrize(("meaning", "pattern"), RULES)
def test_each_rule_is_needed(meaning: str, pattern: str) -> None:
    """Its words are found in the table above, in one that means what it says."""
    found = [words for words in WORDS if re.search(pattern, words, re.IGNORECASE)]
    assert any(WORDS[words] == meaning for words in found), pattern


def test_statuses_by_themselves() -> None:
    assert meaning_of(402, None) == NO_QUOTA
    assert meaning_of(413, None) == TOO_LARGE
    assert [meaning_of(status, None) for status in (400, 401, 404, 429, 500, 529)] == [None] * 6


def gemini(quota_id: str, retry: str | None = "34s") -> Any:
    """Gemini's 429: its words are the same for a minute and for a day."""
    details: list[Any] = [{"@type": "QuotaFailure", "violations": [{"quotaId": quota_id}]}]
    if retry:
        details.append({"@type": "RetryInfo", "retryDelay": retry})
    message = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"code": 429, "message": message, "details": details}}


def test_a_quota_of_a_minute_passes() -> None:
    """One of a day does not, though Gemini asks to come again in seconds."""
    minute = fault_of(gemini("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"))
    day = fault_of(gemini("GenerateRequestsPerDayPerProjectPerModel-FreeTier"))
    assert minute is not None
    assert minute.retry_after == "34s"
    assert meaning_of(429, minute, 34.0) is None
    assert meaning_of(429, day, 34.0) == NO_QUOTA
    assert meaning_of(429, fault_of(gemini("x", retry=None)), None) == NO_QUOTA


def test_what_is_no_error() -> None:
    for body in (None, [], {}, "text", 3, {"message": {"content": "hello"}, "done": True}):
        fault = fault_of(body) if not isinstance(body, dict) or not body else None
        assert fault is None, json.dumps(body)


NOW_S = 1_789_997_600.0  # Mon, 21 Sep 2026 13:33:20 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        (" 7 ", 7.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("2m", 120.0),
        ("250ms", 0.25),
        ("1h", 3600.0),
        ("6m0.5s", 360.5),
        ("Mon, 21 Sep 2026 13:33:50 GMT", 30.0),
        ("Mon, 21 Sep 2026 13:33:50", 30.0),
        ("Mon, 21 Sep 2026 13:33:50 -0000", 30.0),
        ("Mon, 21 Sep 2026 15:33:50 +0200", 30.0),
        ("Monday, 21-Sep-26 13:33:50 GMT", 30.0),
        ("Mon Sep 21 13:33:50 2026", 30.0),
        ("Sun, 20 Sep 2026 13:33:20 GMT", 0.0),
        ("-5", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Mon, 99 Sep 2026 99:99:99 GMT", None),
    ],
)
def test_how_long_to_wait(
    text: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever zone this machine is."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert seconds_in(text, NOW_S) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_milliseconds_come_first() -> None:
    headers = {"retry-after-ms": "1500", "retry-after": "9"}
    assert retry_after_s(headers, NOW_S) == 1.5
    assert retry_after_s({"retry-after": "30s"}, NOW_S, "5s") == 30.0
    assert retry_after_s({}, NOW_S, "5s") == 5.0
    assert retry_after_s({}, NOW_S) is None
