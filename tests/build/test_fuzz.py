"""What strangers write, read strictly: a value or one of our errors, within bounds, whatever it is.

The readers and what each promises are in readers.py; `tools/fuzz` gives them millions of inputs.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from provider import Provider
from readers import READERS
from workspace import Workspace

from popbuild.base import jsonio, paths
from popbuild.base.errors import InputError
from popbuild.model.config import yamlio
from popbuild.model.schema import gate, schemas

# A number here tries that many examples, other ones each time; without it, the same few.
EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES")
fuzzed = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=EXAMPLES is None,
    suppress_health_check=list(HealthCheck),
)

# --- what readers are given: mostly nearly right, so that they get past the first check ---

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**300, 10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["\ud800", "x" * 70, "../x", "con", "a\0b", "sk-" + "a" * 20]),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.text(max_size=4), below, max_size=4)
    ),
    max_leaves=12,
)


def spoiled(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Texts as bytes; some with a piece replaced, or doubled, or cut off."""

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        data = draw(texts).encode("utf-8", "surrogatepass")
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(data)))
            to = draw(st.integers(at, min(len(data), at + 4)))
            data = data[:at] + draw(st.binary(max_size=4)) * draw(st.integers(1, 3)) + data[to:]
        return data

    return draw()


JSON = DOCUMENTS.map(lambda value: json.dumps(value, ensure_ascii=False))
TAGS = "!!int !!float !!bool !!null !!str !!seq !!map !!set !!omap !!pairs !!binary".split()
YAML_PARTS = st.sampled_from(
    ["a: ", "b: ", "- ", "\n", "  ", "? ", ": ", "|\n", ">-\n", "'", '"', "{", "}", "[", "]", ", "]
    + [f"{tag} " for tag in [*TAGS, "!!timestamp", "!!value", "!!merge", "!x"]]
    + ["&a ", "*a", "<<: ", "=", "~", "1_0", "0x_", ".inf", "1:30", "2024-99-99", "---\n", "%YAML"]
    + ["tasks", "needs", "model", "x", "1", "true", "''", "\N{NEXT LINE}", "\t", "#"]
)
YAML = st.lists(YAML_PARTS, max_size=14).map("".join)

PATTERNS = ["^a$", "[[:x:]]", "(a|a)*$", "$*", r"\p{L}", "(?P<a>x)", "[a", "a{2,1}", "(?i)a"]
REFERENCES = ["#", "#/$defs/a", "b.json", "b.json#/0", "#/allOf/x", "http://[", "#/title", "#z"]
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["string", "number", "object", ["array", "null"], "x"]),
    "pattern": st.sampled_from(PATTERNS),
    "multipleOf": st.sampled_from([0.1, 2, 10**320, 1e-300]),
    "minimum": st.sampled_from([1, 1.5, 10**320]),
    "enum": st.lists(DOCUMENTS, max_size=2),
    "const": DOCUMENTS,
    "title": st.sampled_from(["t", 5]),
    "required": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    "uniqueItems": st.booleans(),
    "$ref": st.sampled_from(REFERENCES),
    "$dynamicRef": st.sampled_from(REFERENCES),
    "$id": st.sampled_from(["x", "http://[", "b.json", "urn:x", "#a"]),
    "$anchor": st.sampled_from(["z", "1"]),
    "$schema": st.sampled_from(["https://json-schema.org/draft/2020-12/schema", "http://x"]),
    "minContains": st.integers(0, 2),
}


def _larger(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from(["a", "b", *PATTERNS]), below, max_size=2)
    several = st.lists(below, max_size=3)
    more: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(
        ["items", "not", "if", "then", "contains", "additionalProperties", "propertyNames"], below
    )
    more |= dict.fromkeys(["unevaluatedProperties", "unevaluatedItems"], below)
    more |= dict.fromkeys(["properties", "patternProperties", "$defs", "dependentSchemas"], named)
    more |= dict.fromkeys(["anyOf", "oneOf", "allOf", "prefixItems"], several)
    return st.fixed_dictionaries({}, optional={**KEYWORDS, **more}).map(
        lambda schema: {key: schema[key] for key in list(schema)[:5]}
    )


SCHEMAS = st.recursive(st.booleans(), _larger, max_leaves=5)
SCHEMA = st.tuples(SCHEMAS, st.one_of(DOCUMENTS, SCHEMAS)).map(
    lambda pair: "\n".join(map(json.dumps, pair))
)

VALUES = [
    "seed",
    "seed.data",
    "seed.data.list",
    "seed.data.object.items",
    "'x'",
    "5",
    "1.5",
    "nope",
]
FILTERS = (
    "length list upper join('-') round(9999,'ceil') tojson(indent=2) indent(9) sort first replace("
    "'x','yy') center(99) int float batch(2) map('upper') sum default('d') unique wordwrap(1)"
).split()
METHODS = (
    "items() keys() get('topic') __class__ format(seed) upper() center(9999999) to_bytes(9999999)"
    " join(seed) append(1) encode() zfill(99999999) split('')"
).split()


@st.composite
def expressions(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(VALUES))
    for _ in range(draw(st.integers(0, 3))):
        more = draw(st.sampled_from(["|", ".", " * ", " ~ ", " % ", " ** ", "["]))
        after = {"|": FILTERS, ".": METHODS, "[": ["0]", "'data']", "-9]"]}
        text += more + draw(st.sampled_from(after.get(more, VALUES)))
    return text


BLOCKS = st.sampled_from(
    "{% for i in |{% if |{% set x = |{% macro m() |{% include |{% extends |{% endfor %}|"
    "{% endif %}|{% endmacro %}|{{ m() }}|{{ x }}| %}|text\n".split("|")
)
TEMPLATE = st.lists(
    st.one_of(BLOCKS, expressions(), expressions().map(lambda each: f"{{{{ {each} }}}}")),
    max_size=8,
).map("".join)
FILES = st.sampled_from(
    [
        '{"name": "p", "version": "1", "tasks": ["a", {"id": "b", "name": "b", "config": {}}]}',
        '{"name": "p", "tasks": ["a"], "taskConfig": {"a": {"model": "m", "maxTokens": 5}}}',
        "research: ./research\nanalysis:\n  command: [python, x.py]\n",
        "needs: [a]\nmodel: openai/x\ngate:\n  refinements: 2\ntimeout: 5\n",
    ]
)
ENV = st.lists(st.sampled_from(["A", "=", "'", '"', "x", "\n", "${A}", "export ", "#", "\0", "\\"]))
NAMES = st.one_of(st.text(max_size=70), st.from_regex(r"[a-zA-Z0-9._-]{1,70}"), SCALARS.map(str))
LINES = st.lists(
    st.one_of(
        JSON,
        st.sampled_from(['{"event": "settled"}', '{"pipelineId": "x", "digest": NaN}', "[" * 9999]),
    ),
    max_size=3,
).map("\n".join)
PLACES = "a/b a/c a/../../b /etc/x a//b ./a pipeline-data/complete/x/seed.json".split()
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from([*PLACES, "x" * 90]),
        st.sampled_from(["", "{}", "y" * 600]),
        st.sampled_from("0000125xgL"),  # a file, links, a folder, long names
        st.sampled_from([0, 0, 0, 1, 511]),  # more bytes than it says
    ),
    max_size=3,
)


@st.composite
def archives(draw: st.DrawFn) -> str:
    """A tar file: what its contents name, mostly, in that order, mostly."""
    members = draw(MEMBERS)
    named = {place: jsonio.digest_bytes(data.encode()) for place, data, _, _ in members}
    body = {"formatVersion": 1, "kind": draw(st.sampled_from(["jobs", "root"])), "jobs": []}
    contents = json.dumps(body | {"files": named})
    ordered = sorted(members) if draw(st.booleans()) else members
    text = ""
    for place, data, kind, more in [("archive.json", contents, "0", 0), *ordered]:
        info = tarfile.TarInfo(place)
        info.size, info.type = len(data) + more, kind.encode()
        text += info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict").decode()
        text += data + "\0" * (-len(data) % 512)
    return text + "\0" * 1024


INPUTS: dict[str, st.SearchStrategy[str]] = {
    "json": JSON,
    "yaml": st.one_of(YAML, JSON),
    "schema": SCHEMA,
    "answer": st.one_of(JSON, JSON.map(lambda each: f"Here it is:\n```json\n{each}\n``` Done.")),
    "configuration": FILES,
    "template": TEMPLATE,
    "name": NAMES,
    "pointer": st.lists(st.sampled_from(["/", "~", "0", "1", "data", "list", "~1", ""])).map(
        "".join
    ),
    "environment": ENV.map("".join),
    "ours": LINES,
    "archive": archives(),
}


def drawn(name: str) -> Any:
    """A reader, given what hypothesis draws for it."""

    @fuzzed
    @given(spoiled(INPUTS[name]))
    def check(data: bytes) -> None:
        READERS[name](data)

    return check


def test_every_reader_is_given_something() -> None:
    """No reader without inputs that get past its first check."""
    assert sorted(INPUTS) == sorted(READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_a_value_or_one_of_our_errors(name: str) -> None:
    """Whatever the bytes are; what a reader promises besides stands in readers.py."""
    drawn(name)()


# What was found once, so that it is tried each time.
FOUND: dict[str, list[bytes]] = {
    "json": [b"1e999e9", b'{"a": 1, "a": 1.e5}', b"[NaN1-2]", b"-Infinity-"],
    "yaml": [
        *(f"a: !!{tag}".encode() for tag in ("int ''", "float ''", "bool x", "timestamp x")),
        b"a: !!omap [b: 1]",
        b"a: !!pairs [b: 1]",
        b"a: !!int 1:30",
        b"a: 0x_",
    ],
    "schema": [
        b'{"pattern": "[[:x:]]"}\n"a"',
        b'{"$ref": "#/allOf/x", "allOf": [{}]}\n1',
        b'{"$ref": "#/title", "title": "a"}\n1',
        b'{"$ref": "#/default", "default": {"type": 5}}\n1',
        b'{"$ref": "#/default", "default": {"$ref": "http://127.0.0.1:1/x"}}\n1',
        b'{"$ref": "#/default", "default": {"pattern": "[[:x:]]"}}\n"a"',
        b'{"anyOf": [{"type": "string"}, false]}\n1',
        b'{"oneOf": [true, true]}\n1',
        b'{"multipleOf": 0.1}\n1' + b"0" * 400,
    ],
    "environment": [b"A=\0"],
    "template": [
        b"{{ " + b"9" * 5_000 + b" }}",
        b"{% for a in [1] %}" * 30 + b"{% endfor %}" * 30,
        b"{% if 1 %}" * 200 + b"{% endif %}" * 200,
    ],
    "ours": [
        b"5",
        b"[" * 100_000,
        b'{"digest": NaN}',
        b'{"digest": "\\ud800"}',
        b'{"event": "settled"}',
    ],
}


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, several in FOUND.items() for data in several]
)
def test_what_was_found_once(name: str, data: bytes) -> None:
    """Each of these was another exception than ours, or a value that JSON has not."""
    READERS[name](data)


def test_yaml_leaves_what_json_has_not_as_it_was_written() -> None:
    """A time of day is no number of base sixty, and nine hours of work if it is long enough."""
    long = ":".join(["1"] * 200_000)
    value = yamlio.yaml_value(
        f"a: 12:30\nb: 2024-01-01\nc: [012, 0x1F, 1_0, -1.5, 1.0e+2]\nd: {long}\n".encode(), "file"
    )
    assert value == {
        "a": "12:30",
        "b": "2024-01-01",
        "c": [10, 31, 10, -1.5, 100.0],
        "d": long,
    }


def test_items_are_told_apart_in_no_time() -> None:
    """Each of many objects is looked at once, and not held against each other one."""
    unique = schemas.compile_schema({"uniqueItems": True}, "schema")
    items: list[Any] = [{"a": number} for number in range(50_000)]
    assert gate.judge(items, unique) == ()
    (problem,) = gate.judge([*items, {"a": 7.0}], unique)
    assert "item 50000 is item 7 again" in problem.message
    assert gate.judge([1, True, "1", [1], [True], {"a": 1}, {"a": True}, None, 0], unique) == ()


@pytest.mark.parametrize(
    ("number", "divisor", "is_one"),
    [
        (0.3, 0.1, True),
        (0.35, 0.1, False),
        (1e300, 1e-300, True),
        (10**400, 0.01, True),
        (10**400 + 1, 2, False),
        (0.5, 10**400, False),
        (True, 2, True),
        ("x", 2, True),
    ],
)
def test_a_multiple_is_one_as_it_is_written(number: object, divisor: float, is_one: bool) -> None:
    """In decimal, however large: no rounding says no, and no number is too large to be asked."""
    multiple = schemas.compile_schema({"multipleOf": divisor}, "schema")
    assert (gate.judge(number, multiple) == ()) is is_one


def test_a_million_problems_are_not_kept() -> None:
    """A document may be wrong in each of its places: a hundred are told, and memory is bounded."""
    strings = schemas.compile_schema({"items": {"type": "string"}}, "schema")
    tracemalloc.start()
    try:
        problems = gate.judge([1] * 1_000_000, strings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(problems) == gate.MAX_PROBLEMS + 1
    assert problems[-1].message == "and 9900 or more further problems"
    assert peak < 100_000_000


# --- the opening of paths ---


def test_no_name_leaves_its_folder(tmp_path: Path) -> None:
    """Every name with a part that leads elsewhere is refused, before anything is opened."""
    for name in ("..", ".", "a/b", "/etc/passwd", "a\0b", "", "..\\x", "a\n", "x" * 65, "nul.txt"):
        with pytest.raises(InputError):
            paths.check_file_name(name)


def elsewhere(workspace: Workspace) -> Path:
    """A folder outside of the job, with a file that must neither be read nor written."""
    folder = workspace.root.parent / "elsewhere"
    folder.mkdir()
    (folder / "research-output.json").write_text('{"content": "CANARY"}')
    return folder


LINKED = [
    ("complete", "files"),
    ("complete", "files/artifacts/research-output.json"),
    ("complete", "tasks/research"),
    ("current", "files/artifacts"),
]


@pytest.mark.parametrize(("state", "place"), LINKED)
def test_no_link_leaves_a_job(
    place: str, state: str, workspace: Workspace, provider: Provider
) -> None:
    """A job from elsewhere, with a link in it: refused by name, whatever is asked;
    nothing behind the link is read, sent or written."""
    assert workspace.popbuild("run").code == 0
    sent = len(provider.requests)
    job = workspace.job("first")
    if state == "current":
        workspace.job("first", "current").parent.mkdir(exist_ok=True)
        job = job.rename(workspace.job("first", "current"))
    behind = elsewhere(workspace)
    target = job / place
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    file = behind / "research-output.json"
    target.symlink_to(file if place.endswith(".json") else behind)
    workspace.seed("first", {"topic": "another one"})
    for command in ("list", "plan", "status"):
        result = workspace.popbuild(*command.split())
        assert result.code == 0, result
        assert f"bad link: pipeline-data/{state}/first/{place}" in result.out.replace("\n", "")
        assert "CANARY" not in result.out + result.err
    for command in ("run", "show first research-output.json", "retry first"):
        result = workspace.popbuild(*command.split())
        assert result.code == 3, result
        assert "holds a symbolic link" in result.err
        assert f"{state}/first/{place}" in result.err
        assert "CANARY" not in result.out + result.err
    assert len(provider.requests) == sent
    assert [each.name for each in behind.iterdir()] == ["research-output.json"]
    assert file.read_text() == '{"content": "CANARY"}'
    if state == "complete":
        assert workspace.popbuild("verify").code == 1


# Runs commands in one process, and names each that opens a file behind the link.
WATCHED = """
import contextlib, io, json, os, sys
from popbuild.cli.main import main
opened, said = [], {}
def hook(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(values[0]))
        if "/elsewhere" in path and os.path.isfile(path):
            opened.append(path)
sys.addaudithook(hook)
for line in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(out):
            code = main(line.split())
    said[line] = [code, out.getvalue(), opened[:]]
    opened.clear()
print(json.dumps(said))
"""
BEHIND = {
    "verify": (1, "is a symbolic link: nothing of the job was read"),
    "verify first": (1, "is a symbolic link: nothing of the job was read"),
    "trace first/research": (3, "a symbolic link"),
    "trace pipeline-data/complete/first/files/artifacts/research-output.json": (3, "symbolic link"),
    "trace ../exported.json": (3, "no result has this file"),
    "diff first": (3, "a symbolic link"),
    "validate": (1, "a symbolic link: nothing of the job was read"),
    "report first -o ../report.html": (0, "report.html"),
    "doctor": (0, "nothing to mend"),
    "restore ../job.tar.zst": (3, "a symbolic link"),
    "restore --force ../job.tar.zst": (3, "a symbolic link"),
    "archive first -o ../other.tar.zst": (3, "error: "),
    "backup -o ../root.tar.zst": (0, "left out pipeline-data/complete/first"),
}


@pytest.mark.parametrize("place", [".", "tasks", "files"])
def test_no_command_reads_behind_a_link(
    place: str, workspace: Workspace, provider: Provider
) -> None:
    """A link in a job's place, or in the job, to the very files that it had: refused or told of by
    whatever reads jobs, and no file behind it is opened."""
    for topic in ("wind", "sun"):
        workspace.seed("first", {"topic": topic})
        assert workspace.popbuild("run").code == 0
    assert workspace.popbuild("archive", "first", "-o", "../job.tar.zst").code == 0
    target = workspace.job("first") / place
    target.rename(workspace.root.parent / "elsewhere")
    target.symlink_to(workspace.root.parent / "elsewhere")
    (workspace.root.parent / "exported.json").write_text("{}")
    result = workspace.run("python", "-c", WATCHED, *BEHIND)
    assert result.code == 0, result
    for command, (code, out, opened) in json.loads(result.out).items():
        assert opened == [], command
        assert (code, BEHIND[command][1] in out) == (BEHIND[command][0], True), (command, out)
