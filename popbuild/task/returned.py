"""What stages return, checked and turned into what the next stage gets.

A wrong type is a TaskError: the stage's fault. An answer that cannot be used is an AnswerRejected:
the model's fault, and a refinement may help.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError, printable
from popbuild.base.redact import redact_value
from popbuild.llm.request import Answer, writable
from popbuild.model.problem import Problem
from popbuild.model.schema import gate
from popbuild.model.stage_names import kept_name
from popbuild.task.answer.document import Found, NoDocument, parse_json, parse_text, place
from popbuild.task.answer.kinds import Kinds
from popbuild.task.answer.problems import problems_of
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, StageLog, Work

_PROBLEM_KEYS = ("message", "pointer", "schemaPath")
_REPR = reprlib.Repr()  # bounded, and it survives a __repr__ that fails
_REPR.maxstring = _REPR.maxother = 120


class Returned:
    """Takes what the stages of one attempt return. `answer_file` is where the last raw answer is
    kept, as a path in the job."""

    def __init__(self, work: Work, log: StageLog, asking: Asking) -> None:
        self._work = work
        self._log = log
        self._asking = asking
        self.answer_file: str | None = None
        # The schema as it is sent is one document, in which its references can be looked up.
        self._kinds = Kinds(work.sent_schema or (work.schema.document if work.schema else None))

    def object(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        raise self._wrong(value, "an object")

    def settings(self, value: Any) -> dict[str, Any]:
        settings = self.object(value)
        self._asking.check_settings(settings)
        return settings

    def text(self, value: Any) -> str:
        text = value.text if isinstance(value, Answer) else value
        if not isinstance(text, str):
            raise self._wrong(text, "a text")
        half = half_a_pair(text)
        if half is not None:
            raise TaskError(
                "a text has half a surrogate pair",
                {**self._log.where, "found": half},
                hint="it is half of one character: encode the text with both halves, or drop it",
            )
        return text

    def answer(self, value: Any) -> str:
        """The answer's text, kept as a log. Half a surrogate pair in what a model gave is the
        model's fault, not the code's: the text shows it by its number."""
        given = value.text if isinstance(value, Answer) else value
        if isinstance(given, str) and self._asking.gave(given):
            text = writable(given)
        else:
            text = self.text(value)
        name = kept_name(self._work.task.id, "answer", "txt", self._log.cycle)
        self._work.files.keep(name, text)
        self.answer_file = f"files/logs/{name}"
        return text

    def check_answer(self, value: Any) -> None:
        """Raises AnswerRejected for one that is empty or cut off: it never reaches parsing."""
        text = value.text if isinstance(value, Answer) else value
        half = half_a_pair(text)
        if half is not None:
            raise AnswerRejected(Problem(f"the answer has {half}"))
        last = self._asking.last
        last = last if last is not None and last.text == text else None
        problems = problems_of(text, last)
        if problems:
            raise AnswerRejected(*problems, is_final=last is not None and last.is_declined)

    def parse(self, text: str) -> Found:
        """The document in an answer, as `parsing` finds it by default. Raises AnswerRejected."""
        try:
            if self._work.task.answer == "text":
                return parse_text(text)
            return parse_json(text, self._kinds)
        except NoDocument as error:
            raise AnswerRejected(Problem(printable(str(error)))) from None

    def parsed(self, value: Any, answer: str) -> Any:
        """The document that `parsing` returned for an answer."""
        return self.document(self._found(value, answer) if isinstance(value, Found) else value)

    def parse_for_code(self, value: Any) -> Any:
        """The document in any answer, for code that has a parsing stage."""
        text = self.text(value)
        return self._found(self.parse(text), text)

    def _found(self, found: Found, text: str) -> Any:
        for note in found.notes:
            self._log.line(note)
        self._asking.warn(text, found.warnings)
        return found.value

    def document(self, output: Any) -> Any:
        if output is None:
            raise self._wrong(output, "a document")
        try:
            document = jsonio.normal(output, f"output of {self._log.stage}")
        except InputError:
            raise self._wrong(output, "a JSON document") from None
        # Here, so that the gate judges what will stand on disk, and the letter vouches for it.
        return redact_value(document, self._work.config.environment)

    def judge(self, document: Any) -> list[Problem]:
        return list(gate.judge(document, self._work.schema)) if self._work.schema else []

    def final(self, value: Any, output: Any) -> Any:
        """The document that `integration` returned, judged once more; else the present output."""
        if value is None:
            return output
        document = self.document(value)
        problems = self.judge(document)
        if problems:
            raise AnswerRejected(*problems)
        return document

    def no_problems(self, value: Any) -> None:
        """Raises AnswerRejected with the problems that a validation found."""
        allowed = "a list of problems: texts, or objects with message"
        if value is not None and not isinstance(value, list | tuple):
            raise self._wrong(value, allowed)
        problems = []
        for each in value or ():
            if isinstance(each, Problem):
                problems.append(each)
            elif isinstance(each, str):
                problems.append(Problem(printable(each)))
            elif isinstance(each, dict) and _is_problem(each):
                said = {key: printable(text) for key, text in each.items() if key in _PROBLEM_KEYS}
                problems.append(Problem.from_json(said))
            else:
                raise self._wrong(value, allowed)
        if problems:
            raise AnswerRejected(*problems)

    def _wrong(self, value: Any, allowed: str) -> TaskError:
        found = f"{type(value).__name__} {_REPR.repr(value)}"
        return TaskError(
            "a stage returned the wrong thing",
            {**self._log.where, "found": found, "allowed": allowed},
        )


def half_a_pair(text: str) -> str | None:
    """The half of a surrogate pair in a text, and where it stands; None for a whole text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = place(text, error.start)
        return f"half a surrogate pair, {text[error.start]!a}, at {at}"
    return None


def _is_problem(value: Mapping[str, Any]) -> bool:
    return "message" in value and all(
        isinstance(value[key], str) for key in _PROBLEM_KEYS if key in value
    )
