"""Whether complete jobs are what their letters and seals say: every digest computed anew, offline.

Reads only, and takes no configuration's word: what is proven is where a job came from and that
nothing was altered since, not that it is up to date. A finding is an alteration, or a note of what
could not be checked here.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError, UsageError, no_such
from popbuild.base.paths import COMPLETE, FILE_KINDS, JobFolder, Root
from popbuild.jobs import seals
from popbuild.jobs.config_archive import Objects
from popbuild.jobs.fingerprint import kind_of, value_digest
from popbuild.jobs.foreign import is_foreign
from popbuild.jobs.promotion import promotion_under_way
from popbuild.jobs.records import is_foreign_letter, read_frozen, read_json, read_letter
from popbuild.jobs.run_history import Runs
from popbuild.jobs.run_lines import RunLine, complete_jobs
from popbuild.llm.store import Store
from popbuild.model.config.snapshot import Snapshot
from popbuild.model.letter import Letter, is_sealed
from popbuild.model.problem import value_at
from popbuild.upkeep.recheck import Recheck

_MAX_TRIES = 3
_MAX_NAMED = 10  # jobs in one note
# Folders that every job has, whether anything is in them or not; git keeps no empty one.
_OWN_FOLDERS = frozenset({"tasks", "files", *(f"files/{kind}" for kind in FILE_KINDS)})


@dataclass(frozen=True)
class ProofFinding:
    """One thing that `verify` found: `altered`, or only a note of what could not be checked."""

    file: str
    what: str
    altered: bool = True

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "what": self.what, "altered": self.altered}


@dataclass(frozen=True)
class Proof:
    """What was checked of one job, and what was found. `files` were as they were promoted,
    `answers` of the calls were in the store, intact."""

    job: str
    sealed: bool
    tasks: int
    files: int
    answers: int
    findings: tuple[ProofFinding, ...]
    foreign: bool = False  # another program's: nothing says what it should be

    @property
    def alterations(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if finding.altered]

    @property
    def notes(self) -> list[ProofFinding]:
        return [finding for finding in self.findings if not finding.altered]

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.job,
            "proven": not self.alterations,
            **({"foreign": True} if self.foreign else {}),
            "sealed": self.sealed,
            "tasks": self.tasks,
            "files": self.files,
            "answers": self.answers,
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Verification:
    """The proofs of jobs, and what was found in complete/ beside them."""

    proofs: tuple[Proof, ...]
    beside: tuple[ProofFinding, ...]

    @property
    def proven(self) -> bool:
        findings = [*self.beside, *(each for proof in self.proofs for each in proof.findings)]
        return not any(finding.altered for finding in findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "proven": self.proven,
            "jobs": [proof.as_json() for proof in self.proofs],
            "findings": [finding.as_json() for finding in self.beside],
        }

    def lines(self) -> Iterator[str]:
        """As a person reads it: a line for each alteration, and one for each job."""
        for proof in self.proofs:
            for finding in proof.alterations:
                yield f"{finding.file}: {finding.what}"
            yield f"{proof.job}: {_summary(proof)}"
            for finding in proof.notes:
                yield f"  {finding.what}"
        for finding in self.beside:
            yield f"{finding.file}: {finding.what}"


def _summary(proof: Proof) -> str:
    count = len(proof.alterations)
    if count:
        return f"{count} alteration{'s' * (count != 1)}"
    parts = [
        f"{number} {name}{'s' * (number != 1)}"
        for number, name in (
            (proof.tasks, "task"),
            (proof.files, "file"),
            (proof.answers, "stored answer"),
        )
    ]
    return f"{'nothing to prove' if proof.foreign else 'proven'}: {', '.join(parts)}"


def verify(root: Root, names: Iterable[str] = ()) -> Verification:
    """Prove the named complete jobs, or all and what stands beside them. A name may be a glob."""
    evidence = _Evidence(root)
    standing = complete_jobs(root)
    missing, elsewhere = evidence.runs.missing(standing)
    known = sorted({*standing, *missing})
    names = list(names)
    selected = dict.fromkeys(known if not names else _select(known, names))
    proofs = [_prove_steadily(evidence, job, alone=bool(names)) for job in selected]
    beside = () if names else (*_strays(root), *_beside(evidence, elsewhere))
    return Verification(tuple(filter(None, proofs)), tuple(beside))


def _beside(evidence: _Evidence, elsewhere: list[str]) -> Iterator[ProofFinding]:
    """What runs.jsonl tells of no job that stands here."""
    where = evidence.root.show(evidence.root.runs)
    for flaw in evidence.runs.flaws():
        yield ProofFinding(where, flaw.what, flaw.altered)
    if elsewhere:
        # .popbuild/ would tell, which was not copied along, or never saw these promotions.
        names = [*elsewhere[:_MAX_NAMED], *(["…"] if elsewhere[_MAX_NAMED:] else [])]
        what = f"not here, whether or not that was meant: {', '.join(names)}"
        yield ProofFinding(where, what, altered=False)


def _select(known: list[str], names: Iterable[str]) -> Iterator[str]:
    exact = set(known)
    for name in names:
        found = [name] if name in exact else fnmatch.filter(known, name)
        if not found:
            raise UsageError(
                "no such complete job",
                no_such("job", name, known),
                hint="popbuild list shows the jobs and their states",
            )
        yield from found


def _prove_steadily(evidence: _Evidence, job: str, *, alone: bool) -> Proof | None:
    """A rebuild may take the job's place meanwhile: then what was read is of two results, or of
    one whose line was not there yet. None for a job that was removed meanwhile."""
    folder = evidence.root.job(COMPLETE, job)
    link = disk.first_link(str(folder.path))
    if link is not None:
        what = "is a symbolic link: nothing of the job was read"
        return Proof(job, False, 0, 0, 0, (ProofFinding(evidence.root.show(Path(link)), what),))
    for _ in range(_MAX_TRIES):
        before = _bytes_of(folder.seal)
        proof = _JobProof(evidence, folder, alone=alone).prove()
        fresh = _bytes_of(folder.seal) == before
        if fresh and (not proof.alterations or not evidence.renew()):
            break
    return proof if proof.findings or disk.stands(folder.path) else None


def _bytes_of(path: Path) -> bytes | None:
    try:
        return disk.read(path)
    except (OSError, InputError):
        return None


class _Evidence:
    """What stands outside of the jobs' directories, each thing looked at once: configuration
    files and answers by digest, the runs."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.runs = Runs(root)
        self._objects = Objects(root)
        self.gates = Recheck(self._objects)
        self._store = Store(root.private / "store")
        self._known: dict[tuple[str, str], bool | None] = {}

    def renew(self) -> bool:
        """Read the runs again; whether any was added since."""
        before, self.runs = self.runs, self.runs.again()
        return self.runs is not before

    def names_of(self, line: RunLine) -> list[str]:
        """The complete jobs that are the result of a run, whatever their names."""
        return self._names.get(str(line.get("seal")), [])

    @functools.cached_property
    def _names(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for job in complete_jobs(self.root):
            if disk.first_link(str(self.root.job(COMPLETE, job).path)) is not None:
                continue
            body = seals.read_seal(self.root.job(COMPLETE, job))
            if body is not None:
                found.setdefault(seals.promotion_of(body), []).append(job)
        return found

    def file(self, path: str, digest: str) -> bool | None:
        """Whether the copy of a configuration file has the digest; None if none is kept."""
        # JSON counts without its formatting, so the name belongs to what is digested.
        key = (Path(path).suffix, digest)
        if key not in self._known:
            data = self._objects.get(digest)
            right = data is not None and Snapshot({path: data}).digests[path] == digest
            self._known[key] = None if data is None else right
        return self._known[key]

    def answer(self, digest: str) -> bool | None:
        """Whether the stored answer to a request is intact; None if it is not in the store."""
        key = ("answer", digest)
        if key not in self._known:
            path = self.answer_path(digest)
            self._known[key] = _is_answer(read_json(path), digest) if disk.stands(path) else None
        return self._known[key]

    def answer_path(self, digest: str) -> Path:
        return self._store.path(digest)


def _is_answer(body: Any, digest: str) -> bool:
    return (
        isinstance(body, dict)
        and body.get("digestOfRequest") == digest
        and jsonio.digest(body.get("request")) == digest
        and is_sealed(body)
    )


class _JobProof:
    """The proof of one job, as it grows."""

    def __init__(self, evidence: _Evidence, folder: JobFolder, *, alone: bool) -> None:
        self._evidence = evidence
        self._root = evidence.root
        self._folder = folder
        self._alone = alone  # nobody checks the whole of runs.jsonl
        self._findings: list[ProofFinding] = []
        self._told: set[str] = set()  # files that an alteration was told of
        self._vouched: set[str] = set()  # files whose bytes are as the seal says
        self._answers: dict[str, bool | None] = {}
        self._files_kept: dict[str, bool | None] = {}

    def prove(self) -> Proof:
        if not self._folder.path.is_dir():
            self._check_missing()
            return Proof(self._folder.id, False, 0, 0, 0, tuple(self._findings))
        status = read_json(self._folder.status)
        status = status if isinstance(status, dict) else {}
        line = self._check_result(status.get("pipelineId"))
        sealed, from_seal = self._check_seal(line)
        letters = self._letters(status)
        for task in read_frozen(self._root, self._folder.id):
            self._note(f"{task} is frozen: not built again whatever changes")
        for letter in letters.values():
            self._check_outputs(letter)
            self._check_fingerprint(letter, letters)
            self._check_calls(letter)
        # What a letter says is more to the point: the seal adds what no letter speaks of.
        for name, what in from_seal:
            if name not in self._told:
                self._altered(name, what)
        self._check_empty_folders()
        self._check_lines()
        self._sum_up()
        return Proof(
            self._folder.id,
            sealed,
            len(letters),
            len(self._vouched),
            sum(each is True for each in self._answers.values()),
            tuple(sorted(self._findings, key=lambda each: (not each.altered, each.file))),
            is_foreign(self._folder),
        )

    def _altered(self, name: str, what: str) -> None:
        self._told.add(name)
        self._findings.append(ProofFinding(self._root.show(self._folder.path / name), what))

    def _note(self, what: str) -> None:
        self._findings.append(ProofFinding(self._root.show(self._folder.path), what, altered=False))

    # Which result it is.

    def _check_missing(self) -> None:
        """The job was promoted and stands here no more, unless somebody removed it meanwhile."""
        runs, job = self._evidence.runs, self._folder.id
        line = runs.last(job)
        if line is None or not runs.is_missed(job):
            return
        names = self._evidence.names_of(line)
        stands = f", and its result stands as {', '.join(names)}" if names else ""
        what = f"is missing: the run {line['pipelineId']} promoted it{stands}; if that was meant,"
        self._altered("", f"{what} doit clean --complete {job} says so")
        self._check_lines()

    def _check_result(self, run: object) -> RunLine | None:
        """The line of the run that made this result: the last one of the job of this name."""
        runs, job = self._evidence.runs, self._folder.id
        body = seals.read_seal(self._folder)
        promoted = seals.promotion_of(body) if body is not None else None
        line, last = runs.result(promoted, run), runs.last(job)
        if line is None:
            under_way = promotion_under_way(self._root, job)
            if under_way is not None and under_way.get("seal") == promoted:
                self._note("its promotion was cut short: the next command on it adds its line")
            elif last is None:
                self._note("no line in runs.jsonl: it was promoted elsewhere")
            elif promoted is None and run is None:
                return last  # what is left of it does not say, and is told of itself
            else:
                self._altered("", f"is not the result of its last run, {last['pipelineId']}")
            return None
        made = line["pipelineId"]
        if line.get("id", job) != job:
            what = f"is the result of the job {line['id']}, of its run {made}"
            self._altered("", f"{what}; popbuild run -a {job} makes its own, from the store")
        elif last is not None and last["pipelineId"] != made:
            what = f"is the result of the earlier run {made}, not of the last one"
            self._altered("", f"{what}, {last['pipelineId']}")
        return line

    # The seal.

    def _check_seal(self, line: Mapping[str, Any] | None) -> tuple[bool, list[tuple[str, str]]]:
        """Whether there is a seal that can be gone by, and what it says was altered."""
        promoted = line.get("seal") if line is not None else None
        if not disk.stands(self._folder.seal):
            if promoted is not None:
                self._altered("seal.json", "is missing: the job was promoted with it")
                return False, []
            if is_foreign(self._folder):
                self._note("another program built it: nothing here says what it should be")
                return False, []
            self._note("no seal: only letters and artifacts could be checked")
            if not isinstance(read_json(self._folder.status), dict):
                self._altered("tasks-status.json", "is missing or damaged")
            return False, []
        body = read_json(self._folder.seal)
        if not seals.intact(body) or _bytes_of(self._folder.seal) != seals.seal_bytes(body):
            self._altered("seal.json", "was altered: it does not have its own digest")
            self._note("without its seal only letters and artifacts could be checked")
            return False, []
        if promoted is not None and seals.promotion_of(body) != promoted:
            self._altered("seal.json", "is not the one that runs.jsonl says was promoted")
        return True, self._against(body["files"], set(body.get("changing", ())))

    def _against(self, files: Mapping[str, str], changing: set[str]) -> list[tuple[str, str]]:
        found = []
        there = dict(disk.walk_all(self._folder.path))
        there.pop("seal.json", None)
        for name in sorted(there.keys() | files.keys() | changing):
            if name in changing:
                self._note(f"{name} was being changed when a command was killed")
            elif name not in there:
                found.append((name, "is missing"))
            elif name not in files:
                if disk.is_temporary(name):
                    self._note(f"{name} was left by a command that was killed")
                else:
                    found.append((name, "was added since the promotion"))
            elif self._digest(there[name]) != files[name]:
                found.append((name, "was altered since the promotion"))
            else:
                self._vouched.add(name)
        return found

    def _check_empty_folders(self) -> None:
        """The seal names files: a folder without any was made by somebody else."""
        for name in disk.empty_folders(self._folder.path):
            if name not in _OWN_FOLDERS:
                self._altered(name, "was added since the promotion")

    def _digest(self, path: Path) -> str | None:
        try:
            return seals.file_digest(path)
        except (OSError, InputError):
            return None

    # The letters.

    def _letters(self, status: Mapping[str, Any]) -> dict[str, Letter]:
        tasks = self._folder.path / "tasks"
        folders = [path for path in tasks.iterdir() if path.is_dir()] if tasks.is_dir() else []
        listed = status.get("tasks")
        found = {}
        names = {path.name for path in folders}
        for task in sorted(names.union(listed if isinstance(listed, dict) else ())):
            path = self._folder.letter(task)
            letter = read_letter(self._folder, task)
            if letter is not None:
                found[task] = letter
                if letter.edited:
                    self._note(f"{task}: its artifact was edited by hand and accepted")
            elif is_foreign_letter(self._folder, task):
                self._note(f"{task} was built by another program: its letter is not ours")
            elif disk.stands(path):
                what = "was altered: it does not have its own digest"
                self._altered(path.relative_to(self._folder.path).as_posix(), what)
            else:
                self._note(f"{task} has no letter: nothing says what it was made from")
        return found

    def _check_outputs(self, letter: Letter) -> None:
        main = letter.fingerprint.get("output")
        for name, digest in letter.outputs.items():
            path = f"files/artifacts/{name}"
            data = _bytes_of(self._folder.artifact(name))
            if data is None:
                self._altered(path, f"is missing: {letter.task} made it")
            elif name == main:
                self._check_main(letter, path, data, digest)
            elif jsonio.digest_bytes(data) != digest:
                self._altered(path, f"is not what the letter of {letter.task} says")

    def _check_main(self, letter: Letter, path: str, data: bytes, digest: str) -> None:
        try:
            value = jsonio.loads(data, path)
        except InputError as error:
            self._altered(path, f"was altered: {error.as_line()}")
            return
        if jsonio.digest(value) != digest:
            self._altered(path, f"is not what the letter of {letter.task} says")
        elif path not in self._vouched and not letter.edited and jsonio.dumps(value) != data:
            self._altered(path, "is not formatted as popbuild wrote it")
        else:
            problem = self._evidence.gates.would_fail(letter, value)
            if problem is not None:
                # No alteration, and no reason to build it again: the gate became stricter.
                self._note(f"{letter.task} would not pass today's gate: {problem}")

    def _check_fingerprint(self, letter: Letter, letters: Mapping[str, Letter]) -> None:
        """What the letter says that its task read, against what stands in the job."""
        documents: dict[str, Any] = {}
        differing: dict[str, list[str]] = {}
        for dependency, digest in letter.fingerprint.items():
            kind, _, rest = dependency.partition(":")
            if kind == "file":
                if digest != jsonio.ABSENT:
                    self._files_kept[rest] = self._evidence.file(rest, digest)
                continue
            path, pointer = "seed.json", rest
            if kind in ("artifact", "artifact-kind"):
                upstream, _, pointer = rest.partition(":")
                above = letters.get(upstream)
                if above is None:
                    continue  # told already, or forgotten
                path = f"files/artifacts/{above.fingerprint.get('output')}"
            elif kind not in ("seed", "seed-kind"):
                continue
            if path not in documents:
                documents[path] = read_json(self._folder.path / path)
            value = value_at(documents[path], pointer)
            if digest != (kind_of(value) if kind.endswith("-kind") else value_digest(value)):
                differing.setdefault(path, []).append(pointer or "/")
        for path, pointers in differing.items():
            where = ", ".join(pointers)
            if path in self._vouched:
                # `accept` of some tasks takes the seed, or an edited artifact, for these alone.
                self._note(f"{letter.task} was made from another {path}: {where}")
            elif path not in self._told:
                self._altered(path, f"is not what {letter.task} was made from: {where}")

    def _check_calls(self, letter: Letter) -> None:
        calls = letter.body.get("calls")
        for call in calls if isinstance(calls, list) else ():
            digest = call.get("request") if isinstance(call, dict) else None
            if isinstance(digest, str):
                self._answers[digest] = self._evidence.answer(digest)

    # What stands outside.

    def _check_lines(self) -> None:
        """The lines of runs.jsonl, where nobody checks all of them."""
        where = self._root.show(self._root.runs)
        for flaw in self._evidence.runs.flaws(self._folder.id) if self._alone else ():
            self._findings.append(ProofFinding(where, flaw.what, flaw.altered))

    def _sum_up(self) -> None:
        for digest, right in self._answers.items():
            if right is False:
                path = self._root.show(self._evidence.answer_path(digest))
                self._findings.append(ProofFinding(path, "the stored answer was altered"))
        missing = sum(right is None for right in self._answers.values())
        if missing:
            self._note(f"{missing} of {len(self._answers)} answers not in the store")
        for path, right in self._files_kept.items():
            if right is False:
                where = f"{self._root.show(self._root.private)}/objects"
                self._findings.append(ProofFinding(where, f"the copy of {path} was altered"))
        missing = sum(right is None for right in self._files_kept.values())
        if missing:
            self._note(f"{missing} of {len(self._files_kept)} configuration files not kept here")


def _strays(root: Root) -> Iterator[ProofFinding]:
    """What stands in complete/ and is neither a job nor runs.jsonl."""
    folder = root.data / COMPLETE
    if not folder.is_dir():
        return
    known = {root.runs.name, *complete_jobs(root)}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            if disk.is_temporary(path.name):
                what, altered = "was left by a command that was killed", False
            else:
                what, altered = "does not belong here", True
            yield ProofFinding(root.show(path), what, altered)
