"""Whether a job's artifacts, seed, configuration and answers are what its letters say."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import JobFolder, artifact_place, letter_place
from popbuild.jobs.examine import is_foreign_letter, read_json, read_letter
from popbuild.jobs.staleness import kind_of, value_digest
from popbuild.model.letter import Letter
from popbuild.model.problem import value_at
from popbuild.upkeep.evidence import Evidence, bytes_of
from popbuild.upkeep.proof import FindingList, ProofFinding


class LetterProof:
    """The letters of one job. `vouched` are the files whose bytes are as the seal says."""

    def __init__(
        self, evidence: Evidence, folder: JobFolder, found: FindingList, vouched: Set[str]
    ) -> None:
        self._evidence = evidence
        self._folder = folder
        self._found = found
        self._vouched = vouched
        self._answers: dict[str, bool | None] = {}
        self._files: dict[str, bool | None] = {}
        self._documents: dict[str, Any] = {}

    @property
    def intact_answers(self) -> int:
        return sum(each is True for each in self._answers.values())

    def check(self, letters: Mapping[str, Letter]) -> None:
        """Everything that letters vouch for."""
        for letter in letters.values():
            self._check_outputs(letter)
            self._check_fingerprint(letter, letters)
            calls = letter.body.get("calls")
            for call in calls if isinstance(calls, list) else ():
                digest = call.get("request") if isinstance(call, dict) else None
                if isinstance(digest, str):
                    self._answers[digest] = self._evidence.answer(digest)

    def read(self, status: Mapping[str, Any]) -> dict[str, Letter]:
        """The intact letters, by task; what is wrong with the others is reported."""
        tasks = self._folder.path / "tasks"
        names = (
            {path.name for path in tasks.iterdir() if path.is_dir()} if tasks.is_dir() else set()
        )
        listed = status.get("tasks")
        letters = {}
        for task in sorted(names.union(listed if isinstance(listed, dict) else ())):
            letter = read_letter(self._folder, task)
            if letter is not None:
                letters[task] = letter
                if letter.edited:
                    self._found.note(f"{task}: its artifact was edited by hand and accepted")
            elif is_foreign_letter(self._folder, task):
                self._found.note(f"{task} was built by another program: its letter is not ours")
            elif disk.stands(self._folder.letter(task)):
                what = "was altered: it does not have its own digest"
                self._found.altered(letter_place(task), what)
            else:
                self._found.note(f"{task} has no letter: nothing says what it was made from")
        return letters

    def _check_outputs(self, letter: Letter) -> None:
        main = letter.fingerprint.get("output")
        for name, digest in letter.outputs.items():
            path = artifact_place(name)
            data = bytes_of(self._folder.artifact(name))
            if data is None:
                self._found.altered(path, f"is missing: {letter.task} made it")
            elif name == main:
                self._check_main(letter, path, data, digest)
            elif jsonio.digest_bytes(data) != digest:
                self._found.altered(path, f"is not what the letter of {letter.task} says")

    def _check_main(self, letter: Letter, path: str, data: bytes, digest: str) -> None:
        try:
            value = jsonio.loads(data, path)
        except InputError as error:
            self._found.altered(path, f"was altered: {error.as_line()}")
            return
        if jsonio.digest(value) != digest:
            self._found.altered(path, f"is not what the letter of {letter.task} says")
        elif path not in self._vouched and not letter.edited and jsonio.dumps(value) != data:
            self._found.altered(path, "is not formatted as popbuild wrote it")
        elif problem := self._evidence.gates.would_fail(letter, value):
            # No alteration, and no reason to build it again: the gate became stricter.
            self._found.note(f"{letter.task} would not pass today's gate: {problem}")

    def _check_fingerprint(self, letter: Letter, letters: Mapping[str, Letter]) -> None:
        """What the letter says that its task read, against what is in the job."""
        differing: dict[str, list[str]] = {}
        for dependency, digest in letter.fingerprint.items():
            kind, _, rest = dependency.partition(":")
            if kind == "file" and digest != jsonio.ABSENT:
                self._files[rest] = self._evidence.file(rest, digest)
            read = _value_read(kind, rest, letters)
            if read is None:
                continue
            path, pointer = read
            if path not in self._documents:
                self._documents[path] = read_json(self._folder.path / path)
            value = value_at(self._documents[path], pointer)
            if digest != (kind_of(value) if kind.endswith("-kind") else value_digest(value)):
                differing.setdefault(path, []).append(pointer or "/")
        for path, pointers in differing.items():
            where = ", ".join(pointers)
            if path in self._vouched:
                # `accept` takes the seed, or an edited artifact, for the tasks it is given only.
                self._found.note(f"{letter.task} was made from another {path}: {where}")
            elif path not in self._found.reported:
                self._found.altered(path, f"is not what {letter.task} was made from: {where}")

    def sum_up(self) -> None:
        """Report the answers and the configuration files that are altered or not here."""
        show = self._evidence.root.show
        for digest, right in self._answers.items():
            if right is False:
                path = show(self._evidence.answer_path(digest))
                self._found.add(ProofFinding(path, "the stored answer was altered"))
        self._note_unknown(self._answers, "answers not in the store")
        for path, right in self._files.items():
            if right is False:
                where = f"{show(self._evidence.root.private)}/objects"
                self._found.add(ProofFinding(where, f"the copy of {path} was altered"))
        self._note_unknown(self._files, "configuration files not kept here")

    def _note_unknown(self, checked: Mapping[str, bool | None], what: str) -> None:
        unknown = sum(right is None for right in checked.values())
        if unknown:
            self._found.note(f"{unknown} of {len(checked)} {what}")


def _value_read(kind: str, rest: str, letters: Mapping[str, Letter]) -> tuple[str, str] | None:
    """The file and the pointer of a value that a task read; None for a dependency of another kind,
    or an artifact whose letter is gone, which is reported already."""
    if kind in ("seed", "seed-kind"):
        return "seed.json", rest
    if kind not in ("artifact", "artifact-kind"):
        return None
    upstream, _, pointer = rest.partition(":")
    above = letters.get(upstream)
    return (
        None if above is None else (artifact_place(f"{above.fingerprint.get('output')}"), pointer)
    )
