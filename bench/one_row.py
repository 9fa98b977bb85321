"""One row of a table changed, with a summary in batches above: which calls that costs, counted by
the provider. A row is one job of two tasks; `parts` sums up a batch of them, `whole` all batches.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import helpers

sys.path.insert(0, str(helpers.CHECKOUT / "tests"))

from provider import Provider, Reply, Request

_BATCHES = (
    "foreach: batches(jobs.rows | map(attribute='artifacts.label.content') | list, tokens=600)\n"
    "answer: text\nmax_items: 5000\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    middle, last = rows // 2, rows - 1
    texts: dict[int, str | None] = {number: f"text {number}" for number in range(rows)}
    with Provider() as provider, tempfile.TemporaryDirectory(prefix="popbuild-bench-") as folder:
        provider.answer = _answer
        root = Path(folder)
        _configure(root)
        for name, change in {
            "from nothing": {},
            "a row changed": {middle: "another text"},
            "the first and the last": {0: "one more", last: "the last"},
            "a row added": {rows: "a new text"},
            "a row removed": {middle: None},
        }.items():
            texts |= change
            _table(root, texts)
            environment = provider.environment()
            counts, times = [], []
            for _ in range(2):
                before = len(provider.requests)
                times.append(helpers.run(("popbuild", "run", "summary"), root, environment))
                said = (each.said("user").split()[0] for each in provider.requests[before:])
                counts.append(dict(sorted(Counter(said).items())))
            print(f"{name:<24} {times[0]}   calls {counts[0]}, then {counts[1]}", flush=True)


def _answer(request: Request) -> Reply:
    return Reply(f"<{request.said('user').strip()[-200:]}>")


def _configure(root: Path) -> None:
    settings = {"defaults": {"model": helpers.MODEL, "maxTokens": 200}}
    tasks = {
        "": {"gist": "Gist of {{ seed.data.text }}", "label": "Label {{ artifacts.gist.content }}"},
        "pipelines/summary/": {
            "parts": "Part of {{ item | join(' ') }}",
            "whole": "Whole of {% for each in artifacts.parts.items %}{{ each.key }} {% endfor %}",
        },
    }
    for below, prompts in tasks.items():
        config = root / "pipeline-config" / below
        pipeline = {"name": below.strip("/") or "rows", "tasks": list(prompts), **settings}
        helpers.write(config / "pipeline.json", json.dumps(pipeline))
        helpers.write(config / "tasks/index.yaml", "".join(f"{e}: ./{e}\n" for e in prompts))
        for name, prompt in prompts.items():
            helpers.write(config / f"tasks/{name}/prompt.md", prompt)
    parts = root / "pipeline-config/pipelines/summary/tasks/parts"
    helpers.write(parts / "task.yaml", _BATCHES)
    helpers.write(root / "seeds/rows.yaml", "rows: rows.csv\nid: 'row-{{ row.id }}'\n")
    seed = {"name": "All", "pipeline": "summary", "jobs": {"rows": "row-*"}, "data": {}}
    helpers.write(root / "seeds/summary.json", json.dumps(seed))


def _table(root: Path, texts: dict[int, str | None]) -> None:
    lines = (f"{number},{text}" for number, text in texts.items() if text is not None)
    helpers.write(root / "seeds/rows.csv", "\n".join(["id,text", *lines, ""]))


if __name__ == "__main__":
    main()
