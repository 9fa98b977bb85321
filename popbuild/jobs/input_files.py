"""The files of seeds on disk: which one answers for a name, its digest and its text, and the copies
that stand in a job's directory as `inputs/<name>.<ext>`.

A file goes with the seed that answers for its job. A seed under seeds/ names files of the root; one
in pending/ may have its own beside it, in `pending/<id>-inputs/`; a job's own copy of its seed
means the job's own copies of its files.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from popbuild.base import copies, disk, jsonio, paths, tree
from popbuild.base.errors import InputError
from popbuild.base.paths import COMPLETE, CURRENT, PENDING, REJECTED, JobFolder, Root
from popbuild.base.read_notes import look_of, note_read
from popbuild.jobs.extraction import EXTRACTED, Extraction, extract, read_extraction
from popbuild.jobs.records import read_json
from popbuild.jobs.seed_files import BadSeed
from popbuild.model.input_file import (
    MAX_INPUT_BYTES,
    BadInput,
    document_of,
    input_name,
    input_place,
    is_document,
    may_be_backed_up,
    media_type,
    named_inputs,
)
from popbuild.model.problem import MISSING, Problem, pointer_of, value_at, value_read

_MAX_DOCUMENTS = 16  # that a command keeps in memory


@dataclass(frozen=True)
class InputFile:
    """A file of a seed as it was when it was looked at. `source` is its path in the seed, `place`
    where it was read, below the root."""

    name: str
    source: str
    place: str
    digest: str
    size_bytes: int
    reader: InputReader = field(repr=False, compare=False)
    extraction: Extraction | None = field(default=None, repr=False)

    @property
    def document(self) -> dict[str, Any]:
        """What it holds, as far as it was extracted. Raises InputError where it has changed
        since."""
        more = {} if self.extraction is None else self.extraction.document
        return {**self.reader.document(self), **more}

    @property
    def is_unread(self) -> bool:
        """Whether its text is not known: nothing was extracted from it yet."""
        return self.extraction is None and is_document(self.source)

    def value(self, pointer: str) -> Any:
        return value_at(self.document, pointer)


InputFiles = Mapping[str, InputFile]


class InputReader:
    """Reads the files of seeds, each once a command: jobs may share one."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}  # a path's stat and digest
        self._documents: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self.extracted: dict[str, Extraction] = {}  # by this command, by digest

    def find(self, job: str, seed: Any, seed_place: str) -> dict[str, InputFile]:
        """The files of a job's seed, which was read from this place. Raises BadSeed, which names
        each file that cannot be used."""
        found, problems = {}, []
        for name, source in named_inputs(seed).items():
            places = _places(self._root, job, name, source, seed_place)
            there = (each for each in places if disk.stands(self._root.at(each)))
            place = next(there, places[-1])
            try:
                file = self.look(name, source, place)
                found[name] = self._as_extracted(job, file) if is_document(source) else file
            except InputError as error:
                said = f"{place}: {error.as_line()}"
                problems.append(Problem(said, pointer_of(["files", name])))
        if problems:
            raise BadSeed(seed_place, tuple(problems))
        return found

    def _as_extracted(self, job: str, file: InputFile) -> InputFile:
        """A document with its text: as this command extracted it, or as a build of the job did."""
        known = self.extracted.get(file.digest)
        own = input_place(file.name, file.source) + EXTRACTED
        for state in (CURRENT, COMPLETE, REJECTED):
            if known is None:
                place = f"{self._root.job_place(state, job)}/{own}"
                known = read_extraction(self._root.at(place), file.digest)
        return replace(file, extraction=known)

    def extract(self, files: InputFiles) -> dict[str, InputFile]:
        """These files with their texts, extracted where they are not known, which `find` knows from
        now on. Blocks meanwhile. Raises BadSeed, which names each that cannot be read."""
        problems = []
        for name, file in files.items():
            if file.is_unread and file.digest not in self.extracted:
                kind = media_type(file.source)
                try:
                    self.extracted[file.digest] = extract(
                        self._root.path / file.place, file.digest, kind
                    )
                except InputError as error:
                    said = f"{file.place}: {error.as_line()}"
                    problems.append(Problem(said, pointer_of(["files", name])))
        if problems:
            raise BadSeed("the seed", tuple(problems))
        return {
            name: replace(file, extraction=self.extracted[file.digest]) if file.is_unread else file
            for name, file in files.items()
        }

    def look(self, name: str, source: str, place: str) -> InputFile:
        """A file at a place below the root. InputError where it cannot be used."""
        path = self._root.at(place)
        link = tree.link_on_the_way(str(self._root.path), place)
        if link is not None:
            raise InputError("below a symbolic link", {"found": link}, _NO_LINKS)
        try:
            status = os.lstat(path)
            known = self._known.get(path)
            if known is not None and known[0] == look_of(status):
                note_read(path, status)
                return InputFile(name, source, place, known[1], status.st_size, self)
            data = disk.read(path, max_bytes=MAX_INPUT_BYTES)
        except FileNotFoundError:
            raise InputError("there is no such file") from None
        except OSError as error:
            raise InputError("cannot be read", {"found": error.strerror or error}) from None
        digest = self._keep(data, input_place(name, source))
        self._known[path] = look_of(status), digest
        return InputFile(name, source, place, digest, len(data), self)

    def document(self, file: InputFile) -> dict[str, Any]:
        """What a file holds. InputError where it is not what it was."""
        own = input_place(file.name, file.source)
        known = self._documents.get((file.digest, own))
        if known is None:
            data = disk.read(self._root.at(file.place), max_bytes=MAX_INPUT_BYTES)
            if self._keep(data, own) != file.digest:
                raise InputError(
                    "a file was changed while its job was looked at",
                    {"file": file.place},
                    hint="run the command again",
                )
            known = self._documents[file.digest, own]
        return known

    def _keep(self, data: bytes, own: str) -> str:
        try:
            document = document_of(data, own)
        except BadInput as bad:
            raise InputError(str(bad)) from None
        digest: str = document["digest"]
        self._documents[digest, own] = document
        while len(self._documents) > _MAX_DOCUMENTS:
            self._documents.popitem(last=False)
        return digest


_NO_LINKS = "put a file in its place; popbuild follows no links"


def _places(root: Root, job: str, name: str, source: str, seed_place: str) -> tuple[str, ...]:
    """Where a file may stand, the first first, by where the seed was read."""
    if seed_place == paths.seed_place(job) or not seed_place.startswith("pipeline-data/"):
        return (source,)  # of a row, too
    folder, _, file = seed_place.rpartition("/")
    if file == paths.SEED:
        return (f"{folder}/{input_place(name, source)}",)
    # It waits, or was claimed a moment ago.
    return (f"{root.pending_inputs_place(job)}/{input_name(name, source)}", source)


def named_by_seeds(root: Root) -> set[str]:
    """The files of the root that seeds name, for a backup."""
    seeds = [*root.seeds.glob("*.json"), *(root.data / PENDING).glob("*-seed.json")]
    named = {each for seed in seeds for each in named_inputs(read_json(seed)).values()}
    return set(filter(may_be_backed_up, named))


# A job's own copies.


def own_inputs(folder: JobFolder) -> dict[str, str]:
    """The files of a job's own copy of its seed: the place of each in its directory, by name."""
    files = named_inputs(read_json(folder.seed))
    return {name: input_place(name, source) for name, source in files.items()}


def own_value(folder: JobFolder, name: str, pointer: str) -> Any:
    """A value of a job's own copy of a file, or MISSING."""
    place = own_inputs(folder).get(name)
    return MISSING if place is None else value_read(own_document(folder, place), pointer)


def own_document(folder: JobFolder, place: str) -> Any:
    """A job's own copy of a file as a document; None where it cannot be read."""
    try:
        document = document_of(disk.read(folder.at(place), max_bytes=MAX_INPUT_BYTES), place)
    except (OSError, InputError, BadInput):
        return None
    known = read_extraction(folder.at(place + EXTRACTED), document["digest"])
    return {**document, **known.document} if known is not None else document


def own_places(folder: JobFolder) -> list[str]:
    """Every file that a job's own copy of its seed lets it have in `inputs/`."""
    return [each for place in own_inputs(folder).values() for each in (place, place + EXTRACTED)]


def places_in_job(files: InputFiles) -> tuple[str, ...]:
    """Where these files stand in their job, and what was extracted from them."""
    own = [(input_place(each.name, each.source), each.extraction) for each in files.values()]
    texts = [place + EXTRACTED for place, text in own if text is not None]
    return (*(place for place, _ in own), *texts)


def differing_inputs(folder: JobFolder, files: InputFiles) -> list[str]:
    """The places in a job's directory where its own copies are not these files, or what was
    extracted from them: those to be written, and those that its seed named and this one does
    not."""
    wanted = {input_place(file.name, file.source): file for file in files.values()}
    differing = [place for place, file in wanted.items() if not _holds(folder, place, file)]
    texts = {
        place + EXTRACTED: file.extraction for place, file in wanted.items() if file.extraction
    }
    for place, text in texts.items():
        own = read_extraction(folder.at(place), text.digest)
        if own is None or own.body["digest"] != text.body["digest"]:
            differing.append(place)
    kept = wanted.keys() | texts.keys()
    gone = [e for e in own_places(folder) if e not in kept and disk.stands(folder.at(e))]
    return differing + gone


def _holds(folder: JobFolder, place: str, file: InputFile) -> bool:
    try:
        data = disk.read(folder.at(place), max_bytes=MAX_INPUT_BYTES)
    except (OSError, InputError):
        return False
    return len(data) == file.size_bytes and jsonio.digest_bytes(data) == file.digest


def put_inputs(root: Root, folder: JobFolder, files: InputFiles) -> dict[str, InputFile]:
    """Copy files into a job's directory, durably; gives them as they stand there, where a file that
    was changed meanwhile has another digest. Raises InputError where one cannot be used any more.
    What its last seed named, and this one does not, is removed."""
    differing = differing_inputs(folder, files)
    found = {}
    for name, file in files.items():
        place = input_place(name, file.source)
        own = f"{root.show(folder.path)}/{place}"
        if place not in differing:
            found[name] = replace(file, place=own)
            continue
        disk.make_folder(folder.inputs)
        try:
            copies.put_copy(root.path / file.place, folder.path / place, max_bytes=MAX_INPUT_BYTES)
            copy = file.reader.look(name, file.source, own)
            same = copy.digest == file.digest
            found[name] = replace(copy, extraction=file.extraction if same else None)
        except FileNotFoundError:
            raise InputError(
                "a file of the seed is not there any more", {"file": file.place}
            ) from None
        except InputError as error:
            error.values.setdefault("file", file.place)
            raise
        differing.remove(place)
    for file in found.values():
        text = input_place(file.name, file.source) + EXTRACTED
        if file.extraction is not None and text in differing:
            disk.write(folder.path / text, jsonio.dumps(file.extraction.body, sort=False))
            differing.remove(text)
    for place in differing:
        tree.remove(folder.path / place)
    if disk.is_folder(folder.inputs):
        disk.sync_folder(folder.inputs)
        disk.sync_folder(folder.path)
        if not any(folder.inputs.iterdir()):
            tree.remove(folder.inputs)
    return found
