"""Runs a task with `foreach`: its stages once for each item, as many at a time as its calls allow.

Each item has its own dependencies, gate, refinements and receipt. One whose receipt holds is not
run; the artifact is put together from all receipts.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from popbuild.base.errors import PopbuildError
from popbuild.jobs.fingerprint import of_skipped
from popbuild.jobs.item_receipts import ItemReceipts, Receipt
from popbuild.model import status as states
from popbuild.model.clock import timestamp
from popbuild.model.item import Item
from popbuild.model.problem import Problem
from popbuild.task import timed
from popbuild.task.asking import Asking
from popbuild.task.attempt import Built, BuiltItems, NotPassed, Skipped, StageLog, Work
from popbuild.task.cycle import Functions, decide, load_functions, run_task
from popbuild.task.input_views import OpenFilesView
from popbuild.task.item_plan import ItemPlan
from popbuild.task.items import Expansion, expand
from popbuild.task.read_trace import ReadTrace

_AT_ONCE = 64  # items: their calls wait for the limits of their provider
_MAX_PROBLEMS = 20  # items that a rejection names
_OWN = ("item", "item-kind", "item-length", "position", "sample")  # kinds of dependencies


async def run_items(work: Work, receipts: ItemReceipts) -> Built | NotPassed | Skipped:
    """Bring all items up to date, unless the task's condition is false. Raises TaskError or
    ProviderError where one crashes: those under way, which are paid for, end first."""
    asking = Asking(work)
    if (skipped := await decide(work, asking)) is not None:
        return skipped
    work.begin("inference", is_foreign=True)
    look = functools.partial(
        expand, work.task, work.seen, work.trace, work.templates, work.environment
    )
    expansion = await timed.in_time(work, asking, "foreach", look)
    functions = await load_functions(work, asking)
    run = _Items(work, receipts, expansion, functions)
    try:
        await run.bring_up_to_date()
    finally:
        run.note_dependencies()
    return run.outcome()


@dataclass
class _Items:
    """`ended` are the receipts that hold today, by key."""

    work: Work
    receipts: ItemReceipts
    expansion: Expansion
    functions: Functions
    ended: dict[str, Receipt] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)  # digests that items share

    def __post_init__(self) -> None:
        self._plan = ItemPlan(self.work.task, self.work.inputs, self.receipts)

    async def bring_up_to_date(self) -> None:
        work, items = self.work, {item.key: item for item in self.expansion.items}
        self.ended = dict(self._plan.standing(items.values()))
        for receipt in self.ended.values():
            work.files.take(receipt.key, receipt.files)
        waiting = [item for key, item in items.items() if key not in self.ended]
        work.log.line(f"{len(items):,} items, {len(waiting):,} of them to run")
        await self._run_all(waiting, len(items))

    async def _run_all(self, waiting: Iterable[Item], total: int) -> None:
        """Run these items side by side. After a crash no other starts; the first error is raised
        once those under way have ended."""
        at_once = _AT_ONCE if self._plan.task.command is None else os.cpu_count() or 1
        queue, under_way = iter(waiting), set[asyncio.Task[None]]()
        crash: BaseException | None = None
        try:
            while True:
                while crash is None and len(under_way) < at_once:
                    item = next(queue, None)
                    if item is None:
                        break
                    under_way.add(asyncio.ensure_future(self._run(item)))
                if not under_way:
                    break
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    crash = crash or each.exception()
                self.work.tell_stage(f"{len(self.ended):,} of {total:,} items", 0)
        finally:
            for each in under_way:
                each.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if crash is not None:
            raise crash

    async def _run(self, item: Item) -> None:
        work = self._work_of(item)
        started_at = timestamp()
        try:
            with work.watch.measures():
                outcome = await run_task(work, self.functions)
        except PopbuildError as error:
            error.values.setdefault("item", item.key)
            raise
        finally:
            self.work.made.extend(work.made)
            self.work.warnings.extend(work.warnings)
        shared, own = self._dependencies(work, isinstance(outcome, Skipped))
        body = {
            "key": item.key,
            "item": own,
            "refinementAttempts": 0 if isinstance(outcome, Skipped) else outcome.cycles,
            "calls": [call.as_json() for call in work.made],
            **work.files.kept_of_item(),
            "files": states.by_kind(work.files.written),
            "startedAt": started_at,
            "endedAt": timestamp(),
            "executionTime": round(work.watch.worked_ms, 2),
            "warnings": list(dict.fromkeys(work.warnings)),
            "log": [each for each in work.log.entries if each.get("outcome") not in _QUIET],
        }
        if isinstance(outcome, Built):
            body["output"] = outcome.output
        elif isinstance(outcome, Skipped):
            body |= {"skipped": True, "reason": outcome.reason}
        else:
            body["problems"] = [each.as_json() for each in outcome.problems]
            body["stage"] = outcome.stage
        self.ended[item.key] = self.receipts.add(body, shared)
        self.work.files.take(item.key, work.files.written)

    def _work_of(self, item: Item) -> Work:
        work = self.work
        trace = ReadTrace(work.trace.budget, self._known)
        views = OpenFilesView(work.inputs.inputs, trace, work.around.root)
        return replace(
            work,
            task=self._plan.task,
            inputs=replace(self._plan.inputs, sample=self._plan.sample(item)),
            files=work.files.of_item(item.key, views),
            watch=type(work.watch)(),
            trace=trace,
            log=StageLog(work.task.id, work.environment),
            made=[],
            warnings=[],
            item=item,
        )

    def _dependencies(self, work: Work, skipped: bool) -> tuple[dict[str, str], dict[str, str]]:
        """What an item shares with others, and what it depends on of its own."""
        found = work.trace.dependencies()
        own = {key: digest for key, digest in found.items() if key.partition(":")[0] in _OWN}
        if work.inputs.sample:
            own["sample"] = str(work.inputs.sample)
        fixed = of_skipped(self._plan.task) if skipped else self._plan.fixed
        return {**fixed} | {e: d for e, d in found.items() if e not in own}, own

    def note_dependencies(self) -> None:
        """Note for the whole task what all its items depend on."""
        trace, receipts = self.work.trace, self.ended.values()
        for digest in {each.shared for each in receipts}:
            shared = self.receipts.shared[digest]
            trace.take({key: found for key, found in shared.items() if key not in self._plan.fixed})
        self.expansion.note(self.work.task, {own for each in receipts for own in each.own}, trace)

    def outcome(self) -> Built | NotPassed:
        """The artifact, or the problems of more failed items than the task allows."""
        task, all_keys = self.work.task, [item.key for item in self.expansion.items]
        keys = [key for key in all_keys if not self.ended[key].skipped]
        failed = [key for key in dict.fromkeys(keys) if self.ended[key].failed]
        cycles = max((each.refinements for each in self.ended.values()), default=0)
        counts = sum(self.ended[key].failed for key in keys)
        self.work.log.skip_rest("each item ran its own stages: see items.jsonl")
        if counts > task.failed_share * len(keys):
            problems = [self._said(key) for key in failed[:_MAX_PROBLEMS]]
            rest = len(failed) - len(problems)
            more = [Problem(f"and {rest:,} further items failed")] if rest else []
            return NotPassed("validateStructure", (*problems, *more), cycles, None)
        bodies = {key: self.receipts.body(self.ended[key]) for key in dict.fromkeys(keys)}
        output = {
            "items": [
                {"key": key, "output": bodies[key]["output"]}
                for key in keys
                if not self.ended[key].failed
            ],
            "failed": [{"key": key, "problems": bodies[key]["problems"]} for key in failed],
        }
        return Built(output, cycles, BuiltItems(tuple(all_keys), len(failed)))

    def _said(self, key: str) -> Problem:
        first, *rest = self.receipts.body(self.ended[key])["problems"]
        problem = Problem.from_json(first)
        more = f" and {len(rest)} more" if rest else ""
        return Problem(f"item {key}: {problem}{more}")


_QUIET = ("done", "skipped")  # outcomes of stages that say nothing more
