"""Research asks a short question for each part of the seed and makes one document of the answers.

A small model answers four short questions far better than one long one. A part is a focus area
of a market, a keyword of an article, or a sentence that has facts to extract.
"""

import json
import re
from typing import Any

from extraction import deals, example_turns, fields, in_words, record_problems, record_schema
from prose_gate import Problem, one_paragraph, prose_problems, sentences

WORDS = (15, 110)


def pre_processing(context: Any) -> dict[str, Any]:
    kind = context.read("/data/type")
    if kind == "data-extraction":
        return {
            "topic": "Funding rounds",
            "parts": deals(context.read("/data/sampleText")),
            "fields": fields(context.read("/data/dataPoints")),
        }
    market = kind == "market-research"
    return {
        "topic": context.read("/data/industry" if market else "/data/topic"),
        "parts": context.read("/data/focusAreas" if market else "/data/keywords"),
        "fields": [],
    }


def prompt_templating(context: Any) -> list[dict[str, str]]:
    """What stands before every question: the system message and, to extract, worked examples."""
    wanted = context.variables["fields"]
    system = {"role": "system", "content": context.render("system.md")}
    return [system, *(example_turns(wanted, context.cycle) if wanted else [])]


def inference(context: Any) -> str:
    """One call for each part; in a refinement only for the parts that failed."""
    parts, wanted = context.variables["parts"], context.variables["fields"]
    schema = record_schema(wanted) if wanted else None
    answers = json.loads(context.previous) if context.cycle else [""] * len(parts)
    for index in failed_parts(context.problems) or range(len(parts)):
        question = context.render("prompt.md", part=parts[index])
        messages = [*context.messages, {"role": "user", "content": question}]
        answers[index] = context.llm(messages, schema=schema).text
    return json.dumps(answers, ensure_ascii=False, indent=2)


def parsing(context: Any) -> dict[str, Any]:
    topic, parts = context.variables["topic"], context.variables["parts"]
    answers = json.loads(context.answer)
    if context.variables["fields"]:
        records = [as_record(context, index, text) for index, text in enumerate(answers)]
        content = " ".join(in_words(record) for record in records)
        companies = ", ".join(record["company"] for record in records if "company" in record)
        topic = f"{topic}: {companies}" if companies else topic
        return {"topic": topic, "records": records, "content": content}
    texts = [one_paragraph(text) for text in answers]
    findings = [{"about": part, "content": text} for part, text in zip(parts, texts, strict=True)]
    # The first sentences are enough for the later tasks, and as much as a small model can hold.
    content = " ".join(sentences(text)[0] for text in texts if text)
    return {"topic": topic, "findings": findings, "content": content}


def validate_quality(context: Any) -> list[Problem]:
    parts, output, problems = context.variables["parts"], context.output, []
    for index, record in enumerate(output.get("records", [])):
        problems += record_problems(record, parts[index], f"/records/{index}")
    for index, text in enumerate(json.loads(context.answer) if "findings" in output else []):
        # The answer as it came: a list cannot be seen any more once it is made one paragraph.
        problems += prose_problems(
            text,
            words=WORDS,
            about=(output["topic"], parts[index]),
            pointer=f"/findings/{index}/content",
        )
    return problems


def failed_parts(problems: list[Problem]) -> list[int]:
    """Which parts the problems are about, from their pointers."""
    places = (re.match(r"/(?:findings|records)/(\d+)", p.get("pointer") or "") for p in problems)
    return sorted({int(place.group(1)) for place in places if place})


def as_record(context: Any, index: int, text: str) -> dict[str, str]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise context.reject(f"no JSON in the answer: {error}", f"/records/{index}") from error
    if not isinstance(record, dict) or not all(isinstance(v, str) for v in record.values()):
        raise context.reject("the answer is no record of texts", f"/records/{index}")
    return record
