"""tasks-status.json as it is written while a job runs: part by part, and always the same bytes."""

from __future__ import annotations

import random

from popbuild.base import jsonio
from popbuild.base.paths import FILE_KINDS
from popbuild.jobs.status_bytes import StatusBytes
from popbuild.model import status as states


def test_it_is_the_text_of_the_whole_status_after_every_change() -> None:
    """However a status changes, what is written is what a plain encoder would write."""
    draw, text = random.Random(17), StatusBytes()
    names = [f"task-{number}" for number in range(9)]
    status = states.new(
        "run", "job", 'a "name"\n of ünicode \u2028', names, "2026-01-01T00:00:00.000Z"
    )
    for number in range(400):
        name, kind = draw.choice(names), draw.choice(FILE_KINDS)
        match draw.randrange(6):
            case 0:
                status = states.add_file(status, name, kind, f"{name}-{number}.json")
            case 1 if status["files"][kind]:
                status = states.drop_name(status, kind, draw.choice(status["files"][kind]))
            case 2:
                status = states.move_task(status, name, "running")
                status = states.at_stage(status, name, "parsing")
            case 3 if status["tasks"][name]["state"] == "running":
                error = {"message": "no\nline", "cost": 1e-05, "usage": {}, "list": []}
                status = states.move_task(status, name, "error", error=error)
            case 4:
                status = states.start_run(status, f"run {number}", "job", names[: number % 9 + 1])
            case 5:
                status = states.cut_short(status, states.STOPPED, "killed")
                status = states.start_run(status, f"run {number}", "job", names)
        if len(status["tasks"]) < len(names):
            assert text.encoded(status) == jsonio.dumps(status, sort=False)
            status = states.start_run(status, "run", "job", names)
        assert text.encoded(status) == jsonio.dumps(status, sort=False)


def test_a_job_without_tasks_and_files() -> None:
    """Nothing is an object without members."""
    status = {**states.new("run", "job", "name", [], "now"), "files": {}}
    assert StatusBytes().encoded(status) == jsonio.dumps(status, sort=False)
