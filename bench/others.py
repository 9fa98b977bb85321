"""The same work for other tools: jobs of four steps, each after the last, from a seed a job.

Each tool gets what its own documentation shows for such work, in a virtual environment of its own
with the versions below. Steps write a text; with calls, they ask OpenAI's chat completions for it,
through the client that the tool brings or, where it brings none, the openai package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import helpers
from helpers import CHECKOUT, TASKS

ENVIRONMENTS = CHECKOUT / ".venv-bench"

_DOIT = """\
import json
TASKS = {tasks}
JOBS = {jobs}
CALLS = {calls}
if CALLS:
    import openai
    client = openai.OpenAI(max_retries=0)


def write(task, dependencies, targets):
    texts = [open(each).read() for each in dependencies]
    text = task + " of " + " ".join(texts)
    if CALLS:
        messages = [{{"role": "user", "content": text}}]
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        text = answer.choices[0].message.content
    with open(targets[0], "w") as target:
        target.write(text)


def task_jobs():
    for number in range(JOBS):
        files = [f"seeds/job-{{number:05}}.json"]
        for task in TASKS:
            target = f"out/{{number}}-{{task}}.txt"
            yield {{
                "basename": f"job-{{number}}",
                "name": task,
                "actions": [(write, [task])],
                "file_dep": list(files),
                "targets": [target],
            }}
            files.append(target)
"""

_COCOINDEX = """\
import json, pathlib
import cocoindex as coco
from cocoindex.connectors import localfs
TASKS = {tasks}
CALLS = {calls}
if CALLS:
    import openai
    client = openai.AsyncOpenAI(max_retries=0)


@coco.fn(memo=True)
async def step(task: str, topic: str, above: str) -> str:
    text = f"{{task}} of {{topic}} {{above}}"
    if CALLS:
        messages = [{{"role": "user", "content": text}}]
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        text = answer.choices[0].message.content
    return text


@coco.fn(memo=True)
async def job(file: localfs.File, out: pathlib.Path) -> None:
    topic, above = json.loads(await file.read_text())["data"]["topic"], ""
    for task in TASKS:
        text = await step(task, topic, above)
        above += text
        path = out / file.file_path.path.stem / f"{{task}}.txt"
        localfs.declare_file(path, text, create_parent_dirs=True)


@coco.fn
async def main(source: pathlib.Path, out: pathlib.Path) -> None:
    await coco.mount_each(job, localfs.walk_dir(source).items(), out)


app = coco.App(
    coco.AppConfig(name="bench"), main, source=pathlib.Path("seeds"), out=pathlib.Path("out")
)
app.update_blocking()
"""


@dataclass(frozen=True)
class Tool:
    """`write` makes a project for so many jobs in a folder that has their seeds; `command` runs it,
    and `calling` does where many calls are to be in flight. What is empty, it does not do."""

    name: str
    packages: tuple[str, ...]
    write: Callable[[Path, int, bool], None]
    command: tuple[str, ...] = ()
    calling: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # {packages}: where they are
    most_jobs: int = 100_000  # with nothing to do
    most_calls: int = 100_000  # in flight

    def words(self, command: tuple[str, ...], in_flight: int = 1) -> tuple[str, ...]:
        """A command of this tool's own environment."""
        program, *rest = (each.replace("{in_flight}", str(in_flight)) for each in command)
        return str(self.scripts / program), *rest

    def variables(self) -> dict[str, str]:
        packages = str(next(self.scripts.parent.glob("lib/python*/site-packages")))
        return {
            name: text.replace("{packages}", packages) for name, text in self.environment.items()
        }

    @property
    def scripts(self) -> Path:
        return ENVIRONMENTS / self.name.replace(" ", "-") / "bin"

    def install(self) -> None:
        """Make the environment, unless it has these versions already."""
        wanted = "\n".join(self.packages)
        made = self.scripts.parent / "made-of.txt"
        if made.is_file() and made.read_text() == wanted:
            return
        print(f"setting up {self.name}: {', '.join(self.packages)}", file=sys.stderr)
        venv = [sys.executable, "-m", "venv", "--clear", str(self.scripts.parent)]
        subprocess.run(venv, check=True)
        subprocess.run([self.scripts / "pip", "install", "-q", *self.packages], check=True)
        made.write_text(wanted)


def write_seeds(folder: Path, jobs: int) -> None:
    for number in range(jobs):
        seed = {"name": f"job {number}", "data": {"topic": f"topic {number}"}}
        helpers.write(folder / f"seeds/job-{number:05}.json", json.dumps(seed))
    (folder / "out").mkdir()


def _write_doit(folder: Path, jobs: int, calls: bool) -> None:
    helpers.write(folder / "dodo.py", _DOIT.format(tasks=TASKS, jobs=jobs, calls=calls))


def _write_cocoindex(folder: Path, jobs: int, calls: bool) -> None:
    helpers.write(folder / "main.py", _COCOINDEX.format(tasks=TASKS, calls=calls))


def _write_ninja(folder: Path, jobs: int, calls: bool) -> None:
    lines = ["rule write", "  command = cat $in > $out"]
    for number in range(jobs):
        files = [f"seeds/job-{number:05}.json"]
        for task in TASKS:
            lines.append(f"build out/{number}-{task}.txt: write {' '.join(files)}")
            files.append(f"out/{number}-{task}.txt")
    helpers.write(folder / "build.ninja", "\n".join(lines) + "\n")


def _write_snakemake(folder: Path, jobs: int, calls: bool) -> None:
    last = f"out/{{job}}-{TASKS[-1]}.txt"
    lines = [f'rule all:\n    input: expand("{last}", job=["%05d" % n for n in range({jobs})])']
    for number, task in enumerate(TASKS):
        above = "".join(f', "out/{{job}}-{each}.txt"' for each in TASKS[:number])
        lines.append(
            f'rule {task}:\n    input: "seeds/job-{{job}}.json"{above}\n'
            f'    output: "out/{{job}}-{task}.txt"\n    shell: "cat {{input}} > {{output}}"'
        )
    helpers.write(folder / "Snakefile", "\n".join(lines) + "\n")


def _write_docetl(folder: Path, jobs: int, calls: bool) -> None:
    seeds = [json.loads(path.read_bytes())["data"] for path in sorted(folder.glob("seeds/*"))]
    helpers.write(folder / "seeds.json", json.dumps(seeds))
    operations, above = [], ""
    for task in TASKS:
        output = {"schema": {task: "string"}, "mode": "structured_output"}
        prompt = f"{task} of {{{{ input.topic }}}}{above}"
        operations.append({"name": task, "type": "map", "prompt": prompt, "output": output})
        above += f" {{{{ input.{task} }}}}"
    pipeline = {
        "default_model": helpers.MODEL,
        "bypass_cache": True,
        "datasets": {"seeds": {"type": "file", "path": "seeds.json"}},
        "operations": operations,
        "pipeline": {
            "steps": [{"name": "all", "input": "seeds", "operations": list(TASKS)}],
            "output": {"type": "file", "path": "out.json", "intermediate_dir": "steps"},
        },
    }
    helpers.write(folder / "pipeline.yaml", json.dumps(pipeline))  # YAML too


PLAIN_DOIT = Tool(
    "plain doit",
    ("doit==0.37.0", "openai==3.57.0"),
    _write_doit,
    ("doit", "run"),
    ("doit", "run", "-n", "{in_flight}", "-P", "thread"),
)
NINJA = Tool("ninja", ("ninja==1.13.2",), _write_ninja, ("ninja", "--quiet"))
SNAKEMAKE = Tool(
    "snakemake",
    ("snakemake==9.27.1",),
    _write_snakemake,
    ("snakemake", "--cores", "2", "--quiet", "all"),
    most_jobs=1_000,  # of ten thousand it reads the graph for minutes
)
COCOINDEX = Tool(
    "cocoindex",
    ("cocoindex==1.0.26", "openai==3.57.0"),
    _write_cocoindex,
    ("python", "main.py"),
    ("python", "main.py"),
    environment={"COCOINDEX_DB": "state", "COCOINDEX_DISABLE_USAGE_TRACKING": "1"},
)
DOCETL = Tool(
    "DocETL",
    ("docetl==0.3.0",),
    _write_docetl,
    calling=("docetl", "run", "pipeline.yaml", "--max-threads", "{in_flight}"),
    environment={
        "HOME": ".",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # The encodings that litellm carries: it would fetch them otherwise.
        "TIKTOKEN_CACHE_DIR": "{packages}/litellm/litellm_core_utils/tokenizers",
    },
    most_calls=50,  # with 250 threads, one call or another was waited for ten minutes
)
TOOLS = (PLAIN_DOIT, NINJA, SNAKEMAKE, COCOINDEX, DOCETL)
