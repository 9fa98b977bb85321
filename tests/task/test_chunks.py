"""Chunks of a long text: how large they are, where they end, and what a change leaves alone."""

from __future__ import annotations

import random

import pytest

from popbuild.base.errors import TaskError
from popbuild.llm.tokens import count_text
from popbuild.task.chunks import chunks_of

WORDS = "the grid battery storage market report quarter sold price rising wind solar demand".split()
TOKENS = 300
MOST_CHANGED = 5


def paragraph(draw: random.Random) -> str:
    sentences = (
        " ".join(draw.choices(WORDS, k=draw.randint(5, 25))).capitalize() + "."
        for _ in range(draw.randint(2, 7))
    )
    return " ".join(sentences)


def document(draw: random.Random, *, headings: bool) -> list[str]:
    found = []
    for number in range(150):
        if headings and draw.random() < 0.2:
            found.append(f"{'#' * draw.randint(1, 3)} Part {number}")
        found.append(paragraph(draw))
    return found


@pytest.mark.parametrize("headings", [False, True])
@pytest.mark.parametrize("overlap", [0, 40])
@pytest.mark.parametrize("seed", range(6))
def test_a_change_moves_its_neighbours_only(seed: int, overlap: int, headings: bool) -> None:
    """A paragraph that is added near the start changes at most five chunks, and so does one that
    is taken away again; without overlap no word is lost or doubled."""
    draw = random.Random(seed)
    blocks = document(draw, headings=headings)
    at = draw.randint(0, 10)
    longer = [*blocks[:at], paragraph(draw), *blocks[at:]]
    before, after = (chunks_of("\n\n".join(each), TOKENS, overlap) for each in (blocks, longer))
    assert len(before) > 40
    assert 0 < len(set(after) - set(before)) <= MOST_CHANGED
    assert len(set(before) - set(after)) <= MOST_CHANGED
    assert max(map(count_text, after)) <= TOKENS
    if not overlap:
        assert " ".join(after).split() == "\n\n".join(longer).split()
    else:
        sizes = [count_text(each) for each in after]
        assert sum(sizes) > count_text("\n\n".join(longer))


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("", 10, ()),
        (" \n\n ", 10, ()),
        ("Short.", 10, ("Short.",)),
        (
            "# One\n\nA b c d e.\n\n# Two\n\nF g h i j.",
            12,
            ("# One\n\nA b c d e.", "# Two\n\nF g h i j."),
        ),
        ("One two three. Four five six.", 5, ("One two three.", "Four five six.")),
        (
            "```\n# no heading\na\n\nb\n```\n\nAfter the code.",
            13,
            ("```\n# no heading\na\n\nb\n```", "After the code."),
        ),
        ("これは一。これは二。", 4, ("これは一。", "これは二。")),
    ],
)
def test_where_chunks_end(text: str, tokens: int, expected: tuple[str, ...]) -> None:
    """At headings, paragraphs and sentences, and not inside of code while that fits."""
    assert chunks_of(text, tokens, 0) == expected


@pytest.mark.parametrize(
    "text", ["x" * 5_000, "word " * 2_000, "\n" * 5_000 + "end", "0123456789 " * 900]
)
def test_what_has_no_boundary(text: str) -> None:
    """A text without an end of a sentence is cut between words, and a word anywhere."""
    found = chunks_of(text, 100, 10)
    assert max(map(count_text, found)) <= 110
    assert set("".join(found)) <= set(text)


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_sizes_that_cannot_be(tokens: int, overlap: int) -> None:
    with pytest.raises(TaskError, match="not a size of chunks"):
        chunks_of("A text.", tokens, overlap)
