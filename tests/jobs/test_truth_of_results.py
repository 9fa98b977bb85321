"""What stands of a job, as a table: what it makes run that an artifact, a letter or a directory was
altered, moved or deleted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import truth
import two_jobs
from truth import Around, Change, Row, Table, another_root, edit, move, touched
from two_jobs import COMPLETE, CURRENT, FACTS, LETTERS, NEEDS, REJECTED, letter_deleted, seed
from workspace import Workspace

# The jobs are those of two_jobs.py; how to read the table says truth.py.
TEXT = """
change                                     | runs                  | asks                  | code

artifact deleted                           | facts                 |                       | 0
    facts: artifact missing
    check: artifact:facts:/title removed
artifact reformatted                       |                       |                       | 0
artifact edited and valid, where read      | check                 | check                 | 0
    facts: edited by hand
    check: artifact:facts:/title changed
artifact edited and valid, where not read  |                       |                       | 0
    facts: edited by hand
artifact edited and invalid                |                       |                       | 1
    facts: edited by hand
    check: artifact:facts:/title changed
artifact edited and no JSON any more       |                       |                       | 1
    facts: edited by hand
    check: artifact:facts:/title removed
artifact edited while stale                |                       |                       | 4
    facts: seed:/data/angle changed; edited by hand
    check: artifact:facts:/title changed
letter deleted                             | facts                 |                       | 0
    facts: never built
letter truncated                           | facts                 |                       | 0
    facts: letter damaged or altered
letter of another task                     | facts                 |                       | 0
    facts: letter damaged or altered

whole job copied to another root           |                       |                       | 0
job and its seed renamed                   |                       |                       | 0
job directory moved by hand: its name      | lead list facts maybe check |                 | 0
    lead list facts maybe check: never built
job directory moved by hand: to current/   |                       |                       | 0
job directory moved by hand: to rejected/  |                       |                       | 0
file touched                               |                       |                       | 0
clock moved back                           |                       |                       | 0
clock moved back, seed field printed       | lead facts            | lead facts            | 0
    lead: seed:/data/topic changed
"""


def artifact(**members: Any) -> Change:
    """Edit the artifact of `facts` by hand."""
    return lambda workspace: edit(workspace, FACTS, lambda body: body, members)


def artifact_torn(workspace: Workspace) -> None:
    workspace.write(FACTS, "{")


def artifact_while_stale(workspace: Workspace) -> None:
    artifact(title="On me")(workspace)
    seed(angle="costs")(workspace)


def artifact_reformatted(workspace: Workspace) -> None:
    body = workspace.read(FACTS)
    workspace.write(FACTS, json.dumps(dict(reversed(body.items()))))


def letter_truncated(workspace: Workspace) -> None:
    path = workspace.root / LETTERS / "facts/letter.json"
    path.write_bytes(path.read_bytes()[:200])


def letter_of_another_task(workspace: Workspace) -> None:
    shutil.copy(*(workspace.root / LETTERS / task / "letter.json" for task in ("lead", "facts")))


CLOCK_MOVED_BACK = Around(
    python="import time; now = time.time; time.time = lambda: now() - 30 * 86_400"
)


def edit_after_the_clock_moved_back(workspace: Workspace) -> Around:
    seed(topic="wind")(workspace)
    os.utime(workspace.root / "seeds/first.json", (0, 0))
    return CLOCK_MOVED_BACK


CHANGES: dict[str, Change] = {
    "artifact deleted": lambda workspace: (workspace.root / FACTS).unlink(),
    "artifact reformatted": artifact_reformatted,
    "artifact edited and valid, where read": artifact(title="On me"),
    "artifact edited and valid, where not read": artifact(weight=9),
    "artifact edited and invalid": artifact(title="x"),
    "artifact edited and no JSON any more": artifact_torn,
    "artifact edited while stale": artifact_while_stale,
    "letter deleted": letter_deleted,
    "letter truncated": letter_truncated,
    "letter of another task": letter_of_another_task,
    "whole job copied to another root": another_root,
    "job and its seed renamed": move(
        ("seeds/first.json", "seeds/other.json"), (f"{COMPLETE}/first", f"{COMPLETE}/other")
    ),
    "job directory moved by hand: its name": move((f"{COMPLETE}/first", f"{COMPLETE}/other")),
    "job directory moved by hand: to current/": move((f"{COMPLETE}/first", f"{CURRENT}/first")),
    "job directory moved by hand: to rejected/": move((f"{COMPLETE}/first", f"{REJECTED}/first")),
    "file touched": touched,
    "clock moved back": lambda workspace: CLOCK_MOVED_BACK,
    "clock moved back, seed field printed": edit_after_the_clock_moved_back,
}

ROWS = truth.rows(TEXT)
TABLE = Table(ROWS, CHANGES, NEEDS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[truth.Built]:
    yield from truth.built(tmp_path_factory.mktemp("built"), two_jobs.write, two_jobs.answer)


@pytest.fixture
def copied(built: truth.Built, tmp_path: Path) -> Iterator[Workspace]:
    yield from truth.copied(built, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=[row.change for row in ROWS])
def test_what_a_change_makes_run(row: Row, copied: Workspace) -> None:
    truth.follow(TABLE, row, copied)
