"""What a run would do and cost, found without a call or a write.

A task *will* run if it is stale itself; it *may* run if only a task above it is stale, which may
give the same artifact again. Tokens and costs are ranges. If the prompt can be rendered, since all
tasks above are up to date, its input is counted and looked up in the store. An unknown price is
None, never 0. Over 300 lines, since a job, a task, an item and a judge are priced in one way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from popbuild.base.errors import TaskError
from popbuild.base.paths import REJECTED
from popbuild.jobs import job_ids
from popbuild.jobs.examine import Exam
from popbuild.jobs.index import Index
from popbuild.jobs.lookup import Job
from popbuild.jobs.records import read_json
from popbuild.jobs.rejections import rejection_stands
from popbuild.jobs.surroundings import Surroundings
from popbuild.llm.history import Attempt, History
from popbuild.llm.ledger import read_entries
from popbuild.llm.prices import Price
from popbuild.llm.request import Message, Request
from popbuild.llm.store import OFF, ONLY, REFRESH, Store
from popbuild.model.pipeline import Task
from popbuild.model.status import RUNNING
from popbuild.query import preview
from popbuild.query.estimate import (
    NOTHING,
    Estimate,
    TokenShares,
    at_most,
    learned,
)
from popbuild.query.plan_items import plan_items
from popbuild.query.plan_jobs import OTHERS, obstacle
from popbuild.query.planned import PlannedJob, PlannedTask, PlanOptions
from popbuild.query.preview import Code
from popbuild.query.prompt_bound import listed_price, longest_prompt
from popbuild.query.reached import may_pass, only_above, open_condition, sure_skips
from popbuild.task.templates.render import Templates


def plan(
    selection: Mapping[str, tuple[str, ...] | None], around: Surroundings, asked: PlanOptions
) -> Iterator[PlannedJob]:
    """What a run of these jobs would do, each of its tasks or only the named ones."""
    planner = _Planner(around, asked)
    bad = job_ids.bad_names(around.root, selection)
    with Index(around, selection) as index:
        # Jobs to be built although they are up to date must be read, too.
        look = index.examine if asked.always or asked.fresh else index.find
        for job, tasks in selection.items():
            found = look(job)
            # A run refuses bad names, and a listing reports them.
            found = replace(found, bad_name=bad[job]) if job in bad else found
            yield planner.job(found, tasks)


@dataclass
class _Planner:
    around: Surroundings
    asked: PlanOptions
    _history: History = field(init=False)
    _store: Store = field(init=False)
    # Requests by digest -> the task and the item that will send it.
    _sent: dict[str, tuple[str, str]] = field(default_factory=dict)
    _codes: dict[str, Code] = field(default_factory=dict)  # by the task's folder
    _templates: Templates = field(init=False)  # each compiled once, whatever the number of jobs

    def __post_init__(self) -> None:
        self._history = History(read_entries(self.around.root.private / "ledger.jsonl")[0])
        self._store = Store(self.around.root.private / "store")
        self._templates = preview.templates_of(self.around.config)

    def job(self, job: Job, tasks: tuple[str, ...] | None) -> PlannedJob:
        exam = job.exam
        if job.bad is not None or exam is None:
            return PlannedJob(job.id, job.state, note=job.description)
        if job.state == REJECTED and job.folder is not None and not self._forced:
            held = rejection_stands(exam, read_json(job.folder.rejection))
            if held is not None:
                note = f"rejected at {held}, unchanged since: not bought again unless by retry"
                return PlannedJob(job.id, job.state, note=note)
        if hopeless := obstacle(exam, only=self.asked.only):
            return PlannedJob(job.id, job.state, note=hopeless)
        wanted = set(exam.pipeline.names)
        if tasks is not None:
            wanted = set(tasks).union(*(exam.pipeline.upstream(name) for name in tasks))
        self._apply(exam)
        skipped = sure_skips(exam, wanted, self._templates)
        stopping = [name for name in self._stopping(exam) if name in wanted]
        note = f"stops at {', '.join(stopping)}: edited by hand and stale" if stopping else ""
        frozen = [name for name in exam.pipeline.names if exam.verdicts[name].held]
        if frozen and not note:
            note = f"frozen, else stale: {', '.join(frozen)}"
        gates = self._gates(job, exam)
        if not note and wanted.intersection(gates):
            note = f"waits for a person at {', '.join(name for name in gates if name in wanted)}"
        if not note and job.state == RUNNING:
            note = "another command builds it just now: this is what it has not done yet"
        planned = tuple(
            skipped.get(task.id) or self._task(exam, task)
            for task in exam.pipeline.in_order
            if task.id in skipped or (task.id in wanted and exam.verdicts[task.id].stale)
            if exam.pipeline.upstream(task.id).isdisjoint(gates)
            if not (exam.verdicts[task.id].edited and self.asked.keep_edits)
        )
        if tasks is None:
            planned += tuple(self._judges(exam, is_late=bool(planned)))
        if not planned and not note and tasks is None and not job.up_to_date:
            note = "everything is built: only the promotion is left"
        found = PlannedJob(job.id, job.state, planned, note)
        if found.lacking and not stopping:
            return replace(found, note=f"fails at {', '.join(found.lacking)}: not stored")
        return found

    @property
    def _forced(self) -> bool:
        return self.asked.always or bool(self.asked.fresh)

    def _apply(self, exam: Exam) -> None:
        """Judge a job's tasks by the options, too."""
        asked = dict(self.asked.reasons(exam))
        if asked:
            exam.asked.update(asked)
            for name in asked:
                if name in self.asked.fresh:
                    exam.draw_again(exam.pipeline.task(name))
            for task in exam.pipeline.in_order:
                exam.look(task)

    def _gates(self, job: Job, exam: Exam) -> list[str]:
        """The tasks at whose human gates a run waits; it does not reach those below."""
        if job.up_to_date and not self._forced:
            return []
        return [task.id for task in exam.pipeline.gated if not may_pass(exam, task)]

    def _stopping(self, exam: Exam) -> list[str]:
        """The tasks at which a run stops and asks a person, before it builds anything."""
        if self.asked.keep_edits or self.asked.discard_edits:
            return []
        verdicts = exam.verdicts
        return [
            name for name in exam.pipeline.names if verdicts[name].edited and verdicts[name].stale
        ]

    def _task(self, exam: Exam, task: Task) -> PlannedTask:
        reasons = exam.verdicts[task.id].reasons
        below = [name for name in task.needs if exam.verdicts[name].stale]
        below += [OTHERS] if exam.waits else []
        # A human gate may hold it back: an approved artifact may come out differently.
        sure_of_gates = not (exam.held_by(task) or exam.waits)
        undecided = open_condition(exam, task, self._templates)
        is_stale = any(not only_above(reason, below) for reason in reasons)
        will = is_stale and sure_of_gates and not undecided
        sure = will and not self._stopping(exam)
        code, model = self._code(task), task.model
        if task.command is not None or (model is None and not code.calls):
            basis = "a command: its calls are its own" if task.command else "no model to call"
            return PlannedTask(task.id, will, reasons, 0, *(NOTHING,) * 4, basis + undecided)
        if task.foreach:
            price = functools.partial(self._asks, exam, task, code, sure, will)
            found = plan_items(exam, task, self._templates, below, price)
        else:
            messages = None if below else self._messages(exam, task)
            found = self._asks(exam, task, code, sure, will, messages)
        return replace(found, will=will, reasons=reasons, basis=found.basis + undecided)

    def _asks(
        self,
        exam: Exam,
        task: Task,
        code: Code,
        sure: bool,
        will: bool,
        messages: list[Message] | None,
        item: str = "",
    ) -> PlannedTask:
        """A task, or an item of it, that asks with these messages, if they are known."""
        request = None
        if messages is not None and task.model is not None:
            request = self._request(exam, task, task.model, messages, item)
        return self._asks_for(exam, task, code, sure, will, request, item)

    def _judges(self, exam: Exam, *, is_late: bool) -> Iterator[PlannedTask]:
        """The judges that are asked once all is built; `is_late` where something is to be."""
        if not exam.pipeline.scored:
            return
        # Imported here: a judge brings the event loop along, and most pipelines have none.
        from popbuild.query.plan_scores import judges_to_ask

        for task, request, why in judges_to_ask(exam):
            found = self._asks_for(exam, task, Code(), not is_late, True, request)
            yield replace(found, will=not is_late, reasons=(why,))

    def _asks_for(
        self,
        exam: Exam,
        task: Task,
        code: Code,
        sure: bool,
        will: bool,
        request: Request | None,
        item: str = "",
    ) -> PlannedTask:
        digest = stored = messages = None
        if request is not None:
            digest, messages = request.digest, list(request.messages)
            stored = int(any(self._store.peek(each) for each in request.digests))
        if self.asked.mode == ONLY:
            lacking = will and stored == 0
            basis = "nothing may be sent" if lacking else "nothing is sent"
            return PlannedTask(task.id, will, (), stored, *(NOTHING,) * 4, basis, lacking)
        if self.asked.mode in (REFRESH, OFF):
            stored = 0  # in these modes stored answers are not served
        sends = digest if sure and not stored else None
        sender = None if sends is None else self._sender(sends, f"{exam.folder.id}:{task.id}", item)
        return self._priced(exam, task, code, messages, sender, sure=sure, stored=stored)

    def _priced(
        self,
        exam: Exam,
        task: Task,
        code: Code,
        messages: list[Message] | None,
        sender: str | None,
        *,
        sure: bool,
        stored: int | None,
    ) -> PlannedTask:
        """A task's calls and their cost. `sender` asks the same; `sure` says that it will run."""
        estimate, basis = self._estimate(exam, task, code, messages)
        if stored:
            estimate = estimate.without_first()
        if sender is not None:
            basis += f"; asks as {sender} does, once"
        if not sure or stored is None or sender is not None:
            # All its answers may be stored by then, and it costs nothing.
            estimate = estimate.from_nothing()
        price = self._price(exam, task)
        kinds = TokenShares.of(self._attempts(exam, task))
        cost = estimate.cost(price, kinds) if price else None
        return PlannedTask(
            task.id,
            sure,
            (),
            stored,
            estimate.calls,
            estimate.asked,
            estimate.answered,
            cost if estimate.calls.high else NOTHING,
            basis,
            kinds=kinds,
        )

    def _estimate(
        self, exam: Exam, task: Task, code: Code, messages: list[Message] | None
    ) -> tuple[Estimate, str]:
        """A task's calls if no answer is stored, and the basis of the estimate."""
        attempts, price = self._attempts(exam, task), listed_price(task)
        if attempts:
            builds = f"{len(attempts)} build{'s' * (len(attempts) != 1)}"
            basis = f"input counted, the rest from {builds}" if messages else f"from {builds}"
            return learned(attempts, task, code, price, messages), basis
        schema, _ = self.around.schema(task)
        document = schema.document if schema and task.answer == "json" else None
        longest = longest_prompt(exam, task, code)
        found = at_most(task, code, price, document, None if task.attach else messages, longest)
        if code.calls:
            return found, "unknown: its code decides what is asked, and how often"
        return found, "input counted, output at most" if messages else "at most"

    def _code(self, task: Task) -> Code:
        found = self._codes.get(task.folder) or preview.code_of(self.around.config, task)
        return self._codes.setdefault(task.folder, found)

    def _attempts(self, exam: Exam, task: Task) -> list[Attempt]:
        pipeline = exam.seed.get("pipeline", "")
        return self._history.of(pipeline, task.id, task.model) if task.model else []

    def _price(self, exam: Exam, task: Task) -> Price | None:
        """The price of the task's model; None also if its code asked other models too."""
        asks_others = any(each.others for each in self._attempts(exam, task))
        return None if asks_others else listed_price(task)

    def _sender(self, digest: str, task: str, item: str) -> str | None:
        """The planned task that will send this request first, if it is another one or does so for
        another item."""
        this = task, item
        sender = self._sent.setdefault(digest, this)
        return None if sender == this else sender[0]

    def _messages(self, exam: Exam, task: Task) -> list[Message] | None:
        """The messages of the task's first call; None if its code decides them."""
        try:
            return preview.render_preview(exam, task, self._templates)
        except TaskError:
            return None

    def _request(
        self, exam: Exam, task: Task, model: str, messages: list[Message], item: str
    ) -> Request:
        inputs = exam.inputs(task)
        return Request(
            model,
            tuple(messages),
            {key: value for key, value in task.settings.items() if key != "model"},
            self.around.sent_schema(task),
            max(inputs.sample, inputs.samples.get(item, 0)),
            inputs.place,
        )
