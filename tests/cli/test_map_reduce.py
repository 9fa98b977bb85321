"""docs/map-reduce.md: what stands there for popbuild is built as it says, in as many lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from provider import Provider, Reply, Request
from workspace import CHECKOUT, Workspace

PAGE = (CHECKOUT / "docs/map-reduce.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
PLACE = re.compile(r"(?:# |// |<!-- )(\S+)(?: -->)?\n")
OTHERS = ("pipeline.yaml", "dvc.yaml")


def files(part: str) -> dict[str, str]:
    """The files of a part of the page, by their paths; a table without one is seeds/raw.csv."""
    found = {}
    for kind, text in BLOCK.findall(part):
        named = PLACE.match(text)
        found[named[1] if named else f"seeds/raw.{kind}"] = text[named.end() :] if named else text
    return found


MEDICINES, CLEAN = (files(part) for part in re.split(r"(?m)^## ", PAGE)[1:])


@pytest.mark.parametrize(("part", "other"), [(MEDICINES, OTHERS[0]), (CLEAN, OTHERS[1])])
def test_the_page_counts_its_lines(part: dict[str, str], other: str) -> None:
    theirs, ours = (
        sum(len(text.splitlines()) for name, text in part.items() if (name == other) == is_theirs)
        for is_theirs in (True, False)
    )
    section = PAGE[: PAGE.index(f"# {other}")].rpartition("## ")[2]
    assert re.findall(r"(\d+) lines", section)[-1:] == [str(theirs)]
    after = PAGE[PAGE.index(f"# {other}") :]
    assert re.findall(r"(\d+) lines", after)[0] == str(ours)


def test_medicines(tmp_path: Path, provider: Provider) -> None:
    def answer(request: Request) -> Reply:
        prompt = request.said("user").lower()
        names = [name for name in ("aspirin", "ibuprofen") if name in prompt]
        return Reply(json.dumps({"medicines": names}) if request.schema else prompt)

    provider.answer = answer
    with Workspace(tmp_path, provider) as workspace:
        for name, text in MEDICINES.items():
            if name not in OTHERS:
                workspace.write(name, text.replace("gpt-4o-mini", "openai/gpt-4o-mini"))
        assert workspace.popbuild("validate").code == 0
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) == 4
        reports = workspace.artifact("clinic", "report")["items"]
        assert [each["output"]["content"].split(",")[0] for each in reports] == [
            "write about aspirin",
            "write about ibuprofen",
        ]
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) == 4
        # A transcript that names the same medicine: its call, and that of one report.
        seed = workspace.read("seeds/clinic.json")
        seed["data"]["transcripts"][0]["src"] = "She takes aspirin daily."
        workspace.write("seeds/clinic.json", seed)
        assert workspace.popbuild("run").code == 0
        assert len(provider.requests) == 6


def test_clean(tmp_path: Path, provider: Provider) -> None:
    with Workspace(tmp_path, provider) as workspace:
        for name, text in CLEAN.items():
            if name not in OTHERS:
                workspace.write(name, text)
        for name in ("north", "south", "east"):
            workspace.write(f"inputs/{name}.txt", f"  {name}\n\n  wind \n")
        assert workspace.popbuild("run").code == 0
        assert workspace.artifact("south", "clean") == {"content": "south wind"}
        workspace.write("inputs/south.txt", "south sea")
        listed = json.loads(workspace.popbuild("list", "--json").out)
        assert [job["id"] for job in listed if not job["upToDate"]] == ["south"]
        assert workspace.popbuild("run").code == 0
        assert workspace.artifact("south", "clean") == {"content": "south sea"}
        assert provider.requests == []
