"""The shapes of what the API takes and gives, as JSON Schemas: for its OpenAPI document, and to
judge what is sent to it."""

from __future__ import annotations

from typing import Any

from popbuild.query.table.job_table import MOST_ON_A_PAGE, NOT_LOOKED_AT, SORTS
from popbuild.query.table.row import STANDINGS
from popbuild.web.builds import ENDED, QUEUED, RUNNING, WAITING

Shape = dict[str, Any]


def ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Shape) -> Shape:
    return {"type": "array", "items": items}


def an_object(required: Shape, optional: Shape | None = None, *, open_: bool = False) -> Shape:
    """An object with these properties; `open_` may have others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": open_,
    }


TEXT: Shape = {"type": "string"}
NULLABLE_TEXT: Shape = {"type": ["string", "null"]}
BOOLEAN: Shape = {"type": "boolean"}
COUNT: Shape = {"type": "integer", "minimum": 0}
NUMBER: Shape = {"type": "number"}
NULLABLE_NUMBER: Shape = {"type": ["number", "null"]}
NULLABLE_OBJECT: Shape = {"type": ["object", "null"]}
# What may be asked for. Whether there is such a job is another question.
JOB: Shape = {"type": "string", "minLength": 1, "maxLength": 255}
TASK: Shape = {"type": "string", "minLength": 1, "maxLength": 64}
NOTE: Shape = {"type": "string", "maxLength": 2_000}
STANDING: Shape = {"type": "string", "enum": [*STANDINGS, NOT_LOOKED_AT]}

_SAID: dict[str, Shape] = {
    "task": TASK,
    "note": NOTE,
    "by": {"type": "string", "maxLength": 200},
    "of": {
        "type": "string",
        "maxLength": 100,
        "description": "That of the question, as `waiting` of the job has it. The answer is "
        "refused if something else is asked by now, or somebody has answered otherwise; without "
        "it, what stands there is decided about.",
    },
}
_PROBLEM = an_object({"message": TEXT, "pointer": TEXT}, {"schemaPath": NULLABLE_TEXT})
_RANGE: Shape = an_object({"low": NUMBER, "high": NUMBER})
_TASK_STATE = an_object(
    {
        "label": TEXT,
        # Of ours pending, running, done or error; another program has its own words.
        "state": TEXT,
        "stale": {"type": ["boolean", "null"]},
        "edited": BOOLEAN,
        "frozen": BOOLEAN,
        "reasons": array(TEXT),
        "artifact": NULLABLE_TEXT,
        "attempts": COUNT,
        "executionTime": NUMBER,
        "refinementAttempts": COUNT,
        "usage": NULLABLE_OBJECT,
        "error": {"type": ["string", "object", "null"]},
    },
    {"currentStage": TEXT},
    open_=True,
)
_KINDS = {
    name: {"anyOf": [ref("Range"), {"type": "null"}]}
    for name in ("cachedTokens", "cacheWriteTokens", "reasoningTokens")
}
_PLANNED_TASK = an_object(
    {
        "task": TEXT,
        "runs": {"type": "string", "enum": ["will", "may"]},
        "reasons": array(TEXT),
        "storedCalls": {"type": ["integer", "null"]},
        "calls": ref("Range"),
        "inputTokens": ref("Range"),
        "outputTokens": ref("Range"),
        **_KINDS,
        "cost": {"anyOf": [ref("Range"), {"type": "null"}]},
        "basis": TEXT,
        "lacking": BOOLEAN,
    }
)
_TOTALS = an_object(
    {
        "calls": ref("Range"),
        "storedCalls": {"type": ["integer", "null"]},
        "inputTokens": ref("Range"),
        "outputTokens": ref("Range"),
        **_KINDS,
        "cost": {"anyOf": [ref("Range"), {"type": "null"}]},
        "unknownCost": array(TEXT),
    }
)

SHAPES: dict[str, Shape] = {
    "Error": {
        **an_object(
            {"error": TEXT, "values": {"type": "object"}, "hint": NULLABLE_TEXT},
            {"problems": array(ref("Problem"))},
        ),
        "description": "What, where, what next: the shape of every error, as with --json.",
    },
    "Problem": {
        **_PROBLEM,
        "description": "One violation; `pointer` is a JSON Pointer into the document.",
    },
    "Range": _RANGE,
    "Row": {
        **an_object(
            {
                "id": TEXT,
                "standing": STANDING,
                "why": TEXT,
                "done": COUNT,
                "tasks": COUNT,
                "tokens": {"type": ["integer", "null"], "minimum": 0},
                "cost": NULLABLE_NUMBER,
                "changed": NUMBER,
            }
        ),
        "description": "A job in a line. `tokens` and `cost` are what the last build of each task "
        "came to, null where that is unknown; `cost` is in US dollars; "
        "`changed` in seconds since 1970.",
    },
    "Jobs": an_object(
        {
            "jobs": array(ref("Row")),
            "total": COUNT,
            "page": COUNT,
            "pages": COUNT,
            "counts": {"type": "object", "additionalProperties": COUNT},
        }
    ),
    "Job": {
        **an_object(
            {
                "id": TEXT,
                "state": TEXT,
                "upToDate": BOOLEAN,
                "path": NULLABLE_TEXT,
                "tasks": {"type": "object", "additionalProperties": ref("TaskState")},
            },
            {"problems": array(ref("Problem")), "unowned": array(TEXT)},
            open_=True,
        ),
        "description": "A job as `popbuild status --json` has it.",
    },
    "TaskState": _TASK_STATE,
    "File": an_object({"kind": TEXT, "name": TEXT, "path": TEXT, "sizeBytes": COUNT}),
    "Pipeline": an_object(
        {
            "id": {**TEXT, "description": "What a seed names; the default one's is empty."},
            "name": TEXT,
            "path": TEXT,
            "version": NULLABLE_TEXT,
            "description": NULLABLE_TEXT,
            "tasks": array(
                an_object(
                    {
                        "id": TEXT,
                        "label": TEXT,
                        "needs": array(TEXT),
                        "artifact": TEXT,
                        "settings": {"type": "object"},
                        "files": array(TEXT),
                    }
                )
            ),
        }
    ),
    "PlannedTask": _PLANNED_TASK,
    "Totals": _TOTALS,
    "PlannedJob": an_object(
        {
            "id": TEXT,
            "state": TEXT,
            "note": NULLABLE_TEXT,
            "tasks": array(ref("PlannedTask")),
            "total": ref("Totals"),
        }
    ),
    "Plan": an_object({"jobs": array(ref("PlannedJob")), "total": ref("Totals")}),
    "Build": {
        **an_object(
            {
                "id": TEXT,
                "jobs": array(TEXT),
                "command": TEXT,
                "state": {"type": "string", "enum": [QUEUED, RUNNING, WAITING, ENDED]},
                "askedAt": TEXT,
                "begunAt": NULLABLE_TEXT,
                "endedAt": NULLABLE_TEXT,
                "exitCode": {"type": ["integer", "null"]},
                "ending": NULLABLE_TEXT,
                "results": array({"type": "object"}),
                "error": {"anyOf": [ref("Error"), {"type": "null"}]},
                "printed": TEXT,
            }
        ),
        "description": "A `popbuild run` that this server started: queued until there is room, "
        "waiting while another command builds its jobs; `ending` says how it ended, `results` as "
        "with --json.",
    },
    "Run": {
        **an_object({"pipelineId": TEXT}, open_=True),
        "description": "A line of runs.jsonl: one promotion.",
    },
    "Explanation": an_object({"task": TEXT}, open_=True),
    "Difference": an_object({"id": TEXT, "against": TEXT}, open_=True),
    "Decided": an_object(
        {
            "job": TEXT,
            "task": TEXT,
            "decision": {"type": "string", "enum": ["approved", "rejected"]},
            "by": TEXT,
            "at": TEXT,
            "before": BOOLEAN,
            "path": TEXT,
            "waiting": array(TEXT),
        },
        open_=True,
    ),
    "Stopped": an_object({"job": TEXT, "asked": BOOLEAN, "ended": BOOLEAN, "stopped": BOOLEAN}),
    # What is sent.
    "Submission": {
        **an_object(
            {},
            {"seed": {"type": "object"}, "text": TEXT, "id": JOB, "build": BOOLEAN},
        ),
        "oneOf": [{"required": ["seed"]}, {"required": ["text"]}],
        "description": "A seed, or the text of its file, which is read strictly.",
    },
    "Selection": an_object(
        {"jobs": {**array(JOB), "minItems": 1, "maxItems": 100_000}},
        {"always": BOOLEAN, "fresh": {**array(TASK), "maxItems": 100}},
    ),
    "BuildOrder": an_object(
        {"jobs": {**array(JOB), "minItems": 1, "maxItems": 100_000}},
        {
            "always": BOOLEAN,
            "fresh": {**array(TASK), "maxItems": 100},
            "budget": {"type": "number", "minimum": 0},
        },
    ),
    "Approval": an_object({}, {**_SAID, "build": BOOLEAN}),
    "Refusal": an_object({}, _SAID),
    "Nothing": {"type": "object", "maxProperties": 0},
}

QUERY: dict[str, Shape] = {
    "standing": STANDING,
    "search": TEXT,
    "sort": {"type": "string", "enum": list(SORTS)},
    "descending": {"type": "string", "enum": ["0", "1"]},
    "page": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    "size": {"type": "integer", "minimum": 1, "maximum": MOST_ON_A_PAGE},
}
