"""popbuild.api: the same verbs, and the same JSON, for programs."""

from __future__ import annotations

import json

import pytest
from patience import eventually
from provider import Provider
from workspace import Workspace

BUILD = """
import json
from popbuild.api import Popbuild

here = Popbuild()
seed = {"name": "Sent", "data": {"topic": "bees", "tone": "dry"}}
assert here.check(seed) == ()
assert [each.pointer for each in here.check(b'{"name": "x", "data": []}')] == ["/data"]
job = here.submit(seed, "sent")
planned = here.plan(job)
assert [task.task for task in planned[0].tasks] == ["research", "analysis"]
print(json.dumps([result.as_json()["outcome"] for result in here.build(job)]))
print(json.dumps([result.as_json()["outcome"] for result in here.build(job)]))
print(json.dumps(here.job(job)))
print(here.read(job, "analysis-output.json").decode())
assert {file.kind for file in here.files(job)} >= {"artifacts", "logs", "tasks"}
assert [each.task for each in here.explain(job)] == ["research", "analysis"]
assert list(here.pipelines()) == [""]
assert [each["id"] for each in here.jobs()] == ["first", "sent"]
"""


def test_a_program_builds(workspace: Workspace, provider: Provider) -> None:
    """What a program sees is what commands print; a second build calls nothing."""
    ended = workspace.run("python", "-c", BUILD)
    assert (ended.code, ended.err) == (0, ""), ended
    first, second, job, *_ = ended.out.splitlines()
    assert (json.loads(first), json.loads(second)) == (["complete"], ["up to date"])
    assert [json.loads(job)] == json.loads(workspace.popbuild("status", "sent", "--json").out)
    assert len(provider.requests) == 2


EVENTS = """
import asyncio
from popbuild.api import Popbuild

async def main():
    async for event in Popbuild().events():
        print(event.kind, event.body.get("id", ""), event.body.get("standing", ""), flush=True)
        if event.body.get("standing") == "complete":
            return

asyncio.run(main())
"""


def test_a_program_hears(workspace: Workspace) -> None:
    """A program is told of what another process does, as it happens, and then ends by itself."""
    with workspace.start("python", "-c", EVENTS) as listening:
        listening.wait_for("reset")
        assert workspace.popbuild("run", "first").code == 0
        ended = listening.wait()
    assert (ended.code, ended.err) == (0, ""), ended
    lines = ended.out.splitlines()
    assert lines[0].split() == ["hello"]
    assert lines[-1].split() == ["job", "first", "complete"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Popbuild('elsewhere')", "not a popbuild root"),
        ("Popbuild().job('frist')", "no such job"),
        ("Popbuild().stop('first', 'frist')", "no such job"),
        ("Popbuild().submit({'name': ''})", "not a valid seed"),
        ("Popbuild().read('first', '../../seeds/first.json')", "the job has no files yet"),
        ("Popbuild().approve('first')", "the job does not wait for a person"),
    ],
)
def test_what_is_wrong_is_an_error_of_ours(workspace: Workspace, code: str, said: str) -> None:
    """Every error is a PopbuildError that says what is wrong."""
    program = f"""
from popbuild.api import Popbuild
from popbuild.base.errors import PopbuildError
try:
    {code}
except PopbuildError as error:
    print(error.message)
"""
    ended = workspace.run("python", "-c", program)
    assert (ended.code, ended.out.strip()) == (0, said), ended


# Two threads of one program build a job each, many times.
THREADS = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from popbuild.api import Popbuild

here = Popbuild(".")
with ThreadPoolExecutor(2) as pool:
    results = list(pool.map(here.build, ["one", "two"]))
for _ in range(5):
    here.build("one", always=True)
    opened = len(os.listdir("/proc/self/fd"))
for _ in range(20):
    here.build("one", always=True)
more = len(os.listdir("/proc/self/fd")) - opened
print(json.dumps([[each.outcome for result in results for each in result], more]))
"""


def test_builds_of_one_program_buy_a_call_once(workspace: Workspace, provider: Provider) -> None:
    """As processes do: one of two that want the same answer waits for the other. And they leave no
    file open, however many there are."""
    workspace.pipeline(["research"])
    for job in ("one", "two"):
        workspace.seed(job, {"topic": "grid batteries"})
    provider.hold()
    running = workspace.start("python", "-c", THREADS)
    provider.wait_for(1)
    eventually(lambda: len(list(workspace.root.glob("pipeline-data/current/*"))) == 2)
    provider.release()
    result = running.wait()
    assert result.code == 0, result.err
    assert json.loads(result.out.splitlines()[-1]) == [["complete", "complete"], 0]
    assert len(provider.requests) == 1
