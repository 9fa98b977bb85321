"""The jobs that another one is over, as its tasks see and depend on them.

A group is the list of the jobs that a glob matches and that are up to date, each with `id`, `seed`
and `artifacts`. A field that was read is digested over all of them, `/*/artifacts/classify/label`,
by the digests of its values in the jobs' order. Documents are read when they are asked for, and a
few are kept: ten thousand jobs are not held in memory.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import TaskError
from popbuild.base.paths import SEED, JobFolder, Root
from popbuild.jobs import job_state, records
from popbuild.jobs.input_files import InputFiles
from popbuild.jobs.seed_files import BadSeed
from popbuild.model import status as states
from popbuild.model.problem import MISSING, parts_of, pointer_of, value_at
from popbuild.model.values import read_digest, value_digest

_MAX_DOCUMENTS = 64  # that a group keeps in memory
OF_ALL = "/*"  # begins the place of a field over all jobs
OUT_OF_DATE = "stale"  # the state of a complete job that is not up to date
# In these states it is not known yet what a job will give.
_TO_BE_BUILT = frozenset({OUT_OF_DATE, "new", "pending", states.RUNNING, states.WAITING})
# "jobs", or "jobs-kind" or "jobs-length" where only that of the value counts, and a pointer.
Field = tuple[str, str]


@dataclass(frozen=True)
class Member:
    """One of the jobs. `folder` is its good result, `artifacts` are the main ones by task. With
    `has_own_seed`, the copy of its seed there is today's."""

    id: str
    folder: JobFolder
    artifacts: Mapping[str, str]
    has_own_seed: bool = False


@dataclass(eq=False)
class Group:
    """The jobs of a glob that are up to date, by ID, and the `others` that it matches, each with
    its state."""

    name: str
    glob: str
    root: Root
    members: Sequence[Member]
    others: Mapping[str, str]
    _documents: OrderedDict[tuple[int, str | None], Any] = field(default_factory=OrderedDict)
    _digests: dict[tuple[int, str | None], str | None] = field(default_factory=dict)
    _columns: dict[Field, tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def of(
        name: str,
        glob: str,
        root: Root,
        jobs: Iterable[str],
        members: Mapping[str, Member],
        others: Mapping[str, str],
    ) -> Group:
        """The group of these jobs, of which each is one of `members` or `others`, or an orphan."""
        jobs = list(jobs)
        there = [members[each] for each in jobs if each in members]
        return Group(name, glob, root, there, {e: others[e] for e in jobs if e in others})

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.members]

    @property
    def count(self) -> str:
        """How many jobs there are, `2 of 3 jobs`."""
        there, whole = len(self.members), len(self.members) + len(self.others)
        return f"{there:,} of {whole:,} jobs" if self.others else f"{there:,} jobs"

    @property
    def to_be_built(self) -> dict[str, str]:
        """The others that a run would build first, or that wait for a person."""
        return {job: state for job, state in self.others.items() if state in _TO_BE_BUILT}

    def lacks(self, share: float, coming: int = 0) -> bool:
        """Whether too few of the jobs are up to date, or will be, if some more are `coming`."""
        count = len(self.members) + coming
        return not count or count < share * (len(self.members) + len(self.others))

    def seen(self, number: int, task: str | None) -> Any:
        """A member's seed, or a task's artifact, with its keys sorted, or MISSING."""
        place = number, task
        if place in self._documents:
            self._documents.move_to_end(place)
            return self._documents[place]
        value = self._read(number, task)
        found = value if value is MISSING else jsonio.in_order(value)
        self._documents[place] = found
        while len(self._documents) > _MAX_DOCUMENTS:
            self._documents.popitem(last=False)
        return found

    def value(self, number: int, pointer: str) -> Any:
        """A member's value at a place that begins with OF_ALL, or MISSING: as `seen`."""
        return value_at(*self._document(parts_of(pointer)[1:], number, self.seen))

    def column(self, at: Field) -> tuple[str, ...]:
        """The digests of a field, one for each member."""
        self.prepare([at])
        return self._columns[at]

    def digest(self, at: Field) -> str:
        return jsonio.digest(list(self.column(at)))

    def prepare(self, fields: Iterable[Field]) -> None:
        """Compute several columns in one go over the members."""
        wanted = [each for each in dict.fromkeys(fields) if each not in self._columns]
        found: dict[Field, list[str]] = {each: [] for each in wanted}
        for number in range(len(self.members)) if wanted else ():
            read = functools.cache(self._read)
            for at in wanted:
                document, rest = self._document(parts_of(at[1])[1:], number, read)
                found[at].append(read_digest(at[0], document, rest))
        self._columns |= {at: tuple(digests) for at, digests in found.items()}

    def _document(
        self, parts: list[str], number: int, read: Callable[[int, str | None], Any]
    ) -> tuple[Any, str]:
        """The document of a member in which a place is, or MISSING, and the pointer to that."""
        member = self.members[number]
        match parts:
            case ["id"]:
                return member.id, ""
            case ["seed", *rest]:
                return read(number, None), pointer_of([*rest])
            case ["artifacts", task, *rest]:
                return read(number, task), pointer_of([*rest])
            case [] | ["artifacts"]:
                own = {task: read(number, task) for task in member.artifacts}
                there = {task: value for task, value in own.items() if value is not MISSING}
                whole = {"id": member.id, "seed": read(number, None), "artifacts": there}
                return (there if parts else whole), ""
        return MISSING, ""

    def _read(self, number: int, task: str | None) -> Any:
        """A document of a member. TaskError where it is not what it was when it was read before."""
        member = self.members[number]
        value, digest = MISSING, None
        if task is None:
            value = self._seed(member)
            digest = None if value is MISSING else jsonio.digest(value)
        elif task in member.artifacts:
            value, digest = records.read_main(member.folder, member.artifacts[task])
        if self._digests.setdefault((number, task), digest) != digest:
            raise TaskError(
                "a job was built anew while one that is over it was",
                {"job": member.id, "matches": self.glob},
                hint="run the command again",
            )
        return MISSING if digest is None else value

    def _seed(self, member: Member) -> Any:
        own = records.read_json(member.folder.at(SEED)) if member.has_own_seed else None
        if own is not None:
            return own
        try:
            return job_state.todays_seed(self.root, member.id)[0]
        except BadSeed:
            return MISSING


Groups = Mapping[str, Group]


@dataclass(frozen=True)
class SeedNames:
    """What a seed names beside its data: files, and other jobs."""

    files: InputFiles = field(default_factory=dict)
    jobs: Groups = field(default_factory=dict)


_KINDS = ("jobs", "jobs-kind", "jobs-length")  # of dependencies


def is_about_jobs(dependency: str) -> bool:
    return dependency.partition(":")[0] in _KINDS


def group_and_pointer(dependency: str) -> tuple[str, str]:
    """The group that a dependency on jobs is about, and the place in each of them; empty where it
    is about none."""
    name, _, pointer = dependency.partition(":")[2].partition(":")
    return name, pointer


def resolved(dependency: str, groups: Groups) -> str:
    """Today's digest of a dependency on jobs: `jobs` (which groups there are), `jobs:reviews`
    (which jobs), `jobs:reviews:/*/seed/data` (a field over all of them), `jobs-kind:…` (its kind).
    """
    kind = dependency.partition(":")[0]
    name, pointer = group_and_pointer(dependency)
    if not name:
        return value_digest(sorted(groups))
    if name not in groups:
        return jsonio.ABSENT
    group = groups[name]
    if not pointer:
        return value_digest(group.ids)
    return group.digest((kind, pointer))


def prepare_fields(dependencies: Iterable[str], groups: Groups) -> None:
    """Compute in one go all that these dependencies need of each group."""
    for name, fields in fields_of(dependencies, groups).items():
        groups[name].prepare(fields)


def fields_of(dependencies: Iterable[str], groups: Groups) -> dict[str, list[Field]]:
    """The fields of each group that dependencies are about."""
    fields: dict[str, list[Field]] = {}
    for dependency in filter(is_about_jobs, dependencies):
        kind = dependency.partition(":")[0]
        name, pointer = group_and_pointer(dependency)
        if name in groups:
            fields.setdefault(name, [])
            fields[name] += [(kind, pointer)] if pointer else []
    return fields


def waits_of(groups: Groups, share: float) -> tuple[str, ...]:
    """Why a job has to wait for those that it is over, or cannot be built without them."""
    return tuple(filter(None, (_wait_of(group, share) for group in groups.values())))


def _wait_of(group: Group, share: float) -> str:
    lacking = group.others if group.lacks(share) else group.to_be_built
    about = f"jobs:{group.name}: "
    if not lacking:
        return "" if group.members else f"{about}{group.glob} matches no job"
    states_of = {*lacking.values()}
    verb = "is" if len(lacking) == 1 else "are"
    said = states_of.pop() if len(states_of) == 1 else "not up to date"
    return f"{about}{named_few([*lacking])} {verb} {said}"


_MAX_NAMED = 3  # jobs in one reason


def named_few(jobs: Sequence[str], most: int = _MAX_NAMED) -> str:
    """The first of these jobs, at most so many, and how many more there are."""
    more = len(jobs) - most
    return ", ".join(jobs[:most]) + (f" and {more} more" if more > 0 else "")
