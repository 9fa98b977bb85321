"""How one attempt asks models: settings become requests, answers become calls of the letter.

The store, the ledger and the provider come after `Calls.ask_in_order`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import InputError, TaskError
from popbuild.base.redact import secret_in
from popbuild.llm.ledger import Origin
from popbuild.llm.request import Answer, Message, Request, writable
from popbuild.model.config.settings import effective, formats_by_hand, refusals
from popbuild.model.letter import Call
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.model.stage_names import kept_name
from popbuild.task.attaching import files_to_send
from popbuild.task.attempt import Work
from popbuild.task.prompts import as_sent


class Asking:
    """The calls of one attempt. `settings` are those that `refine` returned for this cycle,
    `kept_prompt` is the digest of the cycle's messages, `last` the answer that came last."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.settings: dict[str, Any] = {}
        self.kept_prompt = ""
        self.last: Answer | None = None
        self._draws: Counter[str] = Counter()  # by the request's digest
        self._kept: Counter[int] = Counter()  # prompts of stages.py, by cycle
        self._by_text: dict[str, int] = {}  # the newest call that gave a text
        self._under_way = 0
        self._waited_s = 0.0

    def waited_s(self) -> float:
        """Seconds that code has spent waiting for models: they do not count as its own."""
        return self._waited_s + self._under_way * time.monotonic()

    async def ask_from_code(
        self, given: Sequence[Message] | str, schema: object, settings: Mapping[str, Any]
    ) -> Answer:
        """A call of stages.py. Its prompt and answer are kept, unless it sends the cycle's kept
        prompt: that answer is what inference returns."""
        self._waited_s -= time.monotonic()
        self._under_way += 1
        try:
            messages = as_sent(given)
            self.check_settings(settings)
            if jsonio.digest(messages) == self.kept_prompt:
                return await self.ask(messages, schema, settings)
            task, files, cycle = self._work.task.id, self._work.files, self._work.log.cycle
            self._kept[cycle] += 1
            number = self._kept[cycle]
            files.keep(kept_name(task, "prompt", "json", cycle, number), messages)
            answer = await self.ask(messages, schema, settings)
            files.keep(kept_name(task, "answer", "txt", cycle, number), writable(answer.text))
            return answer
        finally:
            self._under_way -= 1
            self._waited_s += time.monotonic()

    async def ask(
        self, messages: Sequence[Message], schema: object, settings: Mapping[str, Any]
    ) -> Answer:
        """One call. The same request again, in this attempt, asks for another draw."""
        work = self._work
        requests = self._requests(messages, schema, settings)
        pipeline = str(work.seen.seed.get("pipeline", ""))
        item = work.item.key if work.item is not None else ""
        origin = Origin(work.run, work.inputs.job, work.task.id, pipeline, work.log.cycle, item)
        with work.watch.call():
            answered = await work.calls.ask_in_order(requests, origin)
        model = answered.request.model
        if answered.request is not requests[0] and model in work.task.fallbacks:
            work.trace.fallback(model)
        for request, answer in (*answered.declined, (answered.request, answered.answer)):
            self._note_call(request, answer)
        self.last = answered.answer
        return answered.answer

    def _requests(
        self, messages: Sequence[Message], schema: object, settings: Mapping[str, Any]
    ) -> list[Request]:
        work = self._work
        merged = {**work.task.settings, **self.settings, **settings}
        model, timeout_s = merged.pop("model", None), merged.pop("timeout", None)
        if not isinstance(model, str):
            raise TaskError(
                "the task has no model",
                {"task": work.task.id},
                hint='set "model" under defaults in pipeline.json, or POPBUILD_MODEL',
            )
        # Code that names a model means that one, unless it names fallbacks too.
        own = work.task.fallbacks if model == work.task.model else ()
        fallbacks = merged.pop("fallbacks", own)
        merged.pop("accepts", None)  # said of a model, not to it
        _as_json(schema)
        merged = effective(merged.items())
        if schema is not None and (by_hand := formats_by_hand(merged)):
            raise self._bad_settings([Problem("a schema is sent as one", by_hand[0])])
        # What is sent is also kept, in the store: it must hold no key.
        sent = jsonio.compact([list(messages), merged, schema])
        if (name := secret_in(sent, work.environment)) is not None:
            raise TaskError(
                "a prompt holds a key, so it is not sent",
                {"task": work.task.id, "variable": name},
                hint="take it out of the prompt, the seed or the code that it comes from",
            )
        request = Request(
            model,
            tuple(messages),
            merged,
            schema,
            place=work.inputs.place,
            timeout_s=timeout_s or work.task.call_timeout_s,
            files=files_to_send(list(messages), work.seen, work.around.root),
        )
        sample = work.inputs.sample + self._draws[request.digest]
        self._draws[request.digest] += 1
        first = replace(request, sample=sample) if sample else request
        places = ((each, work.around.place_of(each, work.task.settings)) for each in fallbacks)
        return [first, *(replace(first, model=model, place=place) for model, place in places)]

    def _note_call(self, request: Request, answer: Answer) -> None:
        self._by_text[answer.text] = len(self._work.made)
        log = self._work.log
        self._work.made.append(call_of(request, answer, log.stage, log.cycle))
        for warning in answer.warnings:
            self._work.log.line(warning, "warning")

    def gave(self, text: str) -> bool:
        return text in self._by_text

    def warn(self, text: str, warnings: Sequence[str]) -> None:
        """Note warnings about a text with the call that gave it, and in the log."""
        for warning in warnings:
            self._work.log.line(warning, "warning")
        number = self._by_text.get(text)
        if number is None:
            self._work.warnings.extend(warnings)
            return
        call = self._work.made[number]
        more = [each for each in warnings if each not in call.warnings]
        self._work.made[number] = replace(call, warnings=(*call.warnings, *more))

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise TaskError for what a configuration could not set for a call either."""
        if not settings:
            return
        given = _as_json(dict(settings))
        problems = [*gate.judge(given, schemas.for_settings()), *refusals(given)]
        if problems:
            raise self._bad_settings(list({each.pointer: each for each in problems}.values()))

    def _bad_settings(self, problems: Sequence[Problem]) -> TaskError:
        values = self._work.log.where
        for number, problem in enumerate(problems, 1):
            values[f"setting {number}" if len(problems) > 1 else "setting"] = problem
        return TaskError(
            "a call has a setting that it cannot have",
            values,
            hint="a call may have the settings that `config` of task.yaml may have",
        )


def call_of(request: Request, answer: Answer, stage: str, cycle: int) -> Call:
    """A call as letters and scores record it."""
    used = answer.used
    return Call(
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
        stage=stage,
        cycle=cycle,
        warnings=answer.warnings,
    )


def _as_json(value: object) -> Any:
    """Settings or a schema as JSON says them. Raises TaskError."""
    try:
        return jsonio.normal(value, "settings")
    except InputError as error:
        raise TaskError(
            "a call's settings and schema must be JSON", {"found": error.values["found"]}
        ) from None
