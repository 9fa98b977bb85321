"""What a stage sees and may do. `docs/tasks.md` is the user's page for this module."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from popbuild.base.errors import TaskError, no_such, printable
from popbuild.jobs.fingerprint import Seen
from popbuild.llm.request import Answer, Message
from popbuild.model.problem import MISSING, Problem, pointer_of, value_at
from popbuild.task import prompts
from popbuild.task.asking import Asking
from popbuild.task.attempt import AnswerRejected, RevokedError, Work, logger_of
from popbuild.task.job_views import GivenJobs
from popbuild.task.prompts import Progress
from popbuild.task.read_trace import ReadTrace
from popbuild.task.returned import Returned

_UNSET = object()


class Artifacts(Mapping[str, Any]):
    """The main artifacts of the needed tasks by task, as plain copies. A task depends on each
    whole document that it gets. Tasks that were skipped have none."""

    def __init__(self, seen: Seen, trace: ReadTrace) -> None:
        self._values = seen.artifacts
        self._skipped = seen.skipped
        self._trace = trace

    def __getitem__(self, task: str) -> Any:
        if task in self._skipped:
            self._trace.read(f"artifact:{task}", "", MISSING)
            raise KeyError(f"{task} was skipped")
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


class Vars(Mapping[str, Any]):
    """The pipeline's vars, as plain copies. A task depends on each that it gets, and by a loop on
    all of them."""

    def __init__(self, seen: Seen, trace: ReadTrace) -> None:
        self._values = seen.vars
        self._trace = trace

    def __getitem__(self, name: str) -> Any:
        self._trace.read("vars", pointer_of([name]), self._values.get(name, MISSING))
        if name not in self._values:
            raise KeyError(f"{name} is not among the vars: {', '.join(self._values)}")
        return copy.deepcopy(self._values[name])

    def __iter__(self) -> Iterator[str]:
        self._trace.read("vars", "", self._values)
        return iter(self._values)

    def __len__(self) -> int:
        self._trace.read("vars", "", self._values)
        return len(self._values)


class Context:
    """One task's context, through all its stages and cycles. Made inside the event loop; its
    methods are called from the threads of stages."""

    def __init__(self, work: Work, asking: Asking, returned: Returned) -> None:
        self.task = work.task.id
        self.config = copy.deepcopy(dict(work.seen.config))
        self.artifacts = Artifacts(work.seen, work.trace)
        self.vars = Vars(work.seen, work.trace)
        self.files = work.files
        self.jobs = GivenJobs(work.seen.jobs, work.trace)
        self.log = logger_of(work)
        self.flags: dict[str, Any] = {}
        self.input: Any = None
        self.variables: dict[str, Any] = {}
        self.messages: list[Message] = []
        self.answer = ""
        self.output: Any = None
        self.critique = ""
        self.problems: list[dict[str, Any]] = []
        self.previous = ""
        self._work = work
        self._asking = asking
        self._returned = returned
        self._loop = asyncio.get_running_loop()

    @property
    def cycle(self) -> int:
        return self._work.log.cycle

    @property
    def job(self) -> str:
        """The job's ID; the task then depends on it."""
        self._work.trace.job(self._work.inputs.job)
        return self._work.inputs.job

    @property
    def seed(self) -> Any:
        """A plain copy of the seed; the task then depends on all of it."""
        self._check()
        self._work.trace.read("seed", "", self._work.seen.seed)
        return copy.deepcopy(self._work.seen.seed)

    @property
    def item(self) -> Any:
        """A plain copy of the item that the task is run for; None without `foreach`. The item then
        depends on all of it."""
        self._check()
        item = self._work.item
        if item is None:
            return None
        self._work.trace.read("item", "", item.value)
        return copy.deepcopy(item.value)

    @property
    def position(self) -> int | None:
        """The item's place in the list, from 0; the item then depends on it."""
        item = self._work.item
        if item is None:
            return None
        self._work.trace.position(item.position)
        return item.position

    def read(self, pointer: str, task: str | None = None, default: Any = _UNSET) -> Any:
        """One value of the seed, or of a needed task's artifact; the task depends on just that. A
        missing value gives `default`, or a TaskError that names the place."""
        self._check()
        seen = self._work.seen
        if task is not None and task not in (*seen.artifacts, *seen.skipped):
            raise TaskError("not a needed task", no_such("task", task, seen.artifacts))
        document, name = (
            (seen.seed, "seed")
            if task is None
            else (seen.artifacts.get(task, MISSING), f"artifact:{task}")
        )
        value = value_at(document, pointer)
        self._work.trace.read(name, pointer, value)
        if value is not MISSING:
            return copy.deepcopy(value)
        if default is not _UNSET:
            return default
        raise TaskError("no such value", {"document": name, "pointer": pointer})

    def render(self, template: str, **variables: Any) -> str:
        """A template of the task's folder, or from pipeline-config/, with further variables."""
        self._check()
        return prompts.render(self._work, template, self.progress(), variables)[0]

    def llm(self, messages: Sequence[Message] | str, schema: Any = None, **settings: Any) -> Answer:
        """A call to the model, from a plain function. Blocks until the answer is there."""
        self._check()
        asking = self._asking.ask_from_code(messages, schema, settings)
        answer = asyncio.run_coroutine_threadsafe(asking, self._loop).result()
        self._check()
        return answer

    async def llm_async(
        self, messages: Sequence[Message] | str, schema: Any = None, **settings: Any
    ) -> Answer:
        """A call to the model, from an async function."""
        self._check()
        asking = self._asking.ask_from_code(messages, schema, settings)
        answer = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, self._loop))
        self._check()
        return answer

    def judge(self, value: Any) -> list[dict[str, Any]]:
        return [problem.as_json() for problem in self._returned.judge(value)]

    def parse(self, answer: Answer | str) -> Any:
        """The document in an answer, as `parsing` finds it by default: without reasoning, and with
        harmless slips mended. Raises the exception of `reject` where it finds none."""
        self._check()
        return self._returned.parse_for_code(answer)

    def reject(self, message: str, pointer: str = "") -> AnswerRejected:
        """An exception to raise: the answer fails the gate."""
        return AnswerRejected(Problem(printable(str(message)), printable(str(pointer))))

    @property
    def is_revoked(self) -> bool:
        """Whether the stage outlived its timeout: then its context does nothing more."""
        return self._work.files.is_revoked

    def progress(self) -> Progress:
        return Progress(self.variables, self.problems, self.previous, self.critique, self.cycle)

    def _check(self) -> None:
        if self.is_revoked:
            raise RevokedError(f"task {self.task} outlived its timeout")
