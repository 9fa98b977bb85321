"""Whether a complete job is the result of its last run, and every file as its seal says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from popbuild.base import disk, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import FILE_KINDS, JobFolder
from popbuild.jobs import seals
from popbuild.jobs.promotion import promotion_under_way
from popbuild.jobs.records import is_foreign, read_json
from popbuild.jobs.run_log import RunLine
from popbuild.upkeep.evidence import Evidence, bytes_of
from popbuild.upkeep.proof import FindingList

# Folders that every job has, even if they are empty; git keeps no empty folder.
_OWN_FOLDERS = frozenset({"tasks", "files", *(f"files/{kind}" for kind in FILE_KINDS)})


class SealProof:
    """The seal of one job against its files and its run. `vouched` are the files whose bytes are as
    the seal says."""

    def __init__(self, evidence: Evidence, folder: JobFolder, found: FindingList) -> None:
        self._evidence = evidence
        self._folder = folder
        self._found = found
        self.vouched: set[str] = set()

    def check_missing(self) -> bool:
        """Whether the job was promoted and has gone since without `clean` or `prune`."""
        runs, job = self._evidence.runs, self._folder.id
        line = runs.last(job)
        if line is None or not runs.is_missed(job):
            return False
        names = self._evidence.jobs_made_by(line)
        stands = f", and its result stands as {', '.join(names)}" if names else ""
        what = f"is missing: the run {line['pipelineId']} promoted it{stands}; if that was meant,"
        self._found.altered("", f"{what} doit clean --complete {job} says so")
        return True

    def check_result(self, run: object) -> RunLine | None:
        """The line of the run that made this result: it should be the job's last one."""
        runs, job = self._evidence.runs, self._folder.id
        body = seals.read_seal(self._folder)
        promoted = seals.promotion_of(body) if body is not None else None
        line, last = runs.result(promoted, run), runs.last(job)
        if line is None:
            under_way = promotion_under_way(self._evidence.root, job)
            if under_way is not None and under_way.get("seal") == promoted:
                self._found.note(
                    "its promotion was cut short: the next command on it adds its line"
                )
            elif last is None:
                self._found.note("no line in runs.jsonl: it was promoted elsewhere")
            elif promoted is None and run is None:
                return last  # neither seal nor status: both are reported on their own
            else:
                what = f"is not the result of its last run, {last['pipelineId']}"
                self._found.altered("", what)
            return None
        made = line["pipelineId"]
        if line.get("id", job) != job:
            what = f"is the result of the job {line['id']}, of its run {made}"
            self._found.altered("", f"{what}; popbuild run -a {job} makes its own, from the store")
        elif last is not None and last["pipelineId"] != made:
            what = f"is the result of the earlier run {made}, not of the last one"
            self._found.altered("", f"{what}, {last['pipelineId']}")
        return line

    def check_seal(self, line: RunLine | None) -> list[tuple[str, str]] | None:
        """The files that are not as the seal says, each with what is wrong; None without a usable
        seal."""
        found, folder = self._found, self._folder
        promoted = line.get("seal") if line is not None else None
        if not disk.stands(folder.seal):
            if promoted is not None:
                found.altered("seal.json", "is missing: the job was promoted with it")
            elif is_foreign(folder):
                found.note("another program built it: nothing here says what it should be")
            else:
                found.note("no seal: only letters and artifacts could be checked")
                if not isinstance(read_json(folder.status), dict):
                    found.altered("tasks-status.json", "is missing or damaged")
            return None
        body = read_json(folder.seal)
        if not seals.intact(body) or bytes_of(folder.seal) != seals.seal_bytes(body):
            found.altered("seal.json", "was altered: it does not have its own digest")
            found.note("without its seal only letters and artifacts could be checked")
            return None
        if promoted is not None and seals.promotion_of(body) != promoted:
            found.altered("seal.json", "is not the one that runs.jsonl says was promoted")
        return list(self._differing(body["files"], set(body.get("changing", ()))))

    def _differing(self, files: Mapping[str, str], changing: set[str]) -> Iterator[tuple[str, str]]:
        there = dict(tree.walk_all(self._folder.path))
        there.pop("seal.json", None)
        for name in sorted(there.keys() | files.keys() | changing):
            if name in changing:
                self._found.note(f"{name} was being changed when a command was killed")
            elif name not in there:
                yield name, "is missing"
            elif name not in files:
                if tree.is_temporary(name):
                    self._found.note(f"{name} was left by a command that was killed")
                else:
                    yield name, "was added since the promotion"
            elif _digest(there[name]) != files[name]:
                yield name, "was altered since the promotion"
            else:
                self.vouched.add(name)

    def check_empty_folders(self) -> None:
        """A seal names files only, so an empty folder that is not ours was added."""
        for name in tree.empty_folders(self._folder.path):
            if name not in _OWN_FOLDERS:
                self._found.altered(name, "was added since the promotion")


def _digest(path: Path) -> str | None:
    try:
        return seals.file_digest(path)
    except (OSError, InputError):
        return None
