"""Keys out of texts: no file, log or error may hold a key. And which names mean secrets."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?$", re.IGNORECASE)
_KEY_SHAPED = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{35}"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bgsk_[A-Za-z0-9]{40,}"
    r"|\bnpm_[A-Za-z0-9]{36}|\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.{0,20000}?-----END (?:[A-Z]+ )*PRIVATE KEY-----"
    r"|(?<=://)[^\s/:@\"']{1,100}:[^\s/:@\"']{1,200}(?=@)",  # of a URL: who, and the password
    re.DOTALL,
)
# Every text that the pattern matches has one of these, and they are found a hundred times faster.
_KEY_SIGNS = (
    *("sk-", "pk-", "rk-", "AKIA", "ASIA", "AIza", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    *("github_pat_", "glpat-", "xox", "hf_", "gsk_", "npm_", "AGE-SECRET-KEY-1", "eyJ"),
    *("PRIVATE KEY-----", "://"),
)
_SHORT_SIGN = re.compile(r"(?:sk|pk|rk)-")
_DRAWN = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z0-9]{16}")
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_MIN_CHARS = 8  # a shorter value is not a key, and might be a word of the text
_MIN_KEY_CHARS = 16  # a shorter one may well be a word of a prompt
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    "key keys apikey apikeys secret secrets token password passwords passwd passphrase "
    "credential credentials authorization bearer cookie".split()
)
# These make a secret word harmless: `cache_key`, `public_key`, `cost_per_token`.
_HARMLESS_BEFORE = frozenset("cache public per bos eos pad unk stop special".split())
# `oci_key_file`, `token_url`, `token_cost_above_128k`, `stop_token_ids`; but `access_key_id`.
_HARMLESS_AFTER = frozenset("file path url uri cost limit budget count type ids".split())


class Variables(dict[str, str]):
    """An environment that stays as it is, so that its secrets are looked for once."""

    @functools.cached_property
    def secrets(self) -> tuple[tuple[str, str], ...]:
        """Names of variables with the secrets in them: whole values, or the passwords of URLs."""
        return tuple(_secrets_among(self.items()))


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable, and all that looks like a key, replaced."""
    text = without_secrets(text, environment)
    return _KEY_SHAPED.sub("[key]", text) if any(each in text for each in _KEY_SIGNS) else text


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable replaced."""
    for name, value in _secrets(environment):
        for form in _forms(value):
            text = text.replace(form, f"[{name}]")
    return text


def secret_in(text: str, environment: Mapping[str, str]) -> str | None:
    """The name of a secret variable whose value a text has in any form, or None."""
    for name, value in _secrets(environment):
        if len(value) >= _MIN_KEY_CHARS and any(form in text for form in _forms(value)):
            return name
    return None


def key_in_name(name: str, environment: Mapping[str, str]) -> str | None:
    """Which key a name has in it that would be written in many places, or None.

    Of texts that look like keys only random ones: `sk-market-analysis`, masked in texts, may well
    be a name.
    """
    variable = secret_in(name, environment)
    if variable is not None:
        return f"the value of {variable}"
    for each in _KEY_SHAPED.findall(name):
        if not _SHORT_SIGN.match(each) or _DRAWN.search(each):
            return "what looks like a key"
    return None


def _secrets(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return (environment if isinstance(environment, Variables) else Variables(environment)).secrets


def _secrets_among(environment: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in environment:
        if len(value) >= _MIN_CHARS:
            if _is_secret_variable(name):
                yield name, value
            elif "@" in value:
                yield from ((name, each) for each in _URL_PASSWORD.findall(value) if each)


@functools.cache
def _is_secret_variable(name: str) -> bool:
    return bool(_SECRET_NAME.search(name)) or names_secret(name)


@functools.lru_cache(maxsize=256)
def _forms(value: str) -> tuple[str, ...]:
    """A secret as it is, as JSON, Python and URLs quote it (a private key has several lines), and
    in base64, also inside other text, as in `Authorization: Basic`. The longest first."""
    quoted = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    quoted.append(json.dumps(quoted[0])[1:-1])  # a text of JSON in JSON
    data = value.encode("utf-8", "surrogateescape")
    quoted += [repr(value)[1:-1], quote(data, safe=""), quote(data), quote_plus(data)]
    for before in range(3):
        # Without the ends, which depend on the text around.
        start, end = (0, 2, 3)[before], (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            quoted.append(encode(b"\0" * before + data).decode()[start:end])
    return tuple(sorted({value, *quoted}, key=len, reverse=True))


def redact_value(
    value: object, environment: Mapping[str, str], clean: Callable[..., str] = redact
) -> Any:
    """A JSON value with every text in it, names of fields too, as `clean` gives it."""
    whole = "\n".join(_texts(value))  # mostly nothing is found, and one search is enough
    if clean(whole, environment) == whole:
        return value
    return _cleaned(value, lambda text: clean(text, environment))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _cleaned(value: object, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(each, clean) for each in value]
    if isinstance(value, dict):
        return {clean(name): _cleaned(each, clean) for name, each in value.items()}
    return value


def names_secret(name: str) -> bool:
    """Whether a setting's name means a secret, as `x-api-key` and `awsSessionToken` do. Only whole
    words count: `max_tokens`, `keywords` and `tokenizer` are harmless."""
    words = [each.casefold() for each in _WORD.findall(name)]
    return any(
        word in _SECRET_WORDS
        and not _HARMLESS_BEFORE.intersection(words[max(number - 1, 0) : number])
        and not _HARMLESS_AFTER.intersection(words[number + 1 : number + 2])
        for number, word in enumerate(words)
    )
