"""Keys out of texts: no key may stand in a file, a log or an error. And names that say key."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?$", re.IGNORECASE)
_KEY_SHAPED = re.compile(r"\b(sk|pk|rk)-[A-Za-z0-9_-]{12,}")
_MIN_CHARS = 8  # a shorter value is no key, and might be a word of the text
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    "key keys apikey apikeys secret secrets token password passwords passwd passphrase "
    "credential credentials authorization bearer cookie".split()
)
# What these say of a secret word is no secret: `cache_key`, `public_key`, `cost_per_token`.
_HARMLESS_BEFORE = frozenset("cache public per bos eos pad unk stop special".split())
# `oci_key_file`, `token_url`, `token_cost_above_128k`, `stop_token_ids`; but `access_key_id`.
_HARMLESS_AFTER = frozenset("file path url uri cost limit budget count type ids".split())


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable, and what looks like a key, replaced."""
    return _KEY_SHAPED.sub("[key]", without_secrets(text, environment))


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """The text with every value of a secret variable replaced."""
    for form, name in _forms(tuple(environment.items())):
        text = text.replace(form, f"[{name}]")
    return text


@functools.lru_cache(maxsize=8)
def _forms(environment: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Each text that a secret may stand as, with its variable."""
    found: dict[str, str] = {}
    for name, value in environment:
        if len(value) >= _MIN_CHARS and _SECRET_NAME.search(name):
            # Also as JSON and Python quote it: a private key has several lines.
            for form in (value, json.dumps(value)[1:-1], repr(value)[1:-1]):
                found.setdefault(form, name)
    return tuple(found.items())


def redact_value(value: Any, environment: Mapping[str, str]) -> Any:
    """A JSON value with every text in it, names of fields too, as `redact` leaves it."""
    whole = "\n".join(_texts(value))  # mostly there is nothing to find, and one look is enough
    return value if redact(whole, environment) == whole else _redacted(value, environment)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _redacted(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return redact(value, environment)
    if isinstance(value, list):
        return [_redacted(each, environment) for each in value]
    if isinstance(value, dict):
        return {
            redact(name, environment): _redacted(each, environment) for name, each in value.items()
        }
    return value


def names_secret(name: str) -> bool:
    """Whether a setting's name says that its value is a secret: `x-api-key`, `awsSessionToken`.

    By whole words, so that `max_tokens`, `keywords` and `tokenizer` are none.
    """
    words = [each.casefold() for each in _WORD.findall(name)]
    return any(
        word in _SECRET_WORDS
        and not _HARMLESS_BEFORE.intersection(words[max(number - 1, 0) : number])
        and not _HARMLESS_AFTER.intersection(words[number + 1 : number + 2])
        for number, word in enumerate(words)
    )
