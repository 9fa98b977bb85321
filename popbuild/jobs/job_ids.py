"""Which jobs a root has, and which IDs a job can have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from popbuild.base import disk, paths, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, RUNS, Root
from popbuild.base.redact import key_in_name, redact
from popbuild.jobs import row_seeds

PROMOTIONS = "promotions"  # in the private part of a root
_PLACES = (CURRENT, COMPLETE, REJECTED)


def known_seeds(root: Root) -> list[str]:
    """The IDs of the jobs that have a source under seeds/: a file, or a row of a table."""
    rows = row_seeds.digests_of_rows(root)
    tables = row_seeds.table_files(root)
    files = tree.stems_in(root.seeds, ".json")
    return sorted({*rows, *(each for each in files if paths.seed_place(each) not in tables)})


def known_jobs(root: Root) -> list[str]:
    """The IDs of all jobs of a root: from seeds, and from the four folders."""
    standing = (job for jobs in standing_jobs(root).values() for job in jobs)
    return sorted({*known_seeds(root), *standing})


def standing_jobs(root: Root) -> dict[str, list[str]]:
    """The IDs of the jobs in each of the four folders."""
    found = {PENDING: tree.stems_in(root.data / PENDING, "-seed.json")}
    for state in _PLACES:
        found[state] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(root.data / state) as entries:
            found[state] = [it.name for it in entries if _is_job(state, it.name) and it.is_dir()]
    return found


def _is_job(state: str, name: str) -> bool:
    return not name.startswith(".") and (state, name) != (COMPLETE, RUNS)


def is_known(root: Root, job: str) -> bool:
    """Whether there is a job of this ID, without a look at the others."""
    if not job or job.startswith(".") or "/" in job:
        return False
    if has_seed_file(root, job) or row_seeds.source_of_row(root, job):
        return True
    states = [state for state in _PLACES if _is_job(state, job)]
    return any(disk.is_folder(root.at(root.job_place(state, job))) for state in states)


def has_seed_file(root: Root, job: str) -> bool:
    """Whether a file is the job's seed, in seeds/ or in pending/. A table's file is none."""
    source = paths.seed_place(job)
    if disk.stands(root.at(source)) and source not in row_seeds.table_files(root):
        return True
    return disk.stands(root.at(root.pending_place(job)))


def bad_names(root: Root, ids: Collection[str]) -> dict[str, str]:
    """Those of these jobs whose ID cannot be one, each with the reason."""
    found = {job: problem for job in ids if (problem := paths.name_problem(job))}
    for job, others in alike(root, ids).items():
        names = ", ".join(map(paths.shown_name, others))
        found.setdefault(job, f"differs from {names} only by upper and lower case")
    return found


def alike(root: Root, ids: Collection[str]) -> dict[str, list[str]]:
    """The jobs among these that have others whose ID differs only by case, with those."""
    same: dict[str, list[str]] = {job.casefold(): [] for job in ids}
    for job in known_jobs(root) if ids else ():
        if (folded := job.casefold()) in same:
            same[folded].append(job)
    others = {job: sorted({*same[job.casefold()]} - {job}) for job in ids}
    return {job: names for job, names in others.items() if names}


def place_of(root: Root, job: str) -> str:
    """The file or folder that makes a job known, as a person should read it."""
    row = row_seeds.of_row(root, job)
    if row is not None:
        return paths.shown_name(row.place)
    folders = [root.job(state, job).path for state in _PLACES]
    for path in (root.seed(job), root.pending(job), *folders):
        if disk.stands(path):
            return paths.shown_name(root.show(path))
    return job


def refuse_links(root: Root, job: str) -> None:
    """InputError where a job's directory is or holds a symbolic link: it is moved and written."""
    link = link_of(root, job)
    if link is not None:
        is_job = link in [paths.shown_name(root.job_place(state, job)) for state in _PLACES]
        raise InputError(
            f"a job's directory {'is' if is_job else 'holds'} a symbolic link",
            {"job": job, "link": link},
            hint="put what it points to in its place, or remove it",
        )


def refuse_keys(job: str, environment: Mapping[str, str]) -> None:
    """InputError where an ID holds a key: it would stand in folders, ledger and lists."""
    found = key_in_name(job, environment)
    if found is not None:
        raise InputError(
            "a job's ID holds a key",
            {"job": redact(job, environment), "found": found},
            hint="give its seed another name",
        )


def link_of(root: Root, job: str) -> str | None:
    """A symbolic link that a job's directory is or holds, as it is shown; None if there is none."""
    links = (tree.first_link(root.at(root.job_place(state, job))) for state in _PLACES)
    link = next((each for each in links if each is not None), None)
    return None if link is None else paths.shown_name(root.show(Path(link)))
