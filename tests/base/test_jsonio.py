"""JSON as it stands on disk, whichever of two encoders writes it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbuild.base import jsonio

_TEXTS = st.text(st.characters(codec="utf-8"))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
    max_leaves=30,
)  # fmt: skip


def by_python(value: Any, *, sort: bool) -> bytes:
    text = json.dumps(value, indent=2, sort_keys=sort, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


@given(_VALUES, st.booleans())
def test_what_is_written_is_read_again(value: Any, sort: bool) -> None:
    """The same value in the same order; and the same text, but for the exponents of numbers."""
    written = jsonio.dumps(value, sort=sort)
    assert jsonio.loads(written, "here") == value
    assert json.dumps(json.loads(written)) == json.dumps(json.loads(by_python(value, sort=sort)))
    plain = by_python(value, sort=sort)
    if not any(
        b"e" in each.replace(b"true", b"").replace(b"false", b"") for each in (written, plain)
    ):
        assert written == plain


@pytest.mark.parametrize(
    "value",
    [
        1 << 70,
        [-(1 << 64)],
        {"deep": json.loads("[" * 190 + "]" * 190)},
        {"a": None},
        (1, 2),
        {1: 2},
    ],
    ids=["large", "small", "deep", "null", "tuple", "integer as a name"],
)
def test_what_one_encoder_cannot_write_the_other_does(value: Any) -> None:
    assert jsonio.dumps(value) == by_python(value, sort=True)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": [None, -math.inf]}])
def test_no_number_that_is_none_in_json(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsonio.dumps(value)


def test_half_a_pair_is_not_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        jsonio.dumps({"text": "\ud800"})


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(TypeError):
        jsonio.dumps({"when": {1, 2}})
