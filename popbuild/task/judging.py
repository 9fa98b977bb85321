"""A judge: another model says what an output is worth, asked with a rubric. Its calls are stored,
budgeted and counted like any; an answer that is nonsense is a score without a value."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import TaskError, printable
from popbuild.base.redact import secret_in
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.calls import Calls
from popbuild.llm.ledger import Origin
from popbuild.llm.request import Answer, Request
from popbuild.model.config.settings import effective
from popbuild.model.letter import Call
from popbuild.model.pipeline import Task
from popbuild.model.scores import Score
from popbuild.model.scoring import SCORE_STAGE, Judge
from popbuild.task.answer.document import NoDocument, parse_json
from popbuild.task.answer.kinds import Kinds
from popbuild.task.asking import call_of
from popbuild.task.read_trace import ReadTrace
from popbuild.task.score_code import in_limit
from popbuild.task.score_rules import ScoredDocuments
from popbuild.task.templates.render import Templates

ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "reason": {"type": "string"},
    },
    "required": ["score", "reason"],
    "additionalProperties": False,
}
_FORM = (
    'Answer with a JSON object: {"score": a number from 0 to 1, "reason": "why, in one sentence"}.'
)
_MAX_REASON = 1_000


def judge_settings(judge: Judge) -> dict[str, Any]:
    """What a judge's requests set, besides the model."""
    not_sent = ("model", "timeout", "fallbacks", "accepts")
    return effective((key, each) for key, each in judge.config.items() if key not in not_sent)


def judge_request(around: Surroundings, judge: Judge, given: ScoredDocuments) -> Request:
    """What a judge is asked. Raises TaskError where the rubric cannot be rendered, or holds a
    key."""
    snapshot = around.config.snapshot
    # A rubric includes nothing: its own digest says whether a score holds.
    templates = Templates(
        lambda path: snapshot.text(path) if path == judge.rubric else None, {}, None, snapshot.where
    )
    values = {"output": given.output, "seed": given.seed, "expected": given.expected}
    shown = {name: jsonio.in_order(value) for name, value in values.items()}
    text, _ = templates.render(judge.rubric, shown, ReadTrace(templates.budget))
    messages = ({"role": "user", "content": f"{text}\n\n{_FORM}"},)
    if (name := secret_in(jsonio.compact(list(messages)), around.config.environment)) is not None:
        raise TaskError("a rubric holds a key, so it is not sent", {"variable": name})
    settings = judge_settings(judge)
    place = around.place_of(judge.model, judge.config)
    timeout_s = judge.config.get("timeout")
    return Request(
        judge.model, messages, settings, ANSWER_SCHEMA, place=place, timeout_s=timeout_s, files={}
    )


async def judged(
    calls: Calls,
    around: Surroundings,
    task: Task,
    judge: Judge,
    given: ScoredDocuments,
    origin: Origin,
) -> tuple[Score, list[Call]]:
    """What a judge says, and its call. Raises PopbuildError where it could not be asked: the next
    run asks again."""
    make = functools.partial(_request_or_why, around, judge, given)
    asked = await in_limit(task, make)
    if isinstance(asked, Score):
        return asked, []
    answered = await calls.ask_in_order([asked], origin)
    call = call_of(answered.request, answered.answer, SCORE_STAGE, 0)
    return replace(_said(answered.answer), calls=(call.as_json(),)), [call]


def _request_or_why(around: Surroundings, judge: Judge, given: ScoredDocuments) -> Request | Score:
    try:
        return judge_request(around, judge, given)
    except TaskError as error:
        why = error.as_line(without=())
        return Score(None, f"{why}; {given.lacking}" if given.lacking else why)


def _said(answer: Answer) -> Score:
    """The score in an answer."""
    if answer.is_declined:
        return Score(None, f"the judge declined: {printable(answer.refusal)[:_MAX_REASON]}")
    try:
        value = parse_json(answer.text, Kinds(ANSWER_SCHEMA)).value
    except NoDocument as error:
        return Score(None, f"the judge answered nonsense: {error}")
    body: Mapping[str, Any] = value if isinstance(value, dict) else {}
    score, reason = body.get("score"), body.get("reason", "")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        found = jsonio.compact(value)[:80]
        return Score(None, f"the judge answered nonsense: no score from 0 to 1 in {found}")
    return Score(float(score), printable(str(reason))[:_MAX_REASON])
