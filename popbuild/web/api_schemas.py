"""The JSON Schemas of what the API takes and gives: for its OpenAPI document, and to check
requests."""

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


TEXT: Shape = {"type": "string"}
# What may be asked for; whether such a job exists is checked later.
JOB: Shape = {"type": "string", "minLength": 1, "maxLength": 255}
TASK: Shape = {"type": "string", "minLength": 1, "maxLength": 64}
STANDING: Shape = {"type": "string", "enum": [*STANDINGS, NOT_LOOKED_AT]}

_TYPES: dict[str, Shape] = {
    "text": TEXT,
    "bool": {"type": "boolean"},
    "count": {"type": "integer", "minimum": 0},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "object": {"type": "object"},
    "job": JOB,
    "task": TASK,
    "standing": STANDING,
    "note": {"type": "string", "maxLength": 2_000},
    "person": {"type": "string", "maxLength": 200},
    "range": ref("Range"),
}


def _type(name: str) -> Shape:
    if name.startswith("["):
        return array(_type(name[1:-1]))
    if name.endswith("?"):
        shape = _type(name[:-1])
        if "$ref" in shape:
            return {"anyOf": [shape, {"type": "null"}]}
        return {**shape, "type": [shape["type"], "null"]}
    return ref(name) if name[0].isupper() else _TYPES[name]


def _members(text: str) -> dict[str, Shape]:
    pairs = (each.split() for each in text.split(",") if each.strip())
    return {name: _type(kind) for name, kind in pairs}


def fields(required: str, optional: str = "", *, open_: bool = False, **more: Shape) -> Shape:
    """An object with these members, each a name and a type: `id text, cost number?, jobs [Row]`.
    `?` allows null, brackets make a list, a capital letter names another schema. `more` are
    further required members; an `open_` object may have others."""
    needed = {**_members(required), **more}
    return {
        "type": "object",
        "properties": {**needed, **_members(optional)},
        "required": list(needed),
        "additionalProperties": open_,
    }


def _said(shape: Shape, description: str) -> Shape:
    return {**shape, "description": description}


_PARTS = "cachedTokens range?, cacheWriteTokens range?, reasoningTokens range?"
_COSTS = f"inputTokens range, outputTokens range, {_PARTS}, cost range?"
_DECISION = fields("", "task task, note note, by person")
_DECISION["properties"]["of"] = _said(
    {"type": "string", "maxLength": 100},
    "The question's own `of`, as the job's `waiting` has it. The answer is refused if something "
    "else is asked by now, or was answered otherwise; without it, the decision is about whatever "
    "is there.",
)
_SELECTED: Shape = {**array(JOB), "minItems": 1, "maxItems": 100_000}
_FRESH: Shape = {**array(TASK), "maxItems": 100}
_SELECTION = fields("", "always bool", jobs=_SELECTED)
_SELECTION["properties"]["fresh"] = _FRESH

SHAPES: dict[str, Shape] = {
    "Error": _said(
        fields("error text, values object, hint text?", "problems [Problem]"),
        "What, where, what next: the shape of every error, as with --json.",
    ),
    "Problem": _said(
        fields("message text, pointer text", "schemaPath text?"),
        "One violation; `pointer` is a JSON Pointer into the document.",
    ),
    "Range": fields("low number, high number"),
    "Row": _said(
        fields(
            "id text, standing standing, why text, done count, tasks count, tokens count?, "
            "cost number?, changed number"
        ),
        "A job in a line. `tokens` and `cost` are what the last build of each task used, null "
        "where that is unknown; `cost` is in US dollars, `changed` in seconds since 1970.",
    ),
    "Jobs": fields(
        "jobs [Row], total count, page count, pages count",
        counts={"type": "object", "additionalProperties": _TYPES["count"]},
    ),
    "Job": _said(
        fields(
            "id text, state text, upToDate bool, path text?",
            "problems [Problem], unowned [text]",
            open_=True,
            tasks={"type": "object", "additionalProperties": ref("TaskState")},
        ),
        "A job as `popbuild status --json` has it.",
    ),
    # `state` is pending, running, done or error for our tasks; other programs have other words.
    "TaskState": fields(
        "label text, state text, stale bool?, edited bool, frozen bool, reasons [text], "
        "artifact text?, attempts count, executionTime number, refinementAttempts count, "
        "usage object?",
        "currentStage text, skipped bool, reason text",
        open_=True,
        error={"type": ["string", "object", "null"]},
    ),
    "File": fields("kind text, name text, path text, sizeBytes count"),
    "Pipeline": fields(
        "name text, path text, version text?, description text?",
        id=_said(TEXT, "What a seed names; the default pipeline's is empty."),
        tasks=array(
            fields(
                "id text, label text, needs [text], artifact text, settings object, files [text]"
            )
        ),
    ),
    "PlannedTask": fields(
        f"task text, reasons [text], storedCalls count?, calls range, {_COSTS}, basis text, "
        "lacking bool",
        runs={"type": "string", "enum": ["will", "may"]},
    ),
    "Totals": fields(f"calls range, storedCalls count?, {_COSTS}, unknownCost [text]"),
    "PlannedJob": fields("id text, state text, note text?, tasks [PlannedTask], total Totals"),
    "Plan": fields("jobs [PlannedJob], total Totals"),
    "Build": _said(
        fields(
            "id text, jobs [text], command text, askedAt text, begunAt text?, endedAt text?, "
            "exitCode integer?, ending text?, results [object], error Error?, printed text",
            state={"type": "string", "enum": [QUEUED, RUNNING, WAITING, ENDED]},
        ),
        "A `popbuild run` that this server started: queued until there is room, waiting while "
        "another command builds its jobs; `ending` says how it ended, `results` as with --json.",
    ),
    "Run": _said(fields("pipelineId text", open_=True), "A line of runs.jsonl: one promotion."),
    "Explanation": fields("task text", open_=True),
    "Difference": fields("id text, against text", open_=True),
    "Decided": fields(
        "job text, task text, by text, at text, before bool, path text, waiting [text]",
        open_=True,
        decision={"type": "string", "enum": ["approved", "rejected"]},
    ),
    "Stopped": fields("job text, asked bool, ended bool, stopped bool"),
    # Requests.
    "Submission": _said(
        {
            **fields("", "seed object, text text, id job, build bool, files [GivenFile]"),
            "oneOf": [{"required": ["seed"]}, {"required": ["text"]}],
        },
        "A seed, or the text of its file, which is read strictly; and files that go with it.",
    ),
    "GivenFile": _said(
        fields("name text, file text, base64 text"),
        "A file for prompts, which read it as `files.<name>`; `file` is its own name.",
    ),
    "Selection": _SELECTION,
    "BuildOrder": {
        **_SELECTION,
        "properties": {**_SELECTION["properties"], "budget": {"type": "number", "minimum": 0}},
    },
    "Approval": {
        **_DECISION,
        "properties": {**_DECISION["properties"], "build": _TYPES["bool"]},
    },
    "Refusal": _DECISION,
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
