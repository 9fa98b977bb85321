"""Whether a job's artifacts, seed, configuration and answers are what its letters say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import InputError
from popbuild.base.paths import STATUS, JobFolder, artifact_place, items_place, letter_place
from popbuild.jobs.fingerprint import read_digest
from popbuild.jobs.input_files import own_document, own_inputs
from popbuild.jobs.item_receipts import read_receipts
from popbuild.jobs.records import (
    is_foreign_letter,
    listed_tasks,
    read_json,
    read_letter,
)
from popbuild.model.letter import Letter
from popbuild.model.problem import MISSING
from popbuild.upkeep.evidence import bytes_of
from popbuild.upkeep.proof import JobProof, ProofFinding


def read_letters(proof: JobProof, status: Mapping[str, Any]) -> dict[str, Letter]:
    """The intact letters, by task; what is wrong with the others is reported."""
    folder, listed = proof.folder, status.get("tasks")
    letters = {}
    there = [name for name in listed_tasks(folder, None) if folder.task(name).is_dir()]
    for task in sorted({*there, *(listed if isinstance(listed, dict) else ())}):
        letter = read_letter(folder, task)
        if letter is not None:
            letters[task] = letter
            entry = listed.get(task) if isinstance(listed, dict) else None
            if isinstance(entry, dict) and bool(entry.get("skipped")) != bool(letter.skipped):
                proof.altered(STATUS, f"says another thing of {task} than its letter: skipped")
            if letter.edited:
                proof.note(f"{task}: its artifact was edited by hand and accepted")
        elif is_foreign_letter(folder, task):
            proof.note(f"{task} was built by another program: its letter is not ours")
        elif disk.stands(folder.letter(task)):
            proof.altered(letter_place(task), "was altered: it does not have its own digest")
        else:
            proof.note(f"{task} has no letter: nothing says what it was made from")
    proof.tasks = len(letters)
    return letters


def check_letters(proof: JobProof, letters: Mapping[str, Letter]) -> None:
    """Everything that letters vouch for."""
    documents: dict[str, Any] = {}
    for letter in letters.values():
        _check_outputs(proof, letter)
        _check_skipped(proof, letter)
        _check_fingerprint(proof, letter, letters, documents)
        calls = letter.body.get("calls")
        calls = [*calls, *_calls_of_items(proof, letter)] if isinstance(calls, list) else []
        for call in calls:
            digest = call.get("request") if isinstance(call, dict) else None
            if isinstance(digest, str):
                proof.answers[digest] = proof.evidence.answer(digest)


def _calls_of_items(proof: JobProof, letter: Letter) -> Iterator[Any]:
    """The calls in the receipts of a task's items, which the letter vouches for by their digest."""
    said = letter.body.get("items")
    if not isinstance(said, dict):
        return
    path, place = proof.folder.items(letter.task), items_place(letter.task)
    data = bytes_of(path)
    if data is None:
        proof.altered(place, f"is missing: {letter.task} made its artifact of it")
    elif jsonio.digest_bytes(data) != said.get("digest"):
        proof.altered(place, f"is not what the letter of {letter.task} says")
    else:
        for receipt in read_receipts(path):
            yield from receipt["calls"]


def _check_outputs(proof: JobProof, letter: Letter) -> None:
    main = letter.fingerprint.get("output")
    for name, digest in letter.outputs.items():
        path = artifact_place(name)
        data = bytes_of(proof.folder.artifact(name))
        if data is None:
            proof.altered(path, f"is missing: {letter.task} made it")
        elif name == main:
            _check_main(proof, letter, path, data, digest)
        elif jsonio.digest_bytes(data) != digest:
            proof.altered(path, f"is not what the letter of {letter.task} says")


def _check_main(proof: JobProof, letter: Letter, path: str, data: bytes, digest: str) -> None:
    try:
        value = jsonio.loads(data, path)
    except InputError as error:
        proof.altered(path, f"was altered: {error.as_line()}")
        return
    if jsonio.digest(value) != digest:
        proof.altered(path, f"is not what the letter of {letter.task} says")
    elif path not in proof.vouched and not letter.edited and jsonio.dumps(value) != data:
        proof.altered(path, "is not formatted as popbuild wrote it")
    elif problem := proof.evidence.would_fail(letter, value):
        # No alteration, and no reason to build it again: the gate became stricter.
        proof.note(f"{letter.task} would not pass today's gate: {problem}")


def _check_skipped(proof: JobProof, letter: Letter) -> None:
    """That a task that was skipped left nothing."""
    main = letter.fingerprint.get("output")
    if letter.skipped and main is not None and disk.stands(proof.folder.artifact(main)):
        path = artifact_place(main)
        if path not in proof.reported:
            proof.altered(path, f"stands there, and {letter.task} was skipped")


def _check_fingerprint(
    proof: JobProof, letter: Letter, letters: Mapping[str, Letter], documents: dict[str, Any]
) -> None:
    """What the letter says that its task read, against what is in the job. `documents` are the
    job's files that were read already."""
    differing: dict[str, list[str]] = {}
    inputs = own_inputs(proof.folder)
    for dependency, digest in letter.fingerprint.items():
        kind, _, rest = dependency.partition(":")
        if kind == "file" and digest != jsonio.ABSENT:
            proof.config_files[rest] = proof.evidence.file(rest, digest)
        read = _value_read(kind, rest, letters, inputs)
        if read is None:
            continue
        path, pointer = read
        if path not in documents:
            is_input = kind.startswith("input")
            read_document = own_document if is_input else _json
            is_absent = kind == "artifact" and letters[rest.partition(":")[0]].skipped
            documents[path] = MISSING if is_absent else read_document(proof.folder, path)
        if digest != read_digest(kind, documents[path], pointer):
            differing.setdefault(path, []).append(pointer or "/")
    for path, pointers in differing.items():
        where = ", ".join(pointers)
        if path in proof.vouched:
            # `accept` takes the seed, or an edited artifact, for the tasks it is given only.
            proof.note(f"{letter.task} was made from another {path}: {where}")
        elif path not in proof.reported:
            proof.altered(path, f"is not what {letter.task} was made from: {where}")


def _json(folder: JobFolder, path: str) -> Any:
    return read_json(folder.path / path)


def _value_read(
    kind: str, rest: str, letters: Mapping[str, Letter], inputs: Mapping[str, str]
) -> tuple[str, str] | None:
    """The file and the pointer of a value that a task read; None for a dependency of another kind,
    or an artifact whose letter is gone, which is reported already."""
    document = kind.partition("-")[0]
    if document == "seed":
        return "seed.json", rest
    if document == "input":
        name, _, pointer = rest.partition(":")
        return (inputs[name], pointer) if name in inputs else None
    if document != "artifact":
        return None
    upstream, _, pointer = rest.partition(":")
    above = letters.get(upstream)
    if above is None:
        return None
    return artifact_place(f"{above.fingerprint.get('output')}"), pointer


def sum_up(proof: JobProof) -> None:
    """Report the answers and the configuration files that are altered or not here."""
    evidence = proof.evidence
    objects = f"{evidence.root.show(evidence.root.private)}/objects"
    for digest, right in proof.answers.items():
        if right is False:
            path = evidence.root.show(evidence.answer_path(digest))
            proof.add(ProofFinding(path, "the stored answer was altered"))
    _note_unknown(proof, proof.answers, "answers not in the store")
    for path, right in proof.config_files.items():
        if right is False:
            proof.add(ProofFinding(objects, f"the copy of {path} was altered"))
    _note_unknown(proof, proof.config_files, "configuration files not kept here")


def _note_unknown(proof: JobProof, checked: Mapping[str, bool | None], what: str) -> None:
    unknown = sum(right is None for right in checked.values())
    if unknown:
        proof.note(f"{unknown} of {len(checked)} {what}")
