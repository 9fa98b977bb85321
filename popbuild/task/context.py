"""What a stage sees and may do. `docs/tasks.md` is the user's page for this module."""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import reprlib
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError, no_such, printable
from popbuild.base.texts import is_blank
from popbuild.llm.request import Answer, Message
from popbuild.model.problem import MISSING, Problem, value_at
from popbuild.task.reads import ReadTrace
from popbuild.task.task_files import Files

_UNSET = object()
_INSTRUCTING = ("system", "developer")  # roles

AskModel = Callable[[Sequence[Message], Any, Mapping[str, Any]], Coroutine[Any, Any, Answer]]
Render = Callable[[str, Mapping[str, Any]], str]
Judge = Callable[[Any], list[Problem]]
Parse = Callable[[Any], Any]


class RevokedError(Exception):
    """The stage outlived its timeout: its context does nothing more."""


class AnswerRejected(Exception):
    """Raised by a stage: the answer fails the gate with this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Artifacts(Mapping[str, Any]):
    """The main artifacts of the needed tasks by task, as plain copies. A task depends on each
    whole document that it was handed."""

    def __init__(self, values: Mapping[str, Any], trace: ReadTrace) -> None:
        self._values = values
        self._trace = trace

    def __getitem__(self, task: str) -> Any:
        if task not in self._values:
            self._trace.needs(self._values)
            raise KeyError(f"{task} is not among the needed tasks: {', '.join(self._values)}")
        self._trace.read(f"artifact:{task}", "", self._values[task])
        return copy.deepcopy(self._values[task])

    def __iter__(self) -> Iterator[str]:
        self._trace.needs(self._values)
        return iter(self._values)

    def __len__(self) -> int:
        self._trace.needs(self._values)
        return len(self._values)


class Context:
    """One task's context, through all its stages and cycles."""

    def __init__(  # noqa: PLR0913 - keywords only, from one caller
        self,
        *,
        job: str,
        task: str,
        config: Mapping[str, Any],
        seed: Any,
        artifacts: Mapping[str, Any],
        trace: ReadTrace,
        files: Files,
        ask: AskModel,
        render: Render,
        judge: Judge,
        parse: Parse,
        logger: logging.Logger,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.task = task
        self.config = copy.deepcopy(dict(config))
        self.artifacts = Artifacts(artifacts, trace)
        self.files = files
        self.log = logger
        self.flags: dict[str, Any] = {}
        self.cycle = 0
        self.input: Any = None
        self.variables: dict[str, Any] = {}
        self.messages: list[Message] = []
        self.answer = ""
        self.output: Any = None
        self.critique = ""
        self.problems: list[dict[str, Any]] = []
        self.previous = ""
        self._job = job
        self._seed = seed
        self._documents = artifacts
        self._trace = trace
        self._ask = ask
        self._render = render
        self._judge = judge
        self._parse = parse
        self._loop = loop
        self._revoked = False
        self._call_time_s = 0.0
        self._call_started: dict[int, float] = {}
        self._call_numbers = itertools.count()

    @property
    def job(self) -> str:
        """The job's ID; the task then depends on it."""
        self._trace.job(self._job)
        return self._job

    @property
    def seed(self) -> Any:
        """A plain copy of the seed; the task then depends on all of it."""
        self._check()
        self._trace.read("seed", "", self._seed)
        return copy.deepcopy(self._seed)

    def read(self, pointer: str, task: str | None = None, default: Any = _UNSET) -> Any:
        """One value of the seed, or of a needed task's artifact; the task depends on just that.

        A missing value gives `default`, or a TaskError that names the place.
        """
        self._check()
        if task is not None and task not in self._documents:
            raise TaskError("not a needed task", no_such("task", task, self._documents))
        document, name = (
            (self._seed, "seed") if task is None else (self._documents[task], f"artifact:{task}")
        )
        value = value_at(document, pointer)
        self._trace.read(name, pointer, value)
        if value is not MISSING:
            return copy.deepcopy(value)
        if default is not _UNSET:
            return default
        raise TaskError("no such value", {"document": name, "pointer": pointer})

    def render(self, template: str, **variables: Any) -> str:
        """A template of the task's folder, or from pipeline-config/, with further variables."""
        self._check()
        return self._render(template, variables)

    def llm(self, messages: Sequence[Message] | str, schema: Any = None, **settings: Any) -> Answer:
        """A call to the model, from a plain function. Blocks until the answer is there."""
        self._check()
        future = asyncio.run_coroutine_threadsafe(
            self._call(messages, schema, settings), self._loop
        )
        answer = future.result()
        self._check()
        return answer

    async def llm_async(
        self, messages: Sequence[Message] | str, schema: Any = None, **settings: Any
    ) -> Answer:
        """A call to the model, from an async function."""
        self._check()
        future = asyncio.run_coroutine_threadsafe(
            self._call(messages, schema, settings), self._loop
        )
        answer = await asyncio.wrap_future(future)
        self._check()
        return answer

    def judge(self, value: Any) -> list[dict[str, Any]]:
        """The schema's problems with a value, as objects."""
        return [problem.as_json() for problem in self._judge(value)]

    def parse(self, answer: Answer | str) -> Any:
        """The document in an answer, as `parsing` finds it by default: without reasoning, and with
        harmless slips mended. Where there is none, the exception is that of `reject`."""
        self._check()
        return self._parse(answer)

    def reject(self, message: str, pointer: str = "") -> AnswerRejected:
        """An exception to raise: the answer fails the gate."""
        return AnswerRejected(Problem(printable(str(message)), printable(str(pointer))))

    # What follows is the runner's.

    def revoke(self) -> None:
        """From now on this context, and its files, do nothing more."""
        self.files.revoke()  # first: whoever sees the context revoked can write nothing any more
        self._revoked = True

    @property
    def is_revoked(self) -> bool:
        return self._revoked

    def call_time_s(self) -> float:
        """Seconds spent waiting for models so far: no stage's fault."""
        now = time.monotonic()
        return self._call_time_s + sum(now - each for each in self._call_started.values())

    def _check(self) -> None:
        if self._revoked:
            raise RevokedError(f"task {self.task} outlived its timeout")

    async def _call(
        self, messages: Sequence[Message] | str, schema: Any, settings: Mapping[str, Any]
    ) -> Answer:
        key = next(self._call_numbers)
        self._call_started[key] = time.monotonic()
        try:
            return await self._ask(asked(messages), schema, settings)
        finally:
            self._call_time_s += time.monotonic() - self._call_started.pop(key)


def as_messages(value: Any) -> list[Message]:
    """Messages from what a stage returned: a text, or a list of objects with role and content."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value or not all(map(_is_message, value)):
        raise TaskError(
            "not a conversation",
            {
                "found": reprlib.repr(value),
                "allowed": 'a text, or a list of {"role": a text, "content": a text or a list}',
            },
        )
    try:
        jsonio.normal(value, "messages")
    except InputError as error:
        raise TaskError(
            "messages must be JSON", {"found": error.as_line(("where", "file"))}
        ) from None
    messages: list[Message] = value
    return messages


def asked(value: Any) -> list[Message]:
    """The same of what is sent: it must say something."""
    messages = as_messages(value)
    # What a system message says is how to answer, and not what.
    asking = [each for each in messages if each["role"] not in _INSTRUCTING] or messages
    if all(map(_says_nothing, asking)):
        raise TaskError(
            "a conversation that says nothing",
            {"found": reprlib.repr(value)},
            hint="nothing was sent: a model is asked by a message that has a text",
        )
    return messages


def _says_nothing(message: Message) -> bool:
    """Whether a message has no text, and nothing else: no picture, no call of a tool."""
    content = message["content"]
    parts = [{"type": "text", "text": content or ""}] if not isinstance(content, list) else content
    return message.keys() <= {"role", "content", "name"} and all(
        isinstance(part, dict)
        and part.get("type", "text") == "text"
        and is_blank(str(part.get("text") or ""))
        for part in parts
    )


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        # No content: a message that calls tools. A list: text and pictures.
        and isinstance(value.get("content", ""), str | list | None)
        and "content" in value
    )
