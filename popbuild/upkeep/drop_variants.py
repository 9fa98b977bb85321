"""`popbuild variant drop`: the jobs of variants, and what is kept of these, removed. Their files in
pipeline-config/, and all answers in the store, stay."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.errors import LockedError, UsageError, no_such
from popbuild.base.paths import MAIN_NAME, VARIANTS, Root, Variant
from popbuild.base.units import count, size
from popbuild.jobs.claims import JobLocks
from popbuild.jobs.job_ids import standing_jobs
from popbuild.model.config import variants

_PLACES = ("pipeline-data", ".popbuild", "samples")  # the jobs first: the rest is theirs


@dataclass(frozen=True)
class DroppedVariant:
    """A variant whose jobs were dropped, or would be: how many, and how large all of it is."""

    label: str
    jobs: int
    size_bytes: int


@dataclass(frozen=True)
class VariantDrop:
    """What was dropped, or would be."""

    dropped: tuple[DroppedVariant, ...]
    done: bool

    def as_json(self) -> dict[str, Any]:
        found = [
            {"name": each.label, "jobs": each.jobs, "sizeBytes": each.size_bytes}
            for each in self.dropped
        ]
        return {"dropped": found, "done": self.done}

    def lines(self) -> Iterator[str]:
        """For a person."""
        verb = "dropped" if self.done else "would drop"
        for each in self.dropped:
            yield f"{verb} {each.label}: {count(each.jobs, 'job')}, {size(each.size_bytes)}"
        if not self.dropped:
            yield "nothing to drop"
        elif not self.done:
            yield "nothing was dropped yet: --yes does it"


def drop_variants(
    root: Root,
    patterns: Sequence[str],
    *,
    unnamed: bool = False,
    older_than_s: float | None = None,
    really: bool = False,
) -> VariantDrop:
    """Remove the jobs of the variants that names and globs match, with all of their draws, or of
    those that `--set` made; without `really`, only say which. UsageError for a name that matches
    none, LockedError where one of the jobs is being built: nothing is removed then."""
    if not patterns and not unnamed:
        hint = "popbuild variant drop cheap, or --unnamed for those that --set made"
        raise UsageError("variant drop needs a name", {"missing": "NAME or --unnamed"}, hint)
    main = replace(root, variant=Variant())
    chosen = [
        label
        for label in _chosen(main, patterns, unnamed=unnamed)
        if older_than_s is None or _newest_s(main, label) < time.time() - older_than_s
    ]
    dropped = [_measured(main, label) for label in chosen]
    if really:
        with contextlib.ExitStack() as held:
            for label in chosen:
                _hold(_as_named(main, label), held)
            for label in chosen:
                for place in _PLACES:
                    tree.remove(main.path / place / VARIANTS / label)
    return VariantDrop(tuple(dropped), really)


def _kept(main: Root) -> list[str]:
    """The variants of which anything is kept: a drop that was killed may have left a part."""
    found = set(variants.with_jobs(main))
    for place in _PLACES[1:]:
        folder = main.path / place / VARIANTS
        if disk.is_folder(folder):
            found.update(each.name for each in folder.iterdir() if not each.name.startswith("."))
    return sorted(found)


def _chosen(main: Root, patterns: Sequence[str], *, unnamed: bool) -> list[str]:
    kept = _kept(main)
    found = {label for label in kept if unnamed and label.startswith(variants.MADE)}
    for pattern in patterns:
        if pattern == MAIN_NAME:
            raise UsageError(
                "the main jobs are no variant's",
                {"variant": MAIN_NAME},
                hint=f"'{MAIN_NAME}@*' names their draws; popbuild prune drops jobs",
            )
        matching = [
            label
            for label in kept
            if fnmatch.fnmatchcase(label, pattern) or label.partition("@")[0] == pattern
        ]
        if not matching:
            values = no_such("variant", pattern, kept)
            raise UsageError("no variant of this name has jobs", values)
        found.update(matching)
    return sorted(found)


def _as_named(main: Root, label: str) -> Root:
    """The root with the folders of a variant, whether it can still be built or not."""
    return replace(main, variant=Variant(label))


def _newest_s(main: Root, label: str) -> float:
    """When a job of a variant was last put somewhere."""
    paths = [main.path / place / VARIANTS / label for place in _PLACES]
    paths += _as_named(main, label).folders()
    return max(path.stat().st_mtime for path in paths if disk.is_folder(path))


def _measured(main: Root, label: str) -> DroppedVariant:
    own = [main.path / place / VARIANTS / label for place in _PLACES]
    sizes = (tree.folder_size(path) for path in own if disk.is_folder(path))
    return DroppedVariant(label, len(_jobs(_as_named(main, label))), sum(sizes))


def _jobs(root: Root) -> list[str]:
    """The jobs that stand in the folders of a variant."""
    return sorted({job for jobs in standing_jobs(root).values() for job in jobs})


def _hold(root: Root, held: contextlib.ExitStack) -> None:
    """Hold the locks of all jobs of a variant."""
    locks = JobLocks(root)
    for job in _jobs(root):
        if not locks.acquire(job):
            values = {"variant": root.variant.name, "job": job}
            raise LockedError("another command builds a job of the variant", values)
        held.callback(locks.release, job)
