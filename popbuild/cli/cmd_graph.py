"""`popbuild graph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base.errors import UsageError
from popbuild.cli.hand_over_text import give_text
from popbuild.cli.options import Given, argument, command, option, root_of

if TYPE_CHECKING:
    from popbuild.base.paths import Root
    from popbuild.web.svg import Graph

_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".dot": "dot", ".gv": "dot"}
_FORMATS = ("svg", "mermaid", "dot")


@command(
    "draw a job's or a pipeline's tasks",
    argument("job", "JOB", "?", help="a job's ID; a pipeline's tasks if absent"),
    option("--pipeline", value="NAME", help="a pipeline, without states"),
    option(
        "--format",
        value="FORMAT",
        choices=_FORMATS,
        help="svg, mermaid or dot; by FILE's ending if absent (svg)",
    ),
    option("-o", "--output", value="FILE", help="the file to write; printed if absent"),
)
def _graph(given: Given) -> int:
    """Draw which task needs which, in a job, with the states of its tasks, or in a pipeline:
    the default one, or --pipeline. Arrows that others imply are left out."""
    from popbuild.web import svg
    from popbuild.web.pages.html import drawing_style

    graph = _wanted(root_of(given), given)
    form = given.format or _format_of(Path(given.output or "").suffix)
    if form == "svg":
        text = svg.svg(graph, style=drawing_style()) + "\n"
    else:
        text = svg.mermaid(graph) if form == "mermaid" else svg.dot(graph)
    return give_text(text, given.output or "-", given)


def _format_of(ending: str) -> str:
    """The format that a file's ending says; `svg` where it has none."""
    if ending and ending.lower() not in _ENDINGS:
        raise UsageError(
            "no format has this ending",
            {"ending": ending, "known": ", ".join(_ENDINGS)},
            hint=f"--format {'|'.join(_FORMATS)} writes it into a file of any name",
        )
    return _ENDINGS.get(ending.lower(), "svg")


def _wanted(root: Root, given: Given) -> Graph:
    from popbuild.model.config import config
    from popbuild.query import describe
    from popbuild.web import svg
    from popbuild.web.pages.text_budget import Room
    from popbuild.web.pages.view import graph_of_job

    if given.job is None:
        loaded = config.load(root)
        if given.pipeline is None:
            pipeline = loaded.pipeline_for({})
        else:
            pipeline = config.check_pipeline_name(loaded, given.pipeline)
        masked: Graph = Room(loaded.environment).masked(svg.graph_of(pipeline))
        return masked
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
