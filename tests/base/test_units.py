"""How amounts and lines are shown."""

from __future__ import annotations

import pytest

from popbuild.base.units import fit_line

ROOM = 70  # beside a head of ten characters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a" * ROOM, "a" * ROOM),
        ("a" * (ROOM + 1), "a" * (ROOM - 1) + "…"),
        ("a" * (ROOM - 2) + "… and more", "a" * (ROOM - 2) + "…"),  # cut before: one mark
        ("a" * (ROOM - 3) + "   more", "a" * (ROOM - 3) + "…"),
        ("", ""),
    ],
)
def test_a_line_that_is_cut_has_one_mark(text: str, shown: str) -> None:
    assert fit_line(" " * 10, text) == " " * 10 + shown
