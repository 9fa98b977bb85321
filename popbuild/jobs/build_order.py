"""Which jobs a command builds first, since others are over them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import disk
from popbuild.jobs import job_ids, job_state
from popbuild.jobs.index import Index
from popbuild.jobs.seed_files import BadSeed
from popbuild.jobs.selection import Selection
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.job_groups import least_share, named_groups


@dataclass(frozen=True)
class BuildOrder:
    """`after` says which jobs of the command each one waits for. `added` came in only because
    another is over them. Of those `left_out` at need, an end that is no success concerns no job
    that is over them."""

    after: Mapping[str, Sequence[str]] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()

    @property
    def silent(self) -> frozenset[str]:
        """The jobs whose end does not count for the command: no person named them."""
        return self.added & self.left_out

    def of(self, jobs: Collection[str]) -> BuildOrder:
        """The order of some of its jobs: no other is waited for."""
        after = {
            job: own
            for job, each in self.after.items()
            if job in jobs and (own := [one for one in each if one in jobs])
        }
        return replace(self, after=after)


@contextlib.contextmanager
def ordered(
    selection: Selection, around: Surroundings, *, add: bool, is_forced: bool
) -> Iterator[tuple[Selection, BuildOrder, Index]]:
    """The jobs of a command in the order in which they are built, with those that others of them
    are over, if these are to be added; and an index of all. `is_forced` says that also what is up
    to date is built."""
    with Index(around, selection) as index:
        whole, order = _members_first(selection, around, None if is_forced else index, add=add)
        if not order.added:
            yield whole, order, index
            return
    with Index(around, whole) as index:
        yield whole, order, index


def _members_first(
    selection: Selection, around: Surroundings, index: Index | None, *, add: bool
) -> tuple[Selection, BuildOrder]:
    found = _Search(around, index, add)
    for job in selection:
        found.visit(job, selection, ())
    added = frozenset(found.order).difference(selection)
    whole = {job: selection.get(job) if job not in found.below else None for job in found.order}
    return whole, BuildOrder(found.after, added, frozenset(found.below - found.needed))


@dataclass
class _Search:
    around: Surroundings
    index: Index | None
    add: bool
    order: dict[str, None] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)
    below: set[str] = field(default_factory=set)  # another job is over them
    needed: set[str] = field(default_factory=set)  # and cannot do without

    def visit(self, job: str, selection: Selection, above: tuple[str, ...]) -> None:
        """Note a job, behind those that it is over."""
        if job in self.order:
            return
        if self.index is not None and self.index.knows(job):
            self.order[job] = None  # as are those that it is over
            return
        seed = _seed_of(self.around, job)
        names, own = self.around.names, []
        for glob in named_groups(seed).values():
            for each in (names.with_source if self.add else names.matching)(glob, job):
                is_wanted = self.add or each in selection
                if is_wanted and each not in above:  # a circle is found when it is looked at
                    self.visit(each, selection, (*above, job))
                    own.append(each)
        self.order[job] = None
        if own:
            self.after[job] = own
            self.below.update(own)
            self.needed.update(own if least_share(seed) == 1 else ())


def _seed_of(around: Surroundings, job: str) -> Mapping[str, Any]:
    """A job's seed; nothing where it cannot be used, which its build reports."""
    root = around.root
    if not job_state.may_be_over(root, job):
        return {}
    is_given = any(disk.stands(path) for path in (root.seed(job), root.pending(job)))
    if not is_given and job_ids.link_of(root, job) is not None:
        return {}
    try:
        return job_state.todays_seed(around.root, job)[0]
    except BadSeed:
        return {}
