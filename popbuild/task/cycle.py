"""Runs one task through its eleven stages, and again with what its gate found; the outcome is a
value: built, not passed, or skipped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import PopbuildError
from popbuild.base.redact import redact
from popbuild.model.problem import Problem
from popbuild.model.stage_names import kept_name
from popbuild.task import conditions, prompts, timed, user_code
from popbuild.task.answer.document import Found, whole_document
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, Built, NotPassed, Skipped, Work
from popbuild.task.context import Context
from popbuild.task.prompts import as_messages, as_sent, default_messages
from popbuild.task.returned import Returned
from popbuild.task.timed import run_command

_SHORT_CHARS = 65_536  # of an answer: to read so many as JSON takes no time to speak of


Functions = Mapping[str, Callable[[Any], Any]]  # of stages.py, by stage


async def load_functions(work: Work, asking: Asking) -> Functions:
    """The stages that the task's own code has."""
    if work.task.stages is None:
        return {}
    load = functools.partial(user_code.load_user_code, str(work.task.stages))
    return await timed.in_time(work, asking, "import", load)


async def run_task(work: Work, stages: Functions | None = None) -> Built | NotPassed | Skipped:
    """Run the eleven stages, with refinements, unless the task's condition is false. `stages` are
    those of its code, where that is loaded already. Raises TaskError or ProviderError for a
    crash."""
    runner = _Runner(work, stages)
    try:
        return await runner.run()
    except PopbuildError as error:
        work.log.skip_rest(f"the task stopped: {error.message}")
        raise


async def decide(work: Work, asking: Asking) -> Skipped | None:
    """Whether the task's condition leaves it out, or leaves this item of it out. Raises TaskError
    where that cannot be decided."""
    task, expressions = work.task, work.templates.expressions
    if not task.when:
        return None
    if conditions.is_about_items(task, expressions) != (work.item is not None):
        return None  # each item is asked, or all of them were
    work.begin(work.log.stage, is_foreign=True)  # the expression may run filters.py
    given = task, work.seen, work.trace, expressions, work.environment
    look = functools.partial(conditions.why_skipped, *given, item=work.item)
    reason = await timed.in_time(work, asking, "when", look)
    if reason is None:
        return None
    work.log.skip_rest(f"skipped: {reason}")
    return Skipped(reason)


class _Runner:
    def __init__(self, work: Work, stages: Functions | None) -> None:
        self._work = work
        self._stages = stages
        self._functions: Functions = {}
        self._asking = Asking(work)
        self._returned = Returned(work, self._asking)
        self._context = Context(work, self._asking, self._returned)

    async def run(self) -> Built | NotPassed | Skipped:
        work, log, context = self._work, self._work.log, self._context
        if (skipped := await decide(work, self._asking)) is not None:
            return skipped
        for path, digest in work.around.schema(work.task)[1].items():
            work.trace.file(path, digest)
        loaded = self._stages
        self._functions = await load_functions(work, self._asking) if loaded is None else loaded
        context.input = await self._run("ingestion", lambda: None)
        context.variables = await self._run("preProcessing", dict, self._returned.object)
        while True:
            try:
                return Built(await self._cycle(), log.cycle)
            except AnswerRejected as no:
                if no.is_final or log.cycle >= work.task.refinements:
                    left = f"no refinement left after {log.cycle}"
                    log.skip_rest("the same request is declined again" if no.is_final else left)
                    answer = self._returned.answer_file
                    return NotPassed(log.stage, no.problems, log.cycle, answer, no.is_final)
                await self._refine(no.problems)

    async def _refine(self, problems: Sequence[Problem]) -> None:
        log, context = self._work.log, self._context
        log.skip_rest("the gate failed before", until="critique")
        context.problems = [problem.as_json() for problem in problems]
        context.previous = context.answer
        default = functools.partial(prompts.critique, problems)
        context.critique = await self._run("critique", default, self._returned.text)
        self._asking.settings = await self._run("refine", lambda: None, self._returned.settings)
        log.skip_rest("the next cycle decides")
        log.cycle += 1
        self._asking.kept_prompt = ""

    async def _cycle(self) -> Any:
        """One cycle's output. Raises AnswerRejected, in the stage whose gate failed."""
        log, context, returned = self._work.log, self._context, self._returned
        if log.cycle:
            log.skip("done in the first cycle", "ingestion", "preProcessing")
        if self._work.task.command is not None:
            log.skip("the task is a command", "promptTemplating")
            await self._run("inference", self._command, self._take_answer)
        else:
            await self._prompt()
            await self._run("inference", self._infer, self._take_answer)
        context.output = await self._run(
            "parsing",
            self._parse,
            lambda value: returned.parsed(value, context.answer),
        )
        await self._validate("validateStructure", lambda: returned.judge(context.output))
        await self._validate("validateQuality", list)
        log.skip("the gates passed", "critique", "refine")
        try:
            await self._validate("finalValidation", lambda: returned.judge(context.output))
            return await self._run(
                "integration", lambda: None, lambda value: returned.final(value, context.output)
            )
        except AnswerRejected:
            log.take_back("critique", "refine")  # they run after all
            raise

    # The default stages that do more than a pure function, and what they take.

    async def _prompt(self) -> None:
        # A task's own inference may send something else than these messages.
        are_sent = "inference" not in self._functions
        work, context = self._work, self._context
        context.messages = await self._run(
            "promptTemplating",
            lambda: default_messages(work, context.progress(), are_sent=are_sent),
            as_sent if are_sent else as_messages,
        )
        name = kept_name(work.task.id, "prompt", "json", work.log.cycle)
        work.files.keep(name, context.messages)
        self._asking.kept_prompt = jsonio.digest(context.messages)

    async def _infer(self) -> str:
        schema = self._work.around.sent_schema(self._work.task)
        answer = await self._asking.ask(self._context.messages, schema, {})
        return answer.text

    async def _command(self) -> str:
        context = self._context
        given = {
            "cycle": self._work.log.cycle,
            "problems": context.problems,
            "previous": context.previous,
        }
        return await run_command(self._work, given, context.log)

    async def _parse(self) -> Found:
        answer, work = self._context.answer, self._work
        if work.task.answer == "text":
            return self._returned.parse(answer)
        whole = whole_document(answer) if len(answer) <= _SHORT_CHARS else None
        if whole is not None:
            return whole
        parse = functools.partial(self._returned.parse, answer)
        return await timed.in_time(work, self._asking, "parsing", parse)

    def _take_answer(self, value: object) -> None:
        self._context.answer = self._returned.answer(value)
        self._returned.check_answer(value)

    async def _validate(self, stage: str, default: Callable[[], Any]) -> None:
        """A validation stage; its problems end the cycle."""
        await self._run(stage, default, self._returned.no_problems)
        self._work.log.validation(stage, ())

    # Running one stage.

    async def _run(
        self,
        stage: str,
        default: Callable[[], Any],
        take: Callable[[Any], Any] = lambda returned: returned,
    ) -> Any:
        """A stage's own function if stages.py has it, else the default. `take` turns what it
        returned into what the next stage gets, or refuses it. Logged once, whatever happens."""
        log, watch = self._work.log, self._work.watch
        is_own = stage in self._functions
        self._work.begin(stage, is_foreign=is_own or stage == "inference")
        started_ms = watch.worked_ms
        try:
            result = take(await self._call(stage, default))
        except AnswerRejected as no:
            raise self._failed(no, started_ms) from None
        except PopbuildError as error:
            if error.declined:
                declined = AnswerRejected(Problem(error.as_line()), is_final=True)
                raise self._failed(declined, started_ms) from None
            for name, value in log.where.items():
                error.values.setdefault(name, str(value))
            log.outcome(stage, "error", str(error), watch.worked_ms - started_ms)
            raise
        done = "done (stages.py)" if is_own else "done"
        log.outcome(stage, "done", done, watch.worked_ms - started_ms)
        return result

    async def _call(self, stage: str, default: Callable[[], Any]) -> Any:
        work, asking = self._work, self._asking
        function = self._functions.get(stage)
        if function is not None:
            own = functools.partial(function, self._context)
            return await timed.user_stage(work, asking, stage, own)
        if inspect.iscoroutinefunction(default):
            return await default()
        if self._may_take_long(stage):
            return await timed.in_time(work, asking, stage, default)
        return default()

    def _may_take_long(self, stage: str) -> bool:
        """Templates are foreign input; a schema's patterns may never end."""
        if stage in ("validateStructure", "finalValidation"):
            has_schema = self._work.task.schema is not None
            return has_schema and not self._returned.knows(self._context.output)
        return stage == "promptTemplating"

    def _failed(self, no: AnswerRejected, started_ms: float) -> AnswerRejected:
        """The same without any key, once it is logged: problems stand in the next prompt too."""
        log, took_ms = self._work.log, self._work.watch.worked_ms - started_ms
        masked = tuple(map(self._masked, no.problems))
        message = str(masked[0]) if len(masked) == 1 else f"{len(masked)} problems"
        log.outcome(log.stage, "failed", message, took_ms, masked)
        log.validation(log.stage, masked)
        return AnswerRejected(*masked, is_final=no.is_final)

    def _masked(self, problem: Problem) -> Problem:
        environment = self._work.environment
        message = redact(problem.message, environment)
        return replace(problem, message=message, pointer=redact(problem.pointer, environment))
