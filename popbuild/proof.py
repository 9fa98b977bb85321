"""Whether complete jobs are what their letters and seals say: every digest computed anew, offline.

Reads only, and takes no configuration's word: what is proven is where a job came from and that
nothing was altered since, not that it is up to date. A finding is an alteration, or a note of what
could not be checked here.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popbuild import disk, jsonio, seals
from popbuild.config import Snapshot
from popbuild.errors import InputError, UsageError, unknown
from popbuild.exam import read_frozen, read_json, read_letter
from popbuild.fingerprint import digest_of, kind_of
from popbuild.layout import COMPLETE, JobFolder, Root
from popbuild.llm.store import Store
from popbuild.model.letter import Letter, seal
from popbuild.model.problem import value_at
from popbuild.objects import Objects

# What a killed command leaves in place of a file that it was writing.
_LEFT_OVER = re.compile(r"(?:.*/)?\.tmp-[0-9a-f]{16}\Z")
_MAX_TRIES = 3


@dataclass(frozen=True)
class Finding:
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
    findings: tuple[Finding, ...]

    @property
    def alterations(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.altered]

    @property
    def notes(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.altered]

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.job,
            "proven": not self.alterations,
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
    beside: tuple[Finding, ...]

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
    return f"proven: {', '.join(parts)}"


def verify(root: Root, names: Iterable[str] = ()) -> Verification:
    """Prove the named complete jobs, or all and what stands beside them. A name may be a glob."""
    known = complete_jobs(root)
    names = list(names)
    selected = dict.fromkeys(known if not names else _select(known, names))
    evidence = _Evidence(root, _Runs(root))
    proofs = tuple(_prove_steadily(evidence, job, alone=bool(names)) for job in selected)
    beside = () if names else (*_strays(root), *evidence.runs.findings())
    return Verification(proofs, tuple(beside))


def complete_jobs(root: Root) -> list[str]:
    """The jobs that stand in complete/."""
    try:
        entries = list((root.data / COMPLETE).iterdir())
    except FileNotFoundError:
        return []
    return sorted(
        path.name
        for path in entries
        if not path.name.startswith(".") and path.is_dir() and not path.is_symlink()
    )


def _select(known: list[str], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        found = fnmatch.filter(known, name)
        if not found:
            raise UsageError(
                "no such complete job",
                unknown("job", name, known),
                hint="popbuild list shows the jobs and their states",
            )
        yield from found


def _prove_steadily(evidence: _Evidence, job: str, *, alone: bool) -> Proof:
    """A rebuild may take the job's place meanwhile: then what was read is of two results."""
    folder = evidence.root.job(COMPLETE, job)
    for _ in range(_MAX_TRIES):
        before = _bytes_of(folder.seal)
        proof = _JobProof(evidence, folder, alone=alone).prove()
        if _bytes_of(folder.seal) == before:
            break
    return proof


def _bytes_of(path: Path) -> bytes | None:
    try:
        return disk.read(path)
    except (OSError, InputError):
        return None


class _Evidence:
    """What stands outside of the jobs' directories, each thing looked at once: configuration
    files and answers by digest, the runs."""

    def __init__(self, root: Root, runs: _Runs) -> None:
        self.root = root
        self.runs = runs
        self._objects = Objects(root)
        self._store = Store(root.private / "store")
        self._known: dict[tuple[str, str], bool | None] = {}

    def file(self, path: str, digest: str) -> bool | None:
        """Whether the copy of a configuration file has the digest; None if none is kept."""
        # JSON counts by its value, so the name belongs to what is digested.
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
        and seal(body) == body
    )


class _JobProof:
    """The proof of one job, as it grows."""

    def __init__(self, evidence: _Evidence, folder: JobFolder, *, alone: bool) -> None:
        self._evidence = evidence
        self._root = evidence.root
        self._folder = folder
        self._alone = alone  # nobody checks the whole of runs.jsonl
        self._findings: list[Finding] = []
        self._told: set[str] = set()  # files that an alteration was told of
        self._vouched: set[str] = set()  # files whose bytes are as the seal says
        self._answers: dict[str, bool | None] = {}
        self._files_kept: dict[str, bool | None] = {}

    def prove(self) -> Proof:
        status = read_json(self._folder.status)
        status = status if isinstance(status, dict) else {}
        run = status.get("pipelineId")
        line = self._evidence.runs.line(run)
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
        self._check_line(str(run), line)
        self._sum_up()
        return Proof(
            self._folder.id,
            sealed,
            len(letters),
            len(self._vouched),
            sum(each is True for each in self._answers.values()),
            tuple(sorted(self._findings, key=lambda each: (not each.altered, each.file))),
        )

    def _altered(self, name: str, what: str) -> None:
        self._told.add(name)
        self._findings.append(Finding(self._root.show(self._folder.path / name), what))

    def _note(self, what: str) -> None:
        self._findings.append(Finding(self._root.show(self._folder.path), what, altered=False))

    # The seal.

    def _check_seal(self, line: Mapping[str, Any] | None) -> tuple[bool, list[tuple[str, str]]]:
        """Whether there is a seal that can be gone by, and what it says was altered."""
        promoted = line.get("seal") if line is not None else None
        if not disk.stands(self._folder.seal):
            if promoted is not None:
                self._altered("seal.json", "is missing: the job was promoted with it")
                return False, []
            self._note("no seal: only letters and artifacts could be checked")
            if not isinstance(read_json(self._folder.status), dict):
                self._altered("tasks-status.json", "is missing or damaged")
            return False, []
        body = read_json(self._folder.seal)
        if not seals.intact(body) or _bytes_of(self._folder.seal) != seals.bytes_of(body):
            self._altered("seal.json", "was altered: it does not have its own digest")
            self._note("without its seal only letters and artifacts could be checked")
            return False, []
        if promoted is not None and seals.promotion_of(body) != promoted:
            self._altered("seal.json", "is not the one that runs.jsonl says was promoted")
        return True, self._against(body["files"], set(body.get("changing", ())))

    def _against(self, files: Mapping[str, str], changing: set[str]) -> list[tuple[str, str]]:
        found = []
        there = {name for name, path in disk.walk_all(self._folder.path)} - {"seal.json"}
        for name in sorted(there | files.keys() | changing):
            if name in changing:
                self._note(f"{name} was being changed when a command was killed")
            elif name not in there:
                found.append((name, "is missing"))
            elif name not in files:
                if _LEFT_OVER.match(name):
                    self._note(f"{name} was left by a command that was killed")
                else:
                    found.append((name, "was added since the promotion"))
            elif self._digest(name) != files[name]:
                found.append((name, "was altered since the promotion"))
            else:
                self._vouched.add(name)
        return found

    def _digest(self, name: str) -> str | None:
        try:
            return seals.digest_of(self._folder.path / name)
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
            if digest != (kind_of(value) if kind.endswith("-kind") else digest_of(value)):
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

    def _check_line(self, run: str, line: Mapping[str, Any] | None) -> None:
        runs = self._evidence.runs
        if line is None and run not in runs.known:
            self._note("no line in runs.jsonl: it was promoted elsewhere, or by a killed command")
        elif self._alone:
            self._findings += runs.findings(run)

    def _sum_up(self) -> None:
        for digest, right in self._answers.items():
            if right is False:
                path = self._root.show(self._evidence.answer_path(digest))
                self._findings.append(Finding(path, "the stored answer was altered"))
        missing = sum(right is None for right in self._answers.values())
        if missing:
            self._note(f"{missing} of {len(self._answers)} answers not in the store")
        for path, right in self._files_kept.items():
            if right is False:
                where = f"{self._root.show(self._root.private)}/objects"
                self._findings.append(Finding(where, f"the copy of {path} was altered"))
        missing = sum(right is None for right in self._files_kept.values())
        if missing:
            self._note(f"{missing} of {len(self._files_kept)} configuration files not kept here")


def _strays(root: Root) -> Iterator[Finding]:
    """What stands in complete/ and is neither a job nor runs.jsonl."""
    folder = root.data / COMPLETE
    if not folder.is_dir():
        return
    known = {root.runs.name, *complete_jobs(root)}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            if _LEFT_OVER.match(path.name):
                what, altered = "was left by a command that was killed", False
            else:
                what, altered = "does not belong here", True
            yield Finding(root.show(path), what, altered)


class _Runs:
    """runs.jsonl, line by line, beside our own copy of it."""

    def __init__(self, root: Root) -> None:
        self._where = root.show(root.runs)
        data = _bytes_of(root.runs)
        self._ended = not data or data.endswith(b"\n")
        self._lines = (data or b"").removesuffix(b"\n").split(b"\n") if data else []
        self._bodies = [_body_of(line) for line in self._lines]
        self._whole: dict[object, Mapping[str, Any]] = {}
        for body in self._bodies:
            if body is not None and _is_whole(body):
                self._whole.setdefault(body["pipelineId"], body)
        copies = [_body_of(line) for line in (_bytes_of(root.runs_copy) or b"").split(b"\n")]
        self.known = {body["pipelineId"] for body in copies if body is not None}

    def line(self, run: object) -> Mapping[str, Any] | None:
        """The line of a run, None if there is none, or it was altered."""
        return self._whole.get(run)

    def findings(self, run: str | None = None) -> list[Finding]:
        """What is wrong with the lines; with a run, with its line only."""
        return [
            Finding(self._where, what, altered)
            for about, what, altered in self._told
            if run is None or about == run
        ]

    @functools.cached_property
    def _told(self) -> list[tuple[str | None, str, bool]]:
        return list(self._look())

    def _look(self) -> Iterator[tuple[str | None, str, bool]]:
        seen: dict[str, int] = {}
        for number, (line, body) in enumerate(zip(self._lines, self._bodies, strict=True), 1):
            if body is None:
                torn = any(other != line and other.startswith(line) for other in self._lines)
                if torn and line:
                    yield None, f"line {number} was cut short by a crash, and written again", False
                else:
                    yield None, f"line {number} is not one that popbuild wrote", True
                continue
            run = body["pipelineId"]
            if not _is_whole(body) or ("digest" in body and jsonio.compact(body).encode() != line):
                yield run, f"line {number} was altered: it does not have its own digest", True
            if run in seen:
                yield run, f"line {number} repeats the run of line {seen[run]}", True
            seen.setdefault(run, number)
            if run in self.known and "digest" not in body:
                yield run, f"line {number} was altered: its digest is missing", True
        for run in sorted(self.known - seen.keys()):
            yield run, f"the line of the run {run} is missing", True
        if not self._ended:
            yield None, "its last line has no end", True


def _body_of(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("pipelineId"), str) else None


def _is_whole(body: dict[str, Any]) -> bool:
    """Whether a line has its own digest, or is from before lines had one."""
    return "digest" not in body or seal(body) == body
