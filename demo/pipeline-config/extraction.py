"""How the research task takes records out of a text: worked examples, their schema, their gate."""

import json
import re
from typing import Any

from prose_gate import Problem, sentences

# What a seed may ask for under `dataPoints`, and the field that it becomes.
FIELDS = {
    "company names": "company",
    "funding amounts": "amount",
    "investment dates": "date",
    "investor names": "investor",
    "industry sectors": "sector",
}

# A small model copies a pattern well and follows instructions badly, so it is shown three
# sentences with their records. None of these words stand in the demo's seed: a record that
# holds one was copied from here, and `record_problems` finds it.
EXAMPLES = [
    (
        "In June 2023, Bluebird raised $12M in seed funding led by Oak Partners to build its "
        "online tutoring service.",
        ("Bluebird", "$12M", "June 2023", "Oak Partners", "online tutoring"),
    ),
    (
        "Redwood closed a $75M Series C round with Summit Fund in July 2023 for electric trucks.",
        ("Redwood", "$75M", "July 2023", "Summit Fund", "electric trucks"),
    ),
    (
        "PayLane, a mobile payments company, received $9M from Delta Ventures in Q3 2022.",
        ("PayLane", "$9M", "Q3 2022", "Delta Ventures", "mobile payments"),
    ),
]


def deals(text: str) -> list[str]:
    """The sentences that tell of a deal: those that name a sum of money."""
    return [part for part in sentences(text) if re.search(r"[$€£]\s?\d", part)]


def fields(data_points: list[str]) -> list[str]:
    return [FIELDS[point] for point in data_points]


def example_turns(wanted: list[str], attempt: int) -> list[dict[str, str]]:
    """The examples as earlier turns of the conversation, in another order for each attempt."""
    turns = []
    for text, values in EXAMPLES[attempt:] + EXAMPLES[:attempt]:
        record = dict(zip(FIELDS.values(), values, strict=True))
        answer = json.dumps({field: record[field] for field in wanted})
        turns.append({"role": "user", "content": f"Text: {text}"})
        turns.append({"role": "assistant", "content": answer})
    return turns


def record_schema(wanted: list[str]) -> dict[str, Any]:
    """The response format of one answer."""
    return {
        "type": "object",
        "properties": {field: {"type": "string"} for field in wanted},
        "required": wanted,
        "additionalProperties": False,
    }


def record_problems(record: dict[str, str], text: str, pointer: str) -> list[Problem]:
    """Each value must stand in the text as it is: what does not was invented."""
    return [
        {"message": f"the {field} {value!r} is not in the text", "pointer": f"{pointer}/{field}"}
        for field, value in record.items()
        if value.casefold() not in text.casefold()
    ]


def in_words(record: dict[str, str]) -> str:
    """The record as a sentence, for the tasks that read prose."""
    words = record.get("company", "A company") + " raised " + record.get("amount", "money")
    for field, link in (("investor", "from"), ("date", "in"), ("sector", "for")):
        if field in record:
            words += f" {link} {record[field]}"
    return words + "."
