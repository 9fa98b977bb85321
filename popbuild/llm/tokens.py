"""Tokens of a text, counted without the network: tiktoken, with the tables that litellm carries."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from popbuild.llm.request import Message, text_of

_AROUND_A_MESSAGE = 4  # what a provider adds to each: its role and its ends
_ENCODING = "o200k_base"  # of OpenAI's models of today; other providers' differ by some percent


def count(messages: Iterable[Message]) -> int:
    """Tokens of a conversation, as OpenAI's models of today would count them."""
    encode = _encoder()
    return sum(_AROUND_A_MESSAGE + len(encode(text_of(message))) for message in messages)


@functools.cache
def _encoder() -> Any:
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        tables = Path(folder) / "litellm_core_utils" / "tokenizers"
        if tables.is_dir():
            # Without it tiktoken would download its tables.
            os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tables))
    import tiktoken

    return functools.partial(tiktoken.get_encoding(_ENCODING).encode, disallowed_special=())
