"""`popbuild graph`, `report` and `summary`. Each docstring is a help page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base import disk, permissions
from popbuild.base.errors import OK, UsageError
from popbuild.cli.options import JOBS, JSON, Given, Table, argument, print_json, root_of

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.web.svg import Graph

_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".dot": "dot", ".gv": "dot"}
DRAWING_FORMATS = ("svg", "mermaid", "dot")


def _graph(given: Given) -> int:
    """Draw which task needs which: of a job, with the states of its tasks, or of a pipeline,
    the default one if none is named. An arrow that others imply is left out."""
    from popbuild.web import svg
    from popbuild.web.pages.html import drawing_style

    graph = _wanted(root_of(given), given)
    ending = Path(given.output).suffix if given.output else ""
    form = given.format or _format_of(ending)
    if form == "svg":
        text = svg.svg(graph, style=drawing_style()) + "\n"
    elif form == "mermaid":
        text = svg.mermaid(graph)
    elif form == "dot":
        text = svg.dot(graph)
    else:
        raise UsageError("no such format", {"format": form, "known": ", ".join(DRAWING_FORMATS)})
    return _give(text, given.output or "-", given)


def _format_of(ending: str) -> str:
    """The format that a file's ending says; `svg` where it has none."""
    if ending and ending.lower() not in _ENDINGS:
        raise UsageError(
            "no format has this ending",
            {"ending": ending, "known": ", ".join(_ENDINGS)},
            hint=f"--format {'|'.join(DRAWING_FORMATS)} writes it into a file of any name",
        )
    return _ENDINGS.get(ending.lower(), "svg")


def _wanted(root: Root, given: Given) -> Graph:
    from popbuild.model.config import config
    from popbuild.query import describe
    from popbuild.web import svg
    from popbuild.web.pages.text_budget import Room
    from popbuild.web.pages.view import graph_of_job

    if given.job is not None:
        if given.pipeline is not None:
            raise UsageError(
                "a job or a pipeline, not both", {"job": given.job, "--pipeline": given.pipeline}
            )
        job = describe.find_job(root, given.job)
        if job.is_not_ours:
            describe.refuse_bad(job)
        graph = graph_of_job(root, job)
        if graph is None:
            raise UsageError(
                "the job has no pipeline that is known",
                {"job": job.id, "state": job.description},
                hint="popbuild validate tells more",
            )
        return graph
    loaded = config.load(root)
    if given.pipeline is None:
        pipeline = loaded.pipeline_for({})
    else:
        pipeline = config.check_pipeline_name(loaded, given.pipeline)
    masked: Graph = Room(loaded.environment).masked(svg.graph_of(pipeline))
    return masked


def _report(given: Given) -> int:
    """Write a report on jobs as one HTML file that needs nothing else, to send to somebody: a
    table, and of each job its graph, tasks, timeline, artifacts, calls with prompts and
    answers, problems, origin and logs. What looks like a key is masked. The same files give
    the same bytes. Makes no call."""
    from popbuild.web.pages.report import report_page

    return _give(report_page(root_of(given), given.names), given.output, given)


def _summary(given: Given) -> int:
    """Say how jobs stand as Markdown, for the page of a CI run: a table, the problems of those
    that did not pass, and a graph. Makes no call."""
    from popbuild.web.pages.report import summary

    text = summary(root_of(given), given.names)
    if given.output is None:
        return _give(text, "-", given)
    target = Path(given.output)
    if not target.parent.is_dir():
        raise UsageError("no such folder", {"folder": target.parent})
    # The page of a CI run is one file to which each step adds its own. It may be a link.
    if not disk.stands(target):
        target.touch(permissions.file_mode())
    with target.open("a", encoding="utf-8") as file:
        file.write(text)
    return _say(target, given)


def _give(text: str, output: str, given: Given) -> int:
    """Write a text to a file, and say where, or print it."""
    from popbuild.build.verbs import hand_over

    data = text.encode()
    if output == "-":
        if given.json:
            print_json({"path": None, "text": text})
            return OK
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return OK
    target = Path(output)
    if target.is_dir():
        raise UsageError("a file is wanted, this is a folder", {"file": target})
    hand_over(target, data)
    return _say(target, given)


def _say(target: Path, given: Given) -> int:
    if given.json:
        print_json({"path": str(target)})
    else:
        print(target)
    return OK


REPORTING: Table = {
    "graph": (
        _graph,
        "draw a job's or a pipeline's tasks",
        (
            argument("job", nargs="?", metavar="JOB", help="the job's ID"),
            argument("--pipeline", metavar="NAME", help="a pipeline, without states"),
            argument("--format", metavar="FORMAT", help="svg, mermaid or dot; else by FILE (svg)"),
            argument("-o", "--output", metavar="FILE", help="a file; printed if absent"),
            JSON,
        ),
    ),
    "report": (
        _report,
        "write one HTML file about jobs",
        (
            JOBS,
            argument(
                "-o", "--output", metavar="FILE", required=True, help="report.html; - prints it"
            ),
            JSON,
        ),
    ),
    "summary": (
        _summary,
        "print how jobs stand as Markdown, for CI",
        (
            JOBS,
            argument("-o", "--output", metavar="FILE", help="add it to this file's end"),
            JSON,
        ),
    ),
}
