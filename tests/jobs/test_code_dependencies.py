"""What code depends on: the modules and files that stages.py and commands come to by themselves."""

from __future__ import annotations

import json

import pytest
from provider import Provider
from truth import Change, move, new
from two_jobs import COMPLETE
from workspace import Workspace

LATER = "importlib.import_module('lib.later')"
# How stages.py comes to lib/later.py, and whether the source says that it is this one.
IMPORTS = {
    "a statement where no run comes by": ("if 1:\n    import lib.later as later\n", True),
    "a call that names it": (f"import importlib\nlater = {LATER}\n", True),
    "__import__ that names it": ("later = __import__('lib.later').later\n", True),
    "a call with a variable": (
        "import importlib\nname = 'later'\nlater = importlib.import_module(f'lib.{name}')\n",
        False,
    ),
    "__import__ with more than a name": (
        "later = __import__('lib', fromlist=['later']).later\n",
        False,
    ),
    "a call by another name": (
        "from importlib import import_module as load\nlater = load('lib.later')\n",
        False,
    ),
    "a function that is handed on": (
        "import importlib\n(later,) = map(importlib.import_module, ['lib.later'])\n",
        False,
    ),
    "a function got by its name": (
        "import importlib\nlater = getattr(importlib, 'import_module')('lib.later')\n",
        False,
    ),
    "a text that is run": ("exec('import lib.later as later')\n", False),
}


@pytest.mark.parametrize(("code", "named"), IMPORTS.values(), ids=IMPORTS)
def test_a_module_is_imported(
    code: str, named: bool, workspace: Workspace, provider: Provider
) -> None:
    """However stages.py comes to a module, it depends on it; where its source does not say on
    which, on every Python file of the configuration, new ones too. A module that it comes to by
    its name alone makes others free to change."""
    stages = f"{code}\ndef prompt_templating(context):\n    return later.WORD\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    for word in ("one", "two"):
        workspace.write("pipeline-config/lib/later.py", f"WORD = {word!r}\n")
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert provider.requests[-1].said("user") == word
    workspace.write("pipeline-config/lib/other.py", "X = 1\n")
    other = ["file:lib/other.py added"]
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    assert job["tasks"]["research"]["reasons"] == ([] if named else other)
    assert len(provider.requests) == 2


def test_all_of_a_package_is_imported(workspace: Workspace, provider: Provider) -> None:
    """`from lib import *` imports the modules that __all__ of the package names."""
    stages = "from lib import *\n\ndef prompt_templating(context):\n    return later.WORD\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    workspace.write("pipeline-config/lib/__init__.py", "__all__ = ['later']\n")
    for word in ("one", "two"):
        workspace.write("pipeline-config/lib/later.py", f"WORD = {word!r}\n")
        assert workspace.popbuild("run").code == 0
        assert workspace.popbuild("run").out == "-- first  up to date\n"
        assert provider.requests[-1].said("user") == word


def test_a_package_that_a_task_lies_in(workspace: Workspace, provider: Provider) -> None:
    """tasks/__init__.py runs before a stages.py below it: it counts from when it appears."""
    body = "return os.environ.get('WORD', '-')"
    stages = f"import os\n\ndef prompt_templating(context):\n    {body}\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    assert workspace.popbuild("run").code == 0
    workspace.write("pipeline-config/tasks/__init__.py", "import os\nos.environ['WORD'] = 'x'\n")
    assert workspace.popbuild("run").code == 0
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert [each.said("user") for each in provider.requests] == ["-", "x"]


JOBS = {
    "a stage": "def prompt_templating(context):\n    return f'analysis: {context.job}'\n",
    "a command": None,
}


@pytest.mark.parametrize("stages", JOBS.values(), ids=JOBS)
def test_the_jobs_id_is_told(stages: str | None, workspace: Workspace, provider: Provider) -> None:
    """A task whose stage asked for the job's ID, or that is a command, runs again when the job was
    renamed with its seed; the others do not."""
    if stages is None:
        workspace.write("pipeline-config/tasks/analysis/count.sh", "wc -c\n")
        index = "research: ./research\nanalysis: {command: [sh, count.sh]}\n"
        workspace.write("pipeline-config/tasks/index.yaml", index)
    else:
        (workspace.root / "pipeline-config/tasks/analysis/prompt.md").unlink()
        workspace.task("analysis", stages=stages)
    assert workspace.popbuild("run").code == 0
    move(("seeds/first.json", "seeds/other.json"), (f"{COMPLETE}/first", f"{COMPLETE}/other"))(
        workspace
    )
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    reasons = {task: body["reasons"] for task, body in job["tasks"].items()}
    assert reasons == {"research": [], "analysis": ["job changed: first → other"]}
    assert workspace.popbuild("run").code == 0
    assert workspace.runs()[-1]["built"] == ["analysis"]
    assert workspace.popbuild("run").out == "-- other  up to date\n"
    assert len(provider.requests) == (1 if stages is None else 3)


COUNTING = """\
import json, pathlib, sys
sys.path.insert(0, "../../lib")
import rates
text = pathlib.Path("../../shared/words.txt").read_text()
print(json.dumps({"content": f"{rates.RATE} {text}"}))
"""
FURTHER: dict[str, tuple[Change, list[str]]] = {
    "a file": (new("shared/words.txt", "Other."), ["file:shared/words.txt changed"]),
    "one of a glob": (new("lib/rates.py", "RATE = 2\n"), ["file:lib/rates.py changed"]),
    "one more of a glob": (new("lib/more/other.py"), ["file:lib/more/other.py added"]),
    "one that does not fit": (new("lib/notes.txt"), []),
    "one that is not named": (new("shared/other.txt"), []),
}


@pytest.mark.parametrize(("change", "reasons"), FURTHER.values(), ids=FURTHER)
@pytest.mark.parametrize("kind", ["a command", "stages.py"])
def test_further_files(
    kind: str, change: Change, reasons: list[str], workspace: Workspace, provider: Provider
) -> None:
    """What a command or stages.py reads by itself outside of its folder is a dependency once
    task.yaml names it, by its path or by a glob."""
    workspace.write("pipeline-config/shared/words.txt", "Words.")
    workspace.write("pipeline-config/lib/rates.py", "RATE = 1\n")
    workspace.task("count", task_yaml={"files": ["shared/words.txt", "lib/**/*.py"]})
    workspace.pipeline(["count"])
    if kind == "a command":
        workspace.write("pipeline-config/tasks/count/count.py", COUNTING)
        # Python takes two edits within a second, of one size, for the same.
        index = "count: {command: [python3, -B, count.py]}\n"
        workspace.write("pipeline-config/tasks/index.yaml", index)
    else:
        stages = (
            "import pathlib\n\n\n"
            "def inference(context):\n"
            "    here = pathlib.Path(__file__).parent\n"
            "    lib = (here / '../../lib/rates.py').read_text()\n"
            "    return lib + (here / '../../shared/words.txt').read_text()\n"
        )
        workspace.task("count", prompt="-", stages=stages)
    assert workspace.popbuild("run").code == 0
    before = workspace.artifact("first", "count")
    change(workspace)
    (job,) = json.loads(workspace.popbuild("status", "--json").out)
    assert job["tasks"]["count"]["reasons"] == reasons
    assert workspace.popbuild("run").code == 0
    assert len(workspace.runs()) == 1 + bool(reasons)
    differs = any(reason.endswith("changed") for reason in reasons)
    assert (workspace.artifact("first", "count") != before) == differs
    assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert provider.requests == []


def test_a_stage_renders_a_shared_template(workspace: Workspace, provider: Provider) -> None:
    """As an include does: beside the task's own files first, else from pipeline-config/."""
    (workspace.root / "pipeline-config/tasks/research/prompt.md").unlink()
    stages = "def prompt_templating(context):\n    return context.render('shared/x.md')\n"
    workspace.task("research", stages=stages)
    workspace.pipeline(["research"])
    texts = {"shared/x.md": "One.", "tasks/research/shared/x.md": "Two."}
    for path, text in texts.items():
        workspace.write(f"pipeline-config/{path}", text)
        assert workspace.popbuild("run").code == 0
        assert provider.requests[-1].said("user") == text
        assert workspace.popbuild("run").out == "-- first  up to date\n"
    assert len(provider.requests) == 2
