"""Formatting: the model says the main point; templates make the document around it."""

import re
from typing import Any

from prose_gate import Problem, one_paragraph, prose_problems

WORDS = (6, 60)
LEAD_IN = re.compile(r"^The main point (of (this|the) text )?is that ", re.IGNORECASE)


def parsing(context: Any) -> dict[str, Any]:
    title = context.render("title.md").strip()
    summary = without_lead_in(one_paragraph(context.answer))
    records = context.read("/records", task="research", default=[])
    body = context.render("body.md", title=title, summary=summary, records=records)
    document = {
        "title": title,
        "format": context.read("/data/outputFormat"),
        "summary": summary,
        "body": body.strip() + "\n",
    }
    return {**document, "records": records} if records else document


def validate_quality(context: Any) -> list[Problem]:
    synthesis = context.read("/content", task="synthesis")
    analysis = context.read("/content", task="analysis")
    return prose_problems(
        context.output["summary"],
        words=WORDS,
        source=f"{synthesis} {analysis}",
        pointer="/summary",
    )


def integration(context: Any) -> None:
    """The body once more, as a file to open."""
    context.files.write_artifact("document.md", context.output["body"])


def without_lead_in(summary: str) -> str:
    """Asked for the main point, a model likes to begin with "The main point is that"."""
    point = LEAD_IN.sub("", summary)
    return point[:1].upper() + point[1:]
