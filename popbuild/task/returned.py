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
from popbuild.base.texts import is_blank
from popbuild.llm import ends
from popbuild.llm.request import Answer, writable
from popbuild.model.problem import Problem
from popbuild.model.schema import gate
from popbuild.model.stage_names import kept_name
from popbuild.task.answer.document import Found, NoDocument, parse_json, parse_text, place
from popbuild.task.answer.kinds import Kinds
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, Work

MAX_ANSWER_CHARS = 4 * 1024 * 1024
_MAX_REFUSAL_CHARS = 500
_PROBLEM_KEYS = ("message", "pointer", "schemaPath")
_REPR = reprlib.Repr()  # bounded, and it survives a __repr__ that fails
_REPR.maxstring = _REPR.maxother = 120


class Returned:
    """Takes what the stages of one attempt return. `answer_file` is where the last raw answer is
    kept, as a path in the job."""

    def __init__(self, work: Work, asking: Asking) -> None:
        self._work = work
        self._asking = asking
        self.answer_file: str | None = None
        self._schema, _ = work.around.schema(work.task)
        self._judged: tuple[str, tuple[Problem, ...]] = ("", ())  # the last document's digest
        # The schema as it is sent is one document, in which its references can be looked up.
        sent = work.around.sent_schema(work.task)
        self._kinds = Kinds(sent or (self._schema.document if self._schema else None))

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
                {**self._work.log.where, "found": half},
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
        name = kept_name(self._work.task.id, "answer", "txt", self._work.log.cycle)
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
        problems = _problems_of(text, last)
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
        return self.document(self._found(value, answer) if isinstance(value, Found) else value)

    def parse_for_code(self, value: Any) -> Any:
        """The document in any answer, for code that has a parsing stage."""
        text = self.text(value)
        return self._found(self.parse(text), text)

    def _found(self, found: Found, text: str) -> Any:
        for note in found.notes:
            self._work.log.line(note)
        self._asking.warn(text, found.warnings)
        return found.value

    def document(self, output: Any) -> Any:
        if output is None:
            raise self._wrong(output, "a document")
        try:
            document = jsonio.normal(output, f"output of {self._work.log.stage}")
        except InputError:
            raise self._wrong(output, "a JSON document") from None
        # Here, so that the gate judges what will stand on disk, and the letter vouches for it.
        return redact_value(document, self._work.environment)

    def judge(self, document: Any) -> list[Problem]:
        """What the gate finds: the same document is judged once, however many stages ask."""
        if self._schema is None:
            return []
        digest = jsonio.digest(document)
        if digest != self._judged[0]:
            self._judged = digest, tuple(gate.judge(document, self._schema))
        return list(self._judged[1])

    def knows(self, document: Any) -> bool:
        """Whether this is the document that was judged last."""
        return jsonio.digest(document) == self._judged[0]

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
            {**self._work.log.where, "found": found, "allowed": allowed},
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


def _problems_of(text: str, answer: Answer | None) -> list[Problem]:
    """The problem of an answer that is refused, cut off, empty or too large. `answer` is the
    provider's; None where the text is not what a provider gave."""
    found = None
    if answer is not None:
        found = _refused(text, answer) or _no_end(text, answer)
    if found is None and is_blank(text):
        found = _empty(answer)
    if found is None and answer is not None and answer.end == ends.CUT:
        after = f" after {answer.used.output} tokens" if answer.used.output else ""
        found = f"the answer is cut off at the length limit{after}{_own_word(answer)}"
    if found is None and answer is not None and answer.has_half_a_pair:
        found = "the answer has half a surrogate pair, which is not a character"
    if found is None and len(text) > MAX_ANSWER_CHARS:
        found = f"the answer is too large: {len(text):,} characters, at most {MAX_ANSWER_CHARS:,}"
    return [] if found is None else [Problem(found)]


def _refused(text: str, answer: Answer) -> str | None:
    if not answer.is_declined:
        return None
    words = printable(answer.refusal or text).strip()[:_MAX_REFUSAL_CHARS]
    if answer.end != ends.DECLINED:
        return f"the model refuses: {words}"
    found = f"the provider's content filter cut the answer off{_own_word(answer)}"
    return f"{found}: {words}" if words else found


def _no_end(text: str, answer: Answer) -> str | None:
    word = printable(answer.ended_by)
    if answer.end == ends.PAUSED:
        return f"the provider paused the answer ({word})"
    if answer.end == ends.ABORTED:
        return f"the answer was aborted on its way ({word})"
    if answer.end == ends.TOOL or (answer.tools and is_blank(text)):
        names = ", ".join(map(printable, answer.tools)) or word
        return f"the answer is a call of a tool ({names}), and no tool was offered"
    return None


def _empty(answer: Answer | None) -> str:
    reason = printable(answer.ended_by) if answer is not None else "unknown"
    if answer is not None and answer.used.reasoning:
        return (
            f"the answer is empty: {answer.used.reasoning} tokens went into reasoning "
            f"(finish reason: {reason}); raise maxTokens"
        )
    return f"the answer is empty (finish reason: {reason})"


def _own_word(answer: Answer) -> str:
    return "" if answer.ended_by == answer.finish_reason else f" ({printable(answer.ended_by)})"
