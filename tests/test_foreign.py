"""Data that another program wrote after the storage document: its letters are not ours, and nothing
of it is taken for damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from workspace import Workspace

from popbuild import ailments
from popbuild.exam import is_foreign_letter
from popbuild.layout import JobFolder, Root
from popbuild.model.letter import looks_ours

LETTERS = {
    "task and time": {"task": "research", "at": "2025-10-02T06:37:48.243Z"},
    "what the document names": {
        "task": "research",
        "configuration": {"model": "gpt-5-nano"},
        "execution": {"startedAt": "2025-10-02T06:37:30.061Z"},
        "calls": [{"model": "gpt-5-nano", "cost": 0.1}],
        "usage": {"inputTokens": 45},
        "validation": [],
    },
    "a version of its own": {"formatVersion": 3, "meta": {"task": "research"}},
    "a digest of its own": {"digest": "sha256:00", "outputs": ["a.json"]},
    "empty object": {},
    "list": [1, {"formatVersion": 1}],
    "text": "ok",
    "number": 7,
    "null": None,
}


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
def test_a_letter_of_another_shape_is_not_ours(letter: Any) -> None:
    """The storage document says that a letter's shape varies."""
    assert not looks_ours(json.dumps(letter).encode())
    assert not looks_ours(json.dumps(letter, indent=2).encode())


MARKED = ("altered", "cut short", "cut to a line", "without a version", "without a digest")
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "altered": lambda data: data.replace(b'"research"', b'"other"'),
    "cut short": lambda data: data[:-5],
    "cut to a line": lambda data: data[:30],
    "without a version": lambda data: data.replace(b'"formatVersion"', b'"format"'),
    "without a digest": lambda data: data.replace(b'"digest"', b'"dig"'),
    "emptied": lambda _: b"",
    "zeroed": lambda data: bytes(len(data)),
    "replaced": lambda _: b'{"task": "research", "at": "2025-10-02T06:37:48.243Z"}',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_letter_of_ours_stays_damage(
    workspace: Workspace, damage: Callable[[bytes], bytes]
) -> None:
    """Whatever became of a letter of ours, it is not taken for another program's."""
    assert workspace.popbuild("run", "first").code == 0
    letter = workspace.job("first") / "tasks/research/letter.json"
    letter.write_bytes(damage(letter.read_bytes()))
    marked = looks_ours(letter.read_bytes())
    assert marked == (damage in [DAMAGE[name] for name in MARKED])  # without asking the status
    assert not is_foreign_letter(JobFolder(workspace.job("first")), "research")
    (ailment,) = ailments.look(Root(workspace.root))
    assert (ailment.kind, ailment.path) == (ailments.LETTER, letter)
