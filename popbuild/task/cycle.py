"""Runs one task through its stages and cycles; the outcome is a value: built, or not passed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, PopbuildError, TaskError, printable, shown_error
from popbuild.base.fair_turns import away
from popbuild.base.redact import redact, redact_value, secret_in
from popbuild.base.stopwatch import Stopwatch
from popbuild.base.texts import is_blank
from popbuild.base.threads import abandon, start_daemon
from popbuild.jobs.fingerprint import Seen
from popbuild.llm.calls import Calls
from popbuild.llm.ledger import Origin
from popbuild.llm.request import Answer, Message, Request
from popbuild.model.clock import timestamp
from popbuild.model.config.config import Config
from popbuild.model.config.settings import effective, formats_by_hand, refusals
from popbuild.model.letter import Call
from popbuild.model.pipeline import Task
from popbuild.model.place import Place
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.model.schema.schemas import Schema
from popbuild.model.stage_names import STAGES, kept_name
from popbuild.task import command, default_stages, user_code
from popbuild.task.answer import document
from popbuild.task.answer.document import Found, NoDocument
from popbuild.task.answer.kinds import Kinds
from popbuild.task.answer.problems import problems_of
from popbuild.task.context import AnswerRejected, Context, RevokedError, as_messages, asked
from popbuild.task.reads import ArtifactsView, ReadTrace, plain, view
from popbuild.task.task_files import Files
from popbuild.task.templates.render import Templates, nothing_to_send

_UNRUN = object()
_SOON_S = 0.1  # a stage that ends by then is not worth a write
_PROBLEM_KEYS = ("message", "pointer", "schemaPath")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


@dataclass
class Work:
    """One attempt at a task: what it starts from, and what it collects on its way.

    `seen` are the documents as they are now; `schema` is None for a task that answers in text, and
    `sent_schema` the same as a call sends it. `place` is where the task's model answers,
    `place_of` says it of any model. `watch` measures the task's own work. `on_stage` is told of
    every stage that begins, in which cycle, and whether it waits for a model or for code that is
    not ours; `on_lasting` of any other that takes long enough to be seen.
    """

    job: str
    run: str
    task: Task
    config: Config
    templates: Templates
    seen: Seen
    schema: Schema | None
    sent_schema: Any
    schema_files: Mapping[str, str]
    files: Files
    calls: Calls
    watch: Stopwatch
    place: Place
    place_of: Callable[[str], Place]
    first_sample: int = 0
    on_stage: Callable[[str, int, bool], None] = lambda stage, cycle, waits: None
    on_lasting: Callable[[], None] = lambda: None
    trace: ReadTrace = field(default_factory=ReadTrace)
    log: list[dict[str, Any]] = field(default_factory=list)
    made: list[Call] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # of no call: what a command answered, say
    validation: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """The task's output passed every gate. `cycles` counts from 0: the refinements needed."""

    output: Any
    cycles: int


@dataclass(frozen=True)
class NotPassed:
    """The gate said no to the last try as well. `answer` is the raw answer's log file. `declined`
    says that the provider refuses the request itself."""

    stage: str
    problems: tuple[Problem, ...]
    cycles: int
    answer: str | None
    declined: bool = False


async def run_task(work: Work) -> Built | NotPassed:
    """Run the eleven stages, with refinements. Raises TaskError or ProviderError for a crash."""
    return await _Runner(work).run()


class _Raised(Exception):
    """What a stage's own function raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Failed(Exception):
    """A gate said no in this cycle. `is_final` says that no other try can help."""

    def __init__(self, stage: str, problems: Sequence[Problem], is_final: bool = False) -> None:
        super().__init__(stage)
        self.stage = stage
        self.problems = tuple(problems)
        self.is_final = is_final


class _Runner:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._task = work.task
        self._functions: Mapping[str, Callable[[Any], Any]] = {}
        self._stage = STAGES[0]
        self._mentioned: set[str] = set()
        self._asked: dict[str, int] = {}
        self._cycle_settings: dict[str, Any] = {}
        self._last: Answer | None = None
        self._answer_file: str | None = None
        self._kept_prompt = ""
        self._kept_calls: Counter[int] = Counter()
        self._calls_by_text: dict[str, int] = {}
        # As it is sent, it is one document, so that what it refers to can be looked up.
        self._kinds = Kinds(work.sent_schema or (work.schema.document if work.schema else None))
        self._context = Context(
            job=work.job,
            task=work.task.id,
            config=work.seen.config,
            seed=work.seen.seed,
            artifacts=work.seen.artifacts,
            trace=work.trace,
            files=work.files,
            ask=self._ask_from_code,
            render=self._render,
            judge=self._judge,
            parse=self._parse_for_code,
            logger=self._logger(),
            loop=asyncio.get_running_loop(),
        )

    async def run(self) -> Built | NotPassed:
        try:
            return await self._run_all()
        except PopbuildError as error:
            self._skip_rest(f"the task stopped: {error.message}")
            raise

    async def _run_all(self) -> Built | NotPassed:
        work, context = self._work, self._context
        for path, digest in work.schema_files.items():
            work.trace.file(path, digest)
        if self._task.stages is not None:
            path = str(self._task.stages)
            self._functions = await self._in_time("import", lambda: user_code.load_user_code(path))
        context.input = await self._run("ingestion", lambda: None)
        context.variables = await self._run("preProcessing", dict, self._object)
        while True:
            try:
                return Built(await self._cycle(), context.cycle)
            except _Failed as failed:
                problems = failed.problems
                if failed.is_final or context.cycle >= self._task.refinements:
                    left = f"no refinement left after {context.cycle}"
                    self._skip_rest(
                        "the same request is declined again" if failed.is_final else left
                    )
                    return NotPassed(
                        failed.stage, problems, context.cycle, self._answer_file, failed.is_final
                    )
                self._skip_rest("the gate failed before", until="critique")
                context.problems = [problem.as_json() for problem in problems]
                context.previous = context.answer
                context.critique = await self._run(
                    "critique", functools.partial(default_stages.critique, problems), self._text
                )
                self._cycle_settings = await self._run("refine", lambda: None, self._settings)
                self._skip_rest("the next cycle decides")
                context.cycle += 1
                self._kept_prompt = ""

    async def _cycle(self) -> Any:
        context = self._context
        if context.cycle:
            for stage in ("ingestion", "preProcessing"):
                self._entry(stage, "skipped", "done in the first cycle", 0.0)
        if self._task.command is not None:
            self._entry("promptTemplating", "skipped", "the task is a command", 0.0)
            context.answer = await self._run("inference", self._command, self._answer)
        else:
            take = asked if self._sends_messages else as_messages
            context.messages = await self._run("promptTemplating", self._messages, take)
            self._keep("prompt", "json", context.messages)
            self._kept_prompt = jsonio.digest(context.messages)
            context.answer = await self._run("inference", self._infer, self._answer)
        context.output = await self._run(
            "parsing", lambda: self._parse(context.answer), self._parsed
        )
        await self._validate("validateStructure", lambda: self._judge(context.output))
        await self._validate("validateQuality", list)
        for stage in ("critique", "refine"):
            self._entry(stage, "skipped", "the gates passed", 0.0)
        try:
            await self._validate("finalValidation", lambda: self._judge(context.output))
            return await self._run("integration", lambda: None, self._final)
        except _Failed:
            self._drop_entries("critique", "refine")  # they run after all
            raise

    @property
    def _sends_messages(self) -> bool:
        """Whether the messages are what is sent: code of its own may ask something else."""
        return "inference" not in self._functions

    # The default stages that need more than a pure function.

    def _messages(self) -> list[Message]:
        """system.md and prompt.md. In a refinement whose templates do not look at the problems,
        the conversation goes on: the failed answer, then the critique."""
        context = self._context
        self._mentioned = set()
        messages: list[Message] = []
        if self._task.path("system.md"):
            messages.append({"role": "system", "content": self._render("system.md", {})})
        text = self._render("prompt.md", {})
        if self._sends_messages and is_blank(text):
            seen = self._work.seen
            path = f"{self._task.folder}/prompt.md"
            raise nothing_to_send(path, self._work.trace, seen.seed, seen.artifacts)
        messages.append({"role": "user", "content": text})
        if context.cycle and not self._mentioned & {"problems", "previous"}:
            failed = default_stages.previous(context.previous)
            if failed.strip():
                messages.append({"role": "assistant", "content": failed})
            messages.append({"role": "user", "content": context.critique})
        return messages

    async def _infer(self) -> str:
        return (await self._ask(self._context.messages, self._work.sent_schema, {})).text

    async def _command(self) -> str:
        context, work = self._context, self._work
        work.trace.needs(work.seen.artifacts)
        for name, value in work.seen.artifacts.items():
            work.trace.read(f"artifact:{name}", "", value)
        work.trace.read("seed", "", work.seen.seed)
        work.trace.job(work.job)
        async with away():
            return await command.run_command(
                self._task,
                work.config.root.config / self._task.folder,
                {
                    "job": work.job,
                    "task": self._task.id,
                    "seed": work.seen.seed,
                    "artifacts": dict(work.seen.artifacts),
                    "config": dict(work.seen.config),
                    "cycle": context.cycle,
                    "problems": context.problems,
                    "previous": context.previous,
                },
                lambda text: self._context.log.info("%s", text),
            )

    def _parse(self, text: str) -> Found:
        """The document in an answer, as `parsing` finds it. Raises AnswerRejected."""
        try:
            if self._task.answer == "text":
                return default_stages.parse_text(text)
            return default_stages.parse_json(text, self._kinds)
        except NoDocument as error:
            raise AnswerRejected(Problem(printable(str(error)))) from None

    def _parsed(self, value: Any) -> Any:
        """What parsing returned. What is to be said of a document that we found is said."""
        if isinstance(value, Found):
            self._note_found(self._context.answer, value)
            value = value.value
        return self._document(value)

    def _parse_for_code(self, value: Any) -> Any:
        """The same for any answer, for code that has parsing of its own."""
        text = self._text(value)
        found = self._parse(text)
        self._note_found(text, found)
        return found.value

    def _note_found(self, text: str, found: Found) -> None:
        """Warnings go to the call that gave the text, and to the log; notes to the log."""
        for note in found.notes:
            self._entry(self._stage, None, note, 0.0)
        for warning in found.warnings:
            self._entry(self._stage, None, warning, 0.0, level="warning")
        number = self._calls_by_text.get(text)
        if number is None:
            self._work.warnings.extend(found.warnings)
            return
        call = self._work.made[number]
        more = [each for each in found.warnings if each not in call.warnings]
        self._work.made[number] = replace(call, warnings=(*call.warnings, *more))

    # Running one stage.

    async def _run(
        self,
        stage: str,
        default: Callable[[], Any],
        take: Callable[[Any], Any] = lambda returned: returned,
    ) -> Any:
        """A stage's own function if stages.py has it, else the default. `take` turns what it
        returned into what the next stage gets; it may find it wrong. Logged once, whatever
        becomes of it."""
        self._stage = stage
        waits = stage in self._functions or stage == "inference"
        self._work.on_stage(stage, self._context.cycle, waits)
        started_ms = self._work.watch.worked_ms
        own = " (stages.py)" if stage in self._functions else ""
        try:
            result = take(await self._returned(stage, default))
        except (AnswerRejected, _Failed) as no:
            problems = no.problems if isinstance(no, _Failed) else (no.problem,)
            is_final = isinstance(no, _Failed) and no.is_final
            raise self._not_passed(stage, problems, started_ms, is_final) from None
        except PopbuildError as error:
            if error.declined:
                declined = (Problem(error.as_line()),)
                raise self._not_passed(stage, declined, started_ms, True) from None
            error.values.setdefault("task", self._task.id)
            error.values.setdefault("stage", stage)
            self._entry(stage, "error", str(error), self._since(started_ms))
            raise
        self._entry(stage, "done", f"done{own}", self._since(started_ms))
        return result

    def _since(self, started_ms: float) -> float:
        return self._work.watch.worked_ms - started_ms

    def _not_passed(
        self, stage: str, problems: Sequence[Problem], started_ms: float, is_final: bool
    ) -> _Failed:
        """The failure of a stage whose gate said no, after it was logged."""
        masked = tuple(map(self._masked, problems))
        message = str(masked[0]) if len(masked) == 1 else f"{len(masked)} problems"
        self._entry(stage, "failed", message, self._since(started_ms), masked)
        self._note_validation(stage, masked)
        return _Failed(stage, masked, is_final)

    async def _returned(self, stage: str, default: Callable[[], Any]) -> Any:
        function = self._functions.get(stage)
        if function is not None:
            return await self._run_own(stage, function)
        if inspect.iscoroutinefunction(default):
            return await default()
        if self._may_take_long(stage):
            return await self._in_time(stage, default)
        return default()

    def _may_take_long(self, stage: str) -> bool:
        """Templates and answers are foreign input, patterns of a schema a trap."""
        if stage == "parsing":
            return self._task.answer == "json"
        if stage in ("validateStructure", "finalValidation"):
            return self._work.schema is not None
        return stage == "promptTemplating"

    async def _run_own(self, stage: str, function: Callable[[Any], Any]) -> Any:
        """The user's function, in a thread that cannot hold anybody up."""

        def call() -> Any:
            try:
                result = function(self._context)
                return asyncio.run(result) if inspect.iscoroutine(result) else result
            except (AnswerRejected, PopbuildError):
                raise
            except BaseException as error:
                # Carried, not raised: what the code calls an interrupt or an exit is none of ours.
                raise _Raised(error) from None

        try:
            async with away():
                return await self._in_time(stage, call)
        except _Raised as raised:
            error = raised.error
        if isinstance(error, RevokedError):
            raise self._timeout(stage)
        raise TaskError(
            "a stage raised an exception",
            {
                "task": self._task.id,
                "stage": stage,
                "at": user_code.place_in(error, str(self._task.stages)),
                "found": shown_error(error),
            },
            hint="--debug shows the traceback",
        ) from error

    async def _in_time(self, stage: str, function: Callable[[], Any]) -> Any:
        """Wait for a thread until the task's timeout; time spent in calls does not count."""
        future = start_daemon(function)
        started = time.monotonic()
        before = self._context.call_time_s()
        lasts = False
        while True:
            spent = time.monotonic() - started - (self._context.call_time_s() - before)
            remaining = self._task.timeout_s - spent
            if remaining <= 0:
                self._context.revoke()
                abandon()
                raise self._timeout(stage)
            try:
                most_s = remaining if lasts else min(remaining, _SOON_S)
                done, _ = await asyncio.wait({future}, timeout=most_s)
            except asyncio.CancelledError:
                self._context.revoke()
                abandon()  # what it computes on, nobody waits for
                raise
            if done:
                return future.result()
            if not lasts:
                lasts = True
                self._work.on_lasting()

    def _timeout(self, stage: str) -> TaskError:
        return TaskError(
            "a stage took too long",
            {"task": self._task.id, "stage": stage, "allowed": f"{self._task.timeout_s:g} s"},
            hint="timeout in task.yaml sets the limit, in seconds",
        )

    async def _validate(self, stage: str, default: Callable[[], Any]) -> None:
        """A validation stage; its problems end the cycle."""
        await self._run(stage, default, self._no_problems)
        self._note_validation(stage, ())

    # Calls.

    async def _ask_from_code(
        self, messages: Sequence[Message], schema: Any, settings: Mapping[str, Any]
    ) -> Answer:
        """A call of stages.py. Its prompt and answer are kept, unless it asks what the cycle's
        kept prompt says: that one's answer is what inference returns."""
        self._check_settings(settings)
        if jsonio.digest(list(messages)) == self._kept_prompt:
            return await self._ask(messages, schema, settings)
        task, files, cycle = self._task.id, self._work.files, self._context.cycle
        self._kept_calls[cycle] += 1
        number = self._kept_calls[cycle]
        files.keep(kept_name(task, "prompt", "json", cycle, number), list(messages))
        answer = await self._ask(messages, schema, settings)
        files.keep(kept_name(task, "answer", "txt", cycle, number), _shown(answer.text))
        return answer

    async def _ask(
        self, messages: Sequence[Message], schema: Any, settings: Mapping[str, Any]
    ) -> Answer:
        """One call. The same request again, in this attempt, asks for another draw."""
        work = self._work
        merged = {**self._task.settings, **self._cycle_settings, **settings}
        model, timeout_s = merged.pop("model", None), merged.pop("timeout", None)
        if not isinstance(model, str):
            raise TaskError(
                "the task has no model",
                {"task": self._task.id},
                hint='set "model" in taskConfig, in task.yaml under config, or POPBUILD_MODEL',
            )
        # Code that names a model means that one, unless it names others too.
        own = self._task.fallbacks if model == self._task.model else ()
        fallbacks = merged.pop("fallbacks", own)
        _as_json(schema)
        merged = effective(merged.items())
        if schema is not None and (by_hand := formats_by_hand(merged)):
            raise self._bad_settings([Problem("a schema is sent as one", by_hand[0])])
        self._refuse_key([list(messages), merged, schema])
        request = Request(
            model,
            tuple(messages),
            merged,
            schema,
            place=work.place,
            timeout_s=timeout_s or self._task.call_timeout_s,
        )
        draw = self._asked.get(request.digest, 0)
        self._asked[request.digest] = draw + 1
        sample = work.first_sample + draw
        requests = [replace(request, sample=sample) if sample else request]
        for other in fallbacks:
            requests.append(replace(requests[0], model=other, place=work.place_of(other)))
        pipeline = str(work.seen.seed.get("pipeline", ""))
        origin = Origin(work.run, work.job, self._task.id, pipeline, self._context.cycle)
        with work.watch.call():
            had = await work.calls.ask_in_order(requests, origin)
        if had.request is not requests[0] and had.request.model in self._task.fallbacks:
            work.trace.fallback(had.request.model)
        for each in had.declined:
            self._note_call(*each)
        self._note_call(had.request, had.answer)
        self._last = had.answer
        return had.answer

    def _note_call(self, request: Request, answer: Answer) -> None:
        used = answer.used
        self._calls_by_text[answer.text] = len(self._work.made)
        self._work.made.append(
            Call(
                request=answer.kept_as or request.digest,
                model=request.model,
                sample=request.sample,
                stored=answer.stored,
                finish_reason=answer.finish_reason,
                input_tokens=used.input,
                output_tokens=used.output,
                cached_tokens=used.cached,
                written_tokens=used.written,
                reasoning_tokens=used.reasoning,
                counted=used.is_counted_by_us,
                cost=answer.cost,
                duration_ms=answer.duration_ms,
                stage=self._stage,
                cycle=self._context.cycle,
                warnings=answer.warnings,
            )
        )
        for warning in answer.warnings:
            self._entry(self._stage, None, warning, 0.0, level="warning")

    def _refuse_key(self, request: Any) -> None:
        """What is sent is also kept, in the store: no key may be in it."""
        name = secret_in(jsonio.compact(request), self._work.config.environment)
        if name is not None:
            raise TaskError(
                "a prompt holds a key, so it is not sent",
                {"task": self._task.id, "variable": name},
                hint="take it out of the prompt, the seed or the code that it comes from",
            )

    # What stages return.

    def _judge(self, document: Any) -> list[Problem]:
        return list(gate.judge(document, self._work.schema)) if self._work.schema else []

    def _answer(self, value: Any) -> str:
        """The answer, kept. One that is empty or cut off never reaches parsing: no success."""
        given = value.text if isinstance(value, Answer) else value
        if isinstance(given, str) and given in self._calls_by_text and _half(given) is not None:
            # The model's fault, not the code's. What is kept shows it by its number.
            text = self._context.answer = _shown(given)
            self._answer_file = self._keep("answer", "txt", text)
            raise _Failed(self._stage, [Problem(f"the answer has {_half(given)}")])
        text = self._context.answer = self._text(value)
        self._answer_file = self._keep("answer", "txt", text)
        last = self._last if self._last is not None and self._last.text == text else None
        problems = problems_of(text, last)
        if problems:
            raise _Failed(self._stage, problems, last is not None and last.is_declined)
        return text

    def _text(self, value: Any) -> str:
        if isinstance(value, Answer):
            value = value.text
        if not isinstance(value, str):
            raise self._wrong(value, "a text")
        half = _half(value)
        if half is not None:
            raise TaskError(
                "a text has half a surrogate pair",
                {"task": self._task.id, "stage": self._stage, "found": half},
                hint="it is half of one character: encode the text with both halves, or drop it",
            )
        return value

    def _object(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        raise self._wrong(value, "an object")

    def _settings(self, value: Any) -> dict[str, Any]:
        settings = self._object(value)
        self._check_settings(settings)
        return settings

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """What code sets for a call is refused as the same in a configuration would be."""
        if not settings:
            return
        given = _as_json(dict(settings))
        problems = [*gate.judge(given, schemas.for_settings()), *refusals(given)]
        if problems:
            raise self._bad_settings(list({each.pointer: each for each in problems}.values()))

    def _bad_settings(self, problems: Sequence[Problem]) -> TaskError:
        values: dict[str, object] = {"task": self._task.id, "stage": self._stage}
        for number, problem in enumerate(problems, 1):
            values[f"setting {number}" if len(problems) > 1 else "setting"] = problem
        return TaskError(
            "a call has a setting that it cannot have",
            values,
            hint="allowed is what `config` of task.yaml may hold",
        )

    def _no_problems(self, value: Any) -> None:
        """Nothing, if a validation found nothing."""
        problems = []
        for each in value if isinstance(value, list | tuple) else () if value is None else [_UNRUN]:
            if isinstance(each, Problem):
                problems.append(each)
            elif isinstance(each, str):
                problems.append(Problem(printable(each)))
            elif isinstance(each, dict) and _is_problem(each):
                told = {key: printable(text) for key, text in each.items() if key in _PROBLEM_KEYS}
                problems.append(Problem.from_json(told))
            else:
                raise self._wrong(value, "a list of problems: texts, or objects with message")
        if problems:
            raise _Failed(self._stage, problems)

    def _document(self, output: Any) -> Any:
        if output is None:
            raise self._wrong(output, "a document")
        try:
            document = jsonio.normal(output, f"output of {self._stage}")
        except InputError:
            raise self._wrong(output, "a JSON document") from None
        # Here, so that the gate judges what will stand on disk, and the letter vouches for it.
        return redact_value(document, self._work.config.environment)

    def _final(self, output: Any) -> Any:
        """What integration returned, judged once more; or what was there before it."""
        if output is None:
            return self._context.output
        document = self._document(output)
        problems = self._judge(document)
        if problems:
            raise _Failed(self._stage, problems)
        return document

    def _wrong(self, value: Any, allowed: str) -> TaskError:
        return TaskError(
            "a stage returned the wrong thing",
            {
                "task": self._task.id,
                "stage": self._stage,
                # Bounded in depth and length, and proof against a __repr__ that fails.
                "found": f"{type(value).__name__} {_REPR.repr(value)}",
                "allowed": allowed,
            },
        )

    # Rendering, logs.

    def _render(self, template: str, variables: Mapping[str, Any]) -> str:
        work, context = self._work, self._context
        path, beside = template, f"{self._task.folder}/{template}"
        if beside in work.config.snapshot.files:
            path = beside
        else:
            work.trace.file(beside, jsonio.ABSENT)  # one that appears there comes first
        if path not in work.config.snapshot.files:
            raise TaskError(
                "the task has no such template",
                {"task": self._task.id, "missing": f"pipeline-config/{beside}"},
                hint="a name is looked up beside the task's own files, then from pipeline-config/",
            )
        text, names = work.templates.render(
            path,
            {
                "seed": view(work.seen.seed, "seed", "", work.trace),
                "artifacts": ArtifactsView(work.seen.artifacts, work.trace),
                "config": dict(work.seen.config),
                "variables": context.variables,
                "problems": context.problems,
                "previous": default_stages.previous(context.previous),
                "cycle": context.cycle,
                **{name: plain(value) for name, value in variables.items()},
            },
            work.trace,
        )
        self._mentioned |= names
        return text

    def _masked(self, problem: Problem) -> Problem:
        """A problem that names no key: it stands in logs, and in the next prompt."""
        environment = self._work.config.environment
        message, pointer = (
            redact(each, environment) for each in (problem.message, problem.pointer)
        )
        return replace(problem, message=message, pointer=pointer)

    def _keep(self, what: str, ending: str, value: Any) -> str:
        """Keep a cycle's prompt or raw answer among the task's logs; gives the path in the job."""
        name = kept_name(self._task.id, what, ending, self._context.cycle)
        self._work.files.keep(name, value)
        return f"files/logs/{name}"

    def _entry(
        self,
        stage: str,
        outcome: str | None,
        message: str,
        took_ms: float,
        problems: Sequence[Problem] = (),
        level: str | None = None,
    ) -> None:
        levels = {"failed": "warning", "error": "error"}
        entry: dict[str, Any] = {
            "timestamp": timestamp(),
            "level": level or levels.get(outcome or "", "info"),
            "stage": stage,
            "cycle": self._context.cycle,
            "message": printable(redact(message, self._work.config.environment)),
        }
        if outcome is not None:
            entry["outcome"] = outcome
            entry["durationMs"] = round(took_ms, 2) if took_ms else 0
        if problems:
            entry["problems"] = [problem.as_json() for problem in problems]
        self._work.log.append(entry)

    def _skip_rest(self, reason: str, until: str | None = None) -> None:
        """An entry for each stage that has none in this cycle, up to the next that runs."""
        cycle = self._context.cycle
        seen = {
            each["stage"] for each in self._work.log if each["cycle"] == cycle and "outcome" in each
        }
        for stage in STAGES[: STAGES.index(until)] if until else STAGES:
            if stage not in seen:
                self._entry(stage, "skipped", reason, 0.0)

    def _drop_entries(self, *stages: str) -> None:
        """Take back what was written about these stages in this cycle."""
        cycle = self._context.cycle
        self._work.log[:] = [
            each
            for each in self._work.log
            if not (each["cycle"] == cycle and each["stage"] in stages and "outcome" in each)
        ]

    def _note_validation(self, stage: str, problems: Sequence[Problem]) -> None:
        self._work.validation.append(
            {
                "stage": stage,
                "cycle": self._context.cycle,
                "problems": [problem.as_json() for problem in problems],
            }
        )

    def _logger(self) -> logging.Logger:
        """A logger of its own, in no hierarchy: its lines go to execution-logs.json alone."""
        runner = self

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if runner._context.is_revoked:
                    raise RevokedError("the task outlived its timeout")
                level = record.levelname.lower().replace("critical", "error")
                runner._entry(runner._stage, None, record.getMessage(), 0.0, level=level)

        logger = logging.Logger(f"popbuild.{self._task.id}", logging.DEBUG)
        logger.addHandler(Handler())
        return logger


def _half(text: str) -> str | None:
    """Half a surrogate pair in a text, with the place where it stands; None where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = document.place(text, error.start)
        return f"half a surrogate pair, {text[error.start]!a}, at {at}"
    return None


def _shown(text: str) -> str:
    """A text as UTF-8 can hold it: half a surrogate pair by its number."""
    return text.encode("utf-8", "backslashreplace").decode()


def _as_json(value: Any) -> Any:
    """Settings or a schema as JSON says them. Raises TaskError."""
    try:
        return jsonio.normal(value, "settings")
    except InputError as error:
        raise TaskError(
            "a call's settings and schema must be JSON", {"found": error.values["found"]}
        ) from None


def _is_problem(value: Mapping[str, Any]) -> bool:
    return "message" in value and all(
        isinstance(value[key], str) for key in _PROBLEM_KEYS if key in value
    )
