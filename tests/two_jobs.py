"""Two jobs for truth tables: their files, and what is answered."""

from __future__ import annotations

import json
import re
from typing import Any

from provider import Reply, Request, default_answer
from truth import Change, edit
from workspace import Workspace

# The job `first`:
#
#   lead   prints seed.data.topic, tests seed.data.deadline, which is absent; has a system message
#   list   loops over seed.data.points; includes shared/style.md, and shared/extra.md if there;
#          uses a filter of filters.py, which imports helpers/marks.py
#   facts  needs lead; prints all of seed.data.audience, angle and weight, and lead's text; has a
#          schema that refers to shared/title.schema.json; answers with a title and a weight
#   check  needs facts; its stages.py reads facts' title and seed.data.tone by pointer, and imports
#          helpers/limits.py, which imports helpers/numbers.py, by a call helpers/named.py, and
#          helpers/extra.py if it is there
#   maybe  is skipped: its condition asks whether seed.data.mood is "loud"
#
# The job `second`, of the pipeline `tools`:
#
#   tool   a command: it is given its whole seed
#
# `facts` answers by its angle and weight alone, whatever else stands in its prompt: what is new in
# `lead` makes it run, and then stops there. The other answers differ for each request.
NEEDS = {
    "lead": [],
    "list": [],
    "facts": ["lead"],
    "maybe": [],
    "check": ["facts"],
    "tool": [],
    "more": [],
}

FIRST = ["lead", "list", "facts", "maybe", "check"]

COMPLETE, CURRENT, REJECTED = (
    f"pipeline-data/{each}" for each in "complete current rejected".split()
)
FACTS = f"{COMPLETE}/first/files/artifacts/facts-output.json"
LETTERS = f"{COMPLETE}/first/tasks"

SEED: dict[str, Any] = {
    "topic": "grid batteries",
    "note": "no task reads this",
    "points": ["cost", "safety"],
    "audience": {"who": "engineers", "level": "expert"},
    "angle": "prices",
    "weight": 3,
    "tone": "plain",
    "mood": "calm",
}
FACTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "weight": {"type": "number"},
        "title": {"$ref": "../../shared/title.schema.json"},
    },
    "required": ["title", "weight"],
}
STAGES = """\
import textwrap
from importlib import import_module

from helpers import limits

try:
    from helpers.extra import HOW
except ImportError:
    HOW = import_module("helpers.named").HOW


def prompt_templating(context):
    title, tone = context.read("/title", task="facts"), context.read("/data/tone")
    return textwrap.dedent(f"check: {title}, {tone}, {HOW} in {limits.WORDS} words")
"""


FILTERS = "from helpers.marks import MARK\n\n\ndef marked(text):\n    return text + MARK\n"


def write(workspace: Workspace) -> None:
    workspace.seed("first", SEED)
    workspace.task(
        "lead",
        prompt="lead: {{ seed.data.topic }}"
        "{% if seed.data.deadline is defined %} before {{ seed.data.deadline }}{% endif %}",
        system="You write one sentence.",
    )
    workspace.task(
        "list",
        prompt="list: {% for point in seed.data.points %}{{ point | marked }}, {% endfor %}"
        '{% include "shared/style.md" %}{% include "shared/extra.md" ignore missing %}',
        task_yaml={"needs": []},
    )
    workspace.task(
        "facts",
        prompt="facts: {{ artifacts.lead.content }} For {{ seed.data.audience }},"
        " angle {{ seed.data.angle }}, weight {{ seed.data.weight }}",
        schema=FACTS_SCHEMA,
        task_yaml={"needs": ["lead"]},
    )
    workspace.task("check", stages=STAGES, task_yaml={"needs": ["facts"]})
    mood = {"needs": [], "when": 'seed.data.mood == "loud"'}
    workspace.task("maybe", prompt="maybe: {{ seed.data.topic }}", task_yaml=mood)
    workspace.pipeline(FIRST)
    workspace.write("pipeline-config/shared/style.md", "Be brief.")
    workspace.write("pipeline-config/shared/other.md", "Be long.")
    workspace.write("pipeline-config/shared/title.schema.json", {"type": "string", "minLength": 3})
    workspace.write("pipeline-config/helpers/limits.py", "from .numbers import TEN\n\nWORDS = TEN")
    workspace.write("pipeline-config/helpers/numbers.py", "TEN = 10\n")
    workspace.write("pipeline-config/helpers/named.py", 'HOW = "briefly"\n')
    workspace.write("pipeline-config/helpers/unused.py", "X = 1\n")
    workspace.write("pipeline-config/helpers/marks.py", 'MARK = "*"\n')
    workspace.write("pipeline-config/filters.py", FILTERS)
    tools = "pipeline-config/pipelines/tools"
    workspace.write("seeds/second.json", {"name": "2", "pipeline": "tools", "data": {"n": 1}})
    workspace.write(f"{tools}/pipeline.json", {"name": "tools", "tasks": ["tool"]})
    workspace.write(f"{tools}/tasks/index.yaml", "tool: {folder: ./tool, command: [sh, count.sh]}")
    workspace.write(f"{tools}/tasks/tool/count.sh", "wc -c\n")


def answer(request: Request) -> Reply:
    found = re.match(r"facts: .*, angle (\w+), weight (\S+)$", request.said("user"))
    if found is None:
        return default_answer(request)
    return Reply(json.dumps({"weight": float(found[2]), "title": f"On {found[1]}"}))


def seed(**fields: Any) -> Change:
    return lambda workspace: edit(workspace, "seeds/first.json", lambda seed: seed["data"], fields)


def letter_deleted(workspace: Workspace) -> None:
    (workspace.root / LETTERS / "facts/letter.json").unlink()
