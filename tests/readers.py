"""Every strict reader as one function of bytes, which fails where the reader breaks its promise.

The promise: a value, or one of our own errors that says what is wrong; never another exception, and
what was read is the same when it is written and read again. tests/build/test_fuzz.py gives them
what hypothesis draws, `tools/fuzz` what atheris finds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from backports import zstd

from popbuild.base import disk, jsonio, paths
from popbuild.base.errors import ConfigError, InputError, PopbuildError, TaskError
from popbuild.jobs import run_log
from popbuild.llm import ledger
from popbuild.llm.store import open_entry
from popbuild.model.config import config, yamlio
from popbuild.model.config.documents import parse_and_validate
from popbuild.model.letter import open_letter
from popbuild.model.problem import Problem, parts_of, pointer_of, value_at
from popbuild.model.schema import gate, schemas
from popbuild.model.schema.references import bundle
from popbuild.task.answer.document import NoDocument, parse_json, parse_text
from popbuild.task.answer.kinds import Kinds
from popbuild.task.read_trace import ReadTrace
from popbuild.task.reads import view
from popbuild.task.templates.render import Templates
from popbuild.upkeep.archive import tarball

READERS: dict[str, Callable[[bytes], None]] = {}
DIGEST = "sha256:" + "0" * 64
SEED = {
    "name": "x",
    "data": {"topic": "grid", "n": 5, "list": [1, "a", None], "object": {"items": 1}},
}


def reader(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    READERS[function.__name__.rstrip("_")] = function
    return function


@reader
def json_(data: bytes) -> None:
    """Strict JSON, and every way to write it."""
    try:
        value = jsonio.loads(data, "file")
    except InputError as error:
        told(error)
        return
    written_again(value)


@reader
def yaml(data: bytes) -> None:
    """Strict YAML gives only what JSON can say; each of its places has a line."""
    try:
        value = yamlio.yaml_value(data, "file")
    except ConfigError as error:
        told(error)
        return
    written_again(value)
    lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2")
    for pointer, _ in places(value) if value is not None else ():
        line = yamlio.yaml_line(data, pointer)
        assert line is None or 1 <= line <= lines + 1, (pointer, line)


@reader
def schema(data: bytes) -> None:
    """Two lines, a schema and a document: it can judge, or is refused before a call is paid for."""
    first, _, second = data.partition(b"\n")
    try:
        document, judged = jsonio.loads(first, "schema"), jsonio.loads(second, "document")
    except InputError:
        return
    documents = {"a.json": document, "b.json": judged}
    try:
        compiled, used = schemas.compile_task_schema("a.json", documents, "a.json")
        judging(compiled, judged)
        written_again(bundle("a.json", used, documents, "a.json"))
    except ConfigError as error:
        told(error)


@reader
def answer(data: bytes) -> None:
    """A model's answer: the document in it, or what the model can act on."""
    text = data.decode(errors="replace")
    for parse in (lambda each: parse_json(each, Kinds()), parse_text):
        with contextlib.suppress(NoDocument):
            written_again(parse(text).value)


@reader
def configuration(data: bytes) -> None:
    """Each file of the configuration, as JSON and as YAML."""
    for kind in ("pipeline", "registry", "task"):
        for ending in ("json", "yaml"):
            try:
                value = parse_and_validate(data, f"file.{ending}", kind)
            except ConfigError as error:
                told(error)
            else:
                written_again(value)


@reader
def template(data: bytes) -> None:
    """A template has a text, a bounded one, or says where it is wrong."""
    source = data.decode(errors="replace")
    templates = Templates(lambda path: source if path == "p.md" else None, {})
    trace = ReadTrace(templates.budget)
    variables = {"seed": view(SEED, "seed", "", trace), "config": {"model": "m"}, "cycle": 0}
    try:
        templates.check("p.md")
        text, _ = templates.render("p.md", variables, trace)
    except TaskError as error:
        told(error)
        return
    assert len(text) <= 4_000_000
    written_again(trace.dependencies())


@reader
def name(data: bytes) -> None:
    """A name that is let through is one plain file, wherever it is joined to a folder."""
    text = data.decode("utf-8", "surrogateescape")
    for check in (paths.check_file_name, lambda each: paths.check_name("job", each)):
        try:
            found = check(text)
        except InputError as error:
            told(error)
            continue
        assert found == text
        assert os.path.normpath(f"/jobs/{found}") == f"/jobs/{found}"
        assert Path("/root", found).parent == Path("/root")
        assert len(os.fsencode(found)) <= 64
        assert not found.startswith((".", "-"))


@reader
def pointer(data: bytes) -> None:
    """A JSON Pointer leads to a value or to nothing, and is the same when it is put together."""
    text = data.decode(errors="replace")
    try:
        parts = parts_of(text)
    except ValueError:
        assert text[0] != "/"
        return
    value_at(SEED, text)
    assert parts_of(pointer_of(list(parts))) == parts


@reader
def environment(data: bytes) -> None:
    """A root's `.env`: variables that a process can have, or what is wrong with the file."""
    with tempfile.TemporaryDirectory() as folder:
        root = paths.Root(Path(folder))
        root.environment_file.write_bytes(data)
        try:
            found = config.environment_of(root, {})
        except ConfigError as error:
            told(error)
            return
    for key, value in found.items():
        assert "\0" not in key + value
        assert key
        assert "=" not in key


@reader
def ours(data: bytes) -> None:
    """What only popbuild writes, damaged or made by another program: read as missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        ledger.read_entries(path)
        assert disk.read(path) == data
    open_entry(data, DIGEST)
    run_log.body_of(data)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        body |= {"formatVersion": 1, "task": "research"}
        open_letter(body, "research")
        run_log.is_whole(body)


@reader
def archive(data: bytes) -> None:
    """An archive, as it is and packed: just the files that its contents name, each with the digest
    that stands there, and each below the folder that it is written to."""
    for packed in (data, zstd.compress(data, 1)):
        named: dict[str, str] = {}
        found: dict[str, str] = {}

        def opened(contents: tarball.Contents, named: dict[str, str] = named) -> tarball.Sink:
            named.update(contents.files)
            return sink

        @contextlib.contextmanager
        def sink(place: str, found: dict[str, str] = found) -> Iterator[IO[bytes]]:
            file = io.BytesIO()
            yield file
            found[place] = jsonio.digest_bytes(file.getvalue())

        try:
            tarball.unpack(io.BytesIO(packed), "file", 1 << 20, opened)
        except InputError as error:
            told(error)
            continue
        assert found == named
        for place in found:
            assert os.path.normpath(f"/top/{place}") == f"/top/{place}"


def judging(compiled: schemas.Schema, document: Any) -> None:
    """A gate gives problems, each at a place of the document."""
    for problem in gate.judge(document, compiled):
        assert isinstance(problem, Problem)
        assert problem.message
        parts_of(problem.pointer)


def told(error: PopbuildError) -> None:
    """An error can be printed, as a text, a line and JSON, and is no novel."""
    for text in (str(error), error.as_line(), json.dumps(error.as_json())):
        assert text
        text.encode()
    assert error.message


def written_again(value: Any) -> None:
    """What was read is read again from what is written, down to the kinds of its numbers."""
    again = jsonio.loads(jsonio.dumps(value), "again", max_bytes=jsonio.MAX_OWN_BYTES)
    assert jsonio.compact(again) == jsonio.compact(value)
    assert jsonio.compact(jsonio.normal(value, "value")) == jsonio.compact(value)
    assert again == value
    assert jsonio.digest(again) == jsonio.digest(value)


def places(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Every place in a document with its value."""
    yield pointer, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, pointer + pointer_of([key]))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from places(each, f"{pointer}/{number}")
