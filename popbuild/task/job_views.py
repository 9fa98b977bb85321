"""The jobs that a job is over, as templates and stages see them.

A loop over `jobs.reviews` gives views. What is read of one job is a dependency on that field of all
of them, so that a field that no prompt reads makes nothing stale. Which jobs there are is one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from popbuild.jobs.members import OF_ALL, Group, Groups
from popbuild.model.problem import MISSING, pointer_of
from popbuild.task.read_trace import Items, ReadTrace
from popbuild.task.reads import ArrayView, ArtifactsView, ObjectView, plain, view


class MemberTrace(ReadTrace):
    """Notes what is read of one job, as a read of that field over all jobs of the group."""

    def __init__(self, trace: ReadTrace, group: Group, number: int) -> None:
        super().__init__(trace.budget)
        self._trace = trace
        self.group = group
        self.number = number

    def read(self, document: str, pointer: str, value: Any, items: Items | None = None) -> None:
        self._trace.of_members(self.group, ("jobs", pointer))

    def looked(self, document: str, pointer: str, value: Any, items: Items | None = None) -> None:
        """A template looked at a place: of a container it learned only the kind."""
        is_container = isinstance(value, dict | list)
        self._trace.of_members(self.group, ("jobs-kind" if is_container else "jobs", pointer))

    def counted(self, document: str, pointer: str, items: Sequence[Any]) -> None:
        self._trace.of_members(self.group, ("jobs-length", pointer))


class _MemberObject(ObjectView):
    """An object of a job that is put together once all of it is read."""

    __slots__ = ()
    _trace: MemberTrace

    def __init__(self, trace: MemberTrace, pointer: str) -> None:
        super().__init__({}, f"jobs:{trace.group.name}", pointer, trace)

    def _whole(self) -> Any:
        self._value = self._trace.group.value(self._trace.number, self._pointer)
        return super()._whole()


class MemberView(_MemberObject):
    """One job: `id`, `seed` and `artifacts`."""

    __slots__ = ()

    def __init__(self, trace: MemberTrace) -> None:
        super().__init__(trace, OF_ALL)

    def _at(self, part: str | int) -> Any:
        group, number = self._trace.group, self._trace.number
        if part == "id":
            return group.members[number].id  # which jobs there are was noted by the group
        if part == "seed":
            return view(group.seen(number, None), self._document, f"{OF_ALL}/seed", self._trace)
        if part == "artifacts":
            return MemberArtifactsView(self._trace)
        return MISSING

    def __iter__(self) -> Iterator[str]:
        return iter(("id", "seed", "artifacts"))


class MemberArtifactsView(_MemberObject):
    """The main artifacts of a job by task."""

    __slots__ = ()

    def __init__(self, trace: MemberTrace) -> None:
        super().__init__(trace, f"{OF_ALL}/artifacts")

    def _at(self, part: str | int) -> Any:
        value = self._trace.group.seen(self._trace.number, str(part))
        pointer = self._pointer + pointer_of([part])
        self._trace.looked(self._document, pointer, value)
        return view(value, self._document, pointer, self._trace)


class GroupView(ArrayView):
    """The jobs of a group, by ID."""

    __slots__ = ("_group",)
    _trace: ReadTrace

    def __init__(self, group: Group, trace: ReadTrace) -> None:
        super().__init__([None] * len(group.members), f"jobs:{group.name}", "", trace)
        self._group = group

    def _at(self, part: str | int) -> Any:
        self._trace.members(self._group)
        return MemberView(MemberTrace(self._trace, self._group, int(part)))

    def _whole(self) -> Any:
        return [each._whole() for each in self]

    def __iter__(self) -> Iterator[Any]:
        return map(self._at, range(len(self)))

    def __len__(self) -> int:
        self._trace.members(self._group)
        return len(self._value)

    def __bool__(self) -> bool:
        return len(self) > 0


class GroupsView(ArtifactsView):
    """The groups of a seed by name."""

    __slots__ = ()

    def __init__(self, groups: Groups, trace: ReadTrace) -> None:
        super().__init__(groups, trace)
        self._document = "jobs"

    def _note_names(self) -> None:
        self._trace.groups(self._value)

    def _at(self, part: str | int) -> Any:
        if part in self._value:
            return GroupView(self._value[part], self._trace)
        self._note_names()
        return MISSING


class GivenJob:
    """One job as code sees it: plain copies. The task depends on what it gets, over all jobs."""

    def __init__(self, trace: MemberTrace) -> None:
        self._trace = trace

    @property
    def id(self) -> str:
        return self._trace.group.members[self._trace.number].id

    @property
    def seed(self) -> Any:
        return self.read("/seed")

    @property
    def artifacts(self) -> Any:
        """The main artifacts by task. `read` depends on less."""
        return self.read("/artifacts")

    def read(self, pointer: str, default: Any = None) -> Any:
        """One value, `/artifacts/classify/label` for one, or `default` where the job has none. The
        task depends on just that."""
        found = self._trace.group.value(self._trace.number, OF_ALL + pointer)
        self._trace.read("", OF_ALL + pointer, found)
        return default if found is MISSING else found


class GivenJobs(Mapping[str, Sequence[GivenJob]]):
    """The groups of a seed as code sees them, each the list of its jobs."""

    def __init__(self, groups: Groups, trace: ReadTrace) -> None:
        self._groups = groups
        self._trace = trace

    def __getitem__(self, name: str) -> Sequence[GivenJob]:
        if name not in self._groups:
            self._trace.groups(self._groups)
            raise KeyError(f"{name} is not among the seed's groups of jobs: {[*self._groups]}")
        group = self._groups[name]
        self._trace.members(group)
        numbers = range(len(group.members))
        return [GivenJob(MemberTrace(self._trace, group, number)) for number in numbers]

    def __iter__(self) -> Iterator[str]:
        self._trace.groups(self._groups)
        return iter(self._groups)

    def __len__(self) -> int:
        self._trace.groups(self._groups)
        return len(self._groups)


def given_jobs(groups: Groups, trace: ReadTrace) -> dict[str, list[Any]]:
    """All jobs of all groups, for a command, which then depends on all of them."""
    trace.groups(groups)
    return {name: plain(GroupView(group, trace)) for name, group in groups.items()}
