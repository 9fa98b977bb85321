"""Another program's data folder into a root: seeds, jobs in every state, lines of runs.jsonl.

The source is only read. Each job and each file is copied beside the root's and renamed into place.
Whatever the root has already with other content is left alone and named; the rest is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from popbuild.base import disk, paths, tree
from popbuild.base.errors import InputError, LockedError, PopbuildError
from popbuild.base.paths import (
    COMPLETE,
    PENDING,
    RUNS,
    JobFolder,
    Root,
    pending_inputs_place,
    pending_place,
    shown_name,
)
from popbuild.base.redact import redact
from popbuild.jobs import job_ids, originals, run_log
from popbuild.jobs.lifecycle import job_lock
from popbuild.model.config.config import environment_of
from popbuild.upkeep import import_source
from popbuild.upkeep.archive.restore import shelved
from popbuild.upkeep.import_source import DATA, IMPORTED_STATES, SEEDS, Imported, says_the_same

_RUNS_PLACE = f"{DATA}/{COMPLETE}/{RUNS}"


def import_data(root: Root, folder: Path, *, dry_run: bool = False) -> Imported:
    """Copy another program's data folder into a root; with `dry_run`, only say what would be
    copied. A command that was killed is simply run again. UsageError for a folder without such
    data, and where the folder and the root are not apart."""
    source = import_source.find_source(folder)
    import_source.check_apart(root, source)
    found = Imported(source, dry_run)
    if dry_run:
        _Import(root, None, found).run()
        return found
    with shelved(root) as shelf:
        run_log.start_anew(root)
        _Import(root, shelf, found).run()
    return found


class _Import:
    """One import. Without a shelf nothing is written."""

    def __init__(self, root: Root, shelf: Root | None, found: Imported) -> None:
        self._root = root
        self._shelf = shelf
        self._source = found.source
        self._found = found
        self._environment = environment_of(root, os.environ)
        self._known = {job.casefold(): job for job in job_ids.known_jobs(root)}

    def run(self) -> None:
        for name in self._names(SEEDS):
            self._trying([f"{SEEDS}/{name}"], self._seed, name)
        for job, places in self._jobs().items():
            self._trying(places, self._job, job, places)
        self._found.built = self._built()
        path = self._source.data and self._source.data / COMPLETE / RUNS
        if path is not None and disk.stands(path):
            self._trying([_RUNS_PLACE], self._runs, path)

    def _trying(self, places: Sequence[str], bring: Callable[..., None], *given: Any) -> None:
        """Import one thing; where it cannot be imported, name it and go on with the others."""
        try:
            bring(*given)
            return
        except LockedError:
            why = "another command builds this job"
        except PopbuildError as error:
            why = error.as_line(without=())
        except OSError as error:
            if error.filename is None or Path(str(error.filename)).is_relative_to(self._root.path):
                raise  # the disk is full, or the root cannot be written: nothing can be imported
            why = f"{error.filename}: {error.strerror}"
        for place in places:
            if place not in self._found.imported + self._found.there:
                self._leave(place, why)

    def _leave(self, place: str, why: str) -> None:
        self._found.left_alone[redact(shown_name(place), self._environment)] = why

    def _names(self, top: str) -> list[str]:
        """The names in a folder of the source, without hidden files."""
        folder = self._source.folder(top)
        try:
            names = [path.name for path in folder.iterdir()] if folder is not None else []
        except OSError as error:
            self._leave(top if top == SEEDS else f"{DATA}/{top}", str(error.strerror))
            return []
        return sorted(name for name in names if not name.startswith("."))

    # Seeds.

    def _seed(self, name: str) -> None:
        if not name.endswith(".json"):
            raise InputError("not a seed: its name does not end in .json")
        self._check_name(name.removesuffix(".json"))
        self._file(f"{SEEDS}/{name}")

    def _file(self, place: str) -> None:
        came, stands = self._source.place(place), self._root.path / place
        data = disk.read(came)
        if disk.stands(stands):
            if not says_the_same(stands, came):
                raise InputError("the root has another seed there")
            self._found.there.append(place)
            return
        if self._shelf is not None:
            beside = self._shelf.path / place
            disk.make_folder(beside.parent)
            disk.make_folder(stands.parent)
            disk.write(beside, data)
        self._put(place)

    def _put(self, place: str) -> None:
        shelf, target = self._shelf, self._root.path / place
        if shelf is not None and not tree.rename_new(shelf.path / place, target):
            raise InputError("another command put something there meanwhile")
        self._found.imported.append(place)

    def _check_name(self, job: str) -> None:
        if problem := paths.name_problem(job):
            raise InputError("not a valid name for a job", {"allowed": problem})
        job_ids.refuse_keys(job, self._environment)
        other = self._known.setdefault(job.casefold(), job)
        if other != job:
            raise InputError(
                f"its ID differs from that of {shown_name(other)} only by upper and lower case"
            )

    def _built(self) -> dict[str, str]:
        """The imported seeds that a complete job was made from. Here a file under seeds/ is a job
        of its name; there it was copied for a job of another name."""
        places = [*self._found.imported, *self._found.there]
        complete = [each for each in places if each.startswith(f"{DATA}/{COMPLETE}/")]
        jobs = [JobFolder(self._source.place(place)) for place in complete]
        made = {digest: job.id for job in jobs if (digest := import_source.digest_in(job.seed))}
        own = {paths.seed_place(job.id) for job in jobs}  # of another root of ours
        imported = [place for place in self._found.imported if place not in own]
        seeds = [place for place in imported if place.startswith(f"{SEEDS}/")]
        digests = {place: import_source.digest_in(self._source.place(place)) for place in seeds}
        return {place: made[digest] for place, digest in digests.items() if digest in made}

    # Jobs.

    def _jobs(self) -> dict[str, list[str]]:
        """The jobs of the source, each with its places: directories, and a waiting seed."""
        found: dict[str, list[str]] = {}
        waiting = self._names(PENDING)
        for name in waiting:
            job = name.removesuffix("-seed.json")
            if f"{name.removesuffix('-inputs')}-seed.json" in waiting:
                continue  # the files of that seed: they come with it
            if job == name:
                self._leave(f"{DATA}/{PENDING}/{name}", "not a waiting seed: <job>-seed.json")
            else:
                found.setdefault(job, []).append(pending_place(job))
        for state in IMPORTED_STATES:
            for name in self._names(state):
                if (state, name) != (COMPLETE, RUNS):
                    found.setdefault(name, []).append(paths.job_place(state, name))
        return dict(sorted(found.items()))

    def _job(self, job: str, places: Sequence[str]) -> None:
        self._check_name(job)
        with job_lock(self._root, job) if self._shelf is not None else contextlib.nullcontext():
            missing = self._missing(job, places)
            self._found.there += [place for place in places if place not in missing]
            for place in missing:
                if place == pending_place(job):
                    self._inputs(pending_inputs_place(job))
                    self._file(place)
                else:
                    self._directory(place)

    def _inputs(self, place: str) -> None:
        """The files of a waiting seed, which are there before the seed is."""
        came, stands = JobFolder(self._source.place(place)), JobFolder(self._root.path / place)
        if disk.is_folder(came.path) and not (
            disk.stands(stands.path) and originals.is_same(came, stands)
        ):
            self._directory(place)

    def _missing(self, job: str, places: Sequence[str]) -> list[str]:
        """The places of a job to import. InputError where the root has another job of this ID."""
        own = [pending_place(job), *(paths.job_place(state, job) for state in IMPORTED_STATES)]
        standing = {place for place in own if disk.stands(self._root.path / place)}
        same = {place for place in standing.intersection(places) if self._is_same(job, place)}
        missing = [place for place in places if place not in same and not self._went(job, place)]
        others = sorted(standing - same)
        if missing and not others and self._has_another_seed(job, missing[0]):
            others = [paths.seed_place(job)]
        if missing and others:
            raise InputError(f"the root has another job of this ID: {', '.join(others)}")
        return missing

    def _is_same(self, job: str, place: str) -> bool:
        came, stands = self._source.place(place), self._root.path / place
        if place == pending_place(job):
            return says_the_same(stands, came)
        return originals.is_same(JobFolder(came), JobFolder(stands))

    def _went(self, job: str, place: str) -> bool:
        """Whether this was imported before, and popbuild has built or moved it since."""
        came = self._source.place(place)
        if place == pending_place(job):
            folders = [self._root.job(state, job) for state in IMPORTED_STATES]
            return any(says_the_same(folder.seed, came) for folder in folders)
        kept = originals.kept(self._root, job)
        return any(originals.is_same(JobFolder(came), each) for each in kept)

    def _has_another_seed(self, job: str, place: str) -> bool:
        """Whether seeds/ of the root has another seed of this name than the job to import."""
        stands, place_of_seed = self._root.seed(job), paths.seed_place(job)
        if not disk.stands(stands) or place_of_seed in self._found.imported + self._found.there:
            return False
        came = self._source.place(place)
        seed = came if place == pending_place(job) else JobFolder(came).seed
        return not says_the_same(stands, seed)

    def _directory(self, place: str) -> None:
        came = JobFolder(self._source.place(place))
        import_source.check_directory(came)
        if self._shelf is not None:
            beside = JobFolder(self._shelf.path / place)
            tree.take_folder(came.path, beside.path)
            if not originals.is_same(came, beside):
                hint = "end its program, then import"
                raise InputError("it was written to while it was copied", hint=hint)
        self._put(place)

    # Runs.

    def _runs(self, path: Path) -> None:
        lines = []
        alone = {Path(each).name for each in self._found.left_alone}
        for number, line in enumerate(disk.read(path).splitlines(), 1):
            body = run_log.body_of(line)
            if body is None and line.strip():
                self._leave(f"{_RUNS_PLACE}, line {number}", "not the line of a run")
            elif body is not None and body.get("id") not in alone:
                lines.append(body)
        added = run_log.take_over(self._root, lines, really=self._shelf is not None)
        self._found.lines, self._found.lines_there = added, len(lines) - added
