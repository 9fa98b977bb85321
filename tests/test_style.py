"""How the code is laid out, held by tests: import direction, sole importers, words, docs."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.machinery
import importlib.util
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from popbuild.cli.main import COMMAND_NAMES

CHECKOUT = Path(__file__).parent.parent
PACKAGE = CHECKOUT / "popbuild"
SOURCES = sorted(PACKAGE.rglob("*.py"))
DOCS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


@functools.cache
def layers() -> list[str]:
    """The names of docs/design.md's table "Where things are", in order."""
    text = (CHECKOUT / "docs/design.md").read_text()
    table = text.split("## Where things are")[1].split("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [
        name.rstrip("/").removesuffix(".py") for row in rows for name in re.findall("`(.+?)`", row)
    ]


def module_of(path: Path) -> str:
    relative = path.relative_to(CHECKOUT).with_suffix("")
    return ".".join(relative.parts).removesuffix(".__init__")


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file, the module first. Several tests look at each."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever the statement stands, types aside or not."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def test_the_table_names_every_room() -> None:
    """docs/design.md lists each room and file at the top of the package, and nothing else."""
    names = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if path.name not in ("__init__.py", "__pycache__")
        if path.suffix == ".py" or path.is_dir()
    }
    assert sorted(layers()) == sorted(names)


def test_the_page_names_every_file() -> None:
    """docs/design.md says what stands in each room: every module by its name."""
    text = (CHECKOUT / "docs/design.md").read_text()
    listed = text.split("What stands in them:")[1].split("\n## ")[0]
    rooms = re.split(r"^- `(\w+)/`:", listed, flags=re.MULTILINE)[1:]
    said = dict(zip(rooms[::2], rooms[1::2], strict=True))
    plain = {"web", "cli"}  # many files of one kind
    for room in sorted(said.keys() - plain):
        names = set(re.findall(r"`(\w+)/?`", said[room]))
        files = {path.stem for path in (PACKAGE / room).rglob("*.py")} - {"__init__"}
        assert files <= names, f"{room}: {files - names}"


def room_of(module: str) -> str | None:
    """The room of a module of ours, as docs/design.md names it; None for all others."""
    top, *below = module.split(".")
    return below[0] if top == "popbuild" and below and below[0] in layers() else None


def test_a_room_imports_only_rooms_above_it() -> None:
    """Data flows one way; the order is docs/design.md's."""
    place = {room: number for number, room in enumerate(layers())}
    upward = [
        f"{module_of(path)} imports {name}"
        for path in SOURCES
        if (own := room_of(module_of(path))) is not None
        for name in imports(path)
        if (other := room_of(name)) is not None and place[other] > place[own]
    ]
    assert upward == []


def test_no_imports_go_in_a_circle() -> None:
    """Among modules, types and imports inside of functions included."""
    modules = {module_of(path): path for path in SOURCES}
    graph = {
        # What is imported from a package is the package only where it is no module of its own.
        name: {each for each in imports(path) & modules.keys() if not name.startswith(each)}
        for name, path in modules.items()
    }
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"in a circle: {error.args[1]}")


# An operation of the API bears the name of the verb that it calls: its ID in the OpenAPI document.
VERBS = {"popbuild.web.handlers"}
TYPE_VARIABLE = "T"


def public_names(path: Path) -> set[str]:
    """What a module defines for others: its functions, classes and constants."""
    names: set[str] = set()
    module = nodes_of(path)[0]
    assert isinstance(module, ast.Module)
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for each in targets if isinstance(each, ast.Name)}
    return {name for name in names if not name.startswith("_")} - {"TYPE_CHECKING", TYPE_VARIABLE}


def test_a_public_name_means_one_thing() -> None:
    """No two modules define the same public name, and no two have the same file name in a room."""
    owners: dict[str, list[str]] = {}
    for path in SOURCES:
        if module_of(path) not in VERBS:
            for name in public_names(path):
                owners.setdefault(name, []).append(module_of(path))
    assert {name: places for name, places in owners.items() if len(places) > 1} == {}


MOST_LINES, MOST_WITH_A_REASON, MOST_OF_A_FUNCTION = 300, 400, 45


def test_files_and_functions_are_short() -> None:
    """A file has at most 300 lines, or says in its docstring why it is over; a function has 45."""
    long = []
    for path in SOURCES:
        module, *nodes = nodes_of(path)
        assert isinstance(module, ast.Module)
        lines = len(path.read_text().splitlines())
        has_reason = "Over 300 lines" in (ast.get_docstring(module) or "")
        if lines > (MOST_WITH_A_REASON if has_reason else MOST_LINES):
            long.append(f"{module_of(path)}: {lines} lines")
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= MOST_OF_A_FUNCTION:
                    long.append(f"{module_of(path)}.{node.name}")
    assert long == []


IMPORTERS = {
    "litellm": {"popbuild.llm.client"},
    "fsspec": {"popbuild.upkeep.remote"},
    "pyrage": {"popbuild.upkeep.archive.age"},
    "backports": {"popbuild.upkeep.archive.tarball"},
    "distributed": {"popbuild.build.dask"},
    "watchfiles": {"popbuild.base.file_events"},
    "kreuzberg": {"popbuild.jobs.extract_child"},
    "python_calamine": {"popbuild.jobs.workbook_child"},
    "arro3": {"popbuild.jobs.parquet_child"},
    "xllamacpp": {"popbuild.llm.embedded"},
    # Prompts are rendered in a sandbox of their own, rows in another, pages from our templates.
    "jinja2": {
        "popbuild.jobs.row_templates",
        "popbuild.task.templates.expressions",
        "popbuild.task.templates.render",
        "popbuild.task.templates.sandbox",
        "popbuild.task.templates.syntax",
        "popbuild.task.user_filters",
        "popbuild.web.pages.html",
    },
    "markdown_it": {"popbuild.web.pages.html"},
    "starlette": {"popbuild.web.app", "popbuild.web.guard"},
    "uvicorn": {"popbuild.web.connections"},
    "yaml": {"popbuild.model.config.yamlio"},
    "jsonschema": {"popbuild.model.schema.validators"},
    "orjson": {"popbuild.base.jsonio"},
    "argparse": {"popbuild.base.arguments"},
    "subprocess": set(),
}


# Functions of these modules, and methods of paths and file objects, that change what is on disk.
CHANGING = {
    "os": set(
        "open replace rename renames unlink remove removedirs mkdir makedirs rmdir chmod chown "
        "link symlink truncate ftruncate utime write pwrite writev sendfile mknod mkfifo".split()
    ),
    "shutil": set("copy copy2 copyfile copyfileobj copymode copystat copytree move rmtree".split()),
    "tempfile": set(
        "TemporaryFile NamedTemporaryFile TemporaryDirectory SpooledTemporaryFile mkstemp "
        "mkdtemp".split()
    ),
}
OF_PATHS = set(
    "write_text write_bytes rename unlink mkdir rmdir touch chmod symlink_to hardlink_to".split()
)
# Modules outside of base that write all the same: what they call, and why.
WRITERS = {
    "popbuild.build.new_root": {
        "shutil.copytree": "`init` gives a person files of their own, with their permissions",
        "write_text": "the same",
    },
    "popbuild.cli.cmd_summary": {
        "touch": "the page of a CI run, which each step appends to; it may be a link or a pipe",
        "open": "the same",
    },
    "popbuild.web.builds": {
        "tempfile.TemporaryFile": "what a build prints, outside of the root and without a name",
    },
    "popbuild.web.handlers": {
        "tempfile.TemporaryDirectory": "an archive to be downloaded, outside of the root",
    },
    "popbuild.web.serve": {
        "chmod": "0700, whatever POPBUILD_FILE_MODE lets others read",
    },
}


def changes_disk(call: ast.Call) -> str | None:
    """What a call does to the disk, as WRITERS names it; None for one that only reads."""
    match call.func:
        case ast.Name("open") | ast.Attribute(_, "open"):
            if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "os":
                return "os.open"
            # Of a path, the mode comes first; of the function, behind the path.
            first = int(isinstance(call.func, ast.Name))
            given = [*call.args[first:], *(e.value for e in call.keywords if e.arg == "mode")]
            modes = [each.value for each in given if isinstance(each, ast.Constant)]
            return "open" if any(set(str(mode)) & set("wax+") for mode in modes) else None
        case ast.Attribute(ast.Name(module), name) if module in CHANGING:
            return f"{module}.{name}" if name in CHANGING[module] else None
        case ast.Attribute(ast.Name("disk" | "tree"), _):
            return None
        case ast.Attribute(_, name) if name in OF_PATHS:
            return name
        case ast.Attribute(_, "replace") if len(call.args) == 1 and not call.keywords:
            return "replace"  # of a text, it has two arguments
    return None


def writes(path: Path) -> set[str]:
    """Every way in which a module changes what is on disk."""
    nodes = nodes_of(path)
    called = {changes_disk(node) for node in nodes if isinstance(node, ast.Call)}
    taken = {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module in CHANGING
        for alias in node.names
        if alias.name in CHANGING[node.module]
    }
    return {each for each in called | taken if each is not None}


def test_base_alone_writes_files() -> None:
    """Files are made, replaced and removed by popbuild/base/, and by the few that WRITERS names."""
    outside = {module_of(path): writes(path) for path in SOURCES if path.parent.name != "base"}
    found = {module: names for module, names in outside.items() if names}
    assert found == {module: set(calls) for module, calls in WRITERS.items()}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('open(path, "w")', {"open"}),
        ('open(path, mode="r+b")', {"open"}),
        ('path.open("ab")', {"open"}),
        ('path.open("rb")', set()),
        ("path.open()", set()),
        ("os.open(path, flags)", {"os.open"}),
        ("path.write_text(text)", {"write_text"}),
        ("Path(name).write_bytes(b'')", {"write_bytes"}),
        ("os.replace(one, other)", {"os.replace"}),
        ("source.replace(target)", {"replace"}),
        ("text.replace('a', 'b')", set()),
        ("path.parent.mkdir()", {"mkdir"}),
        ("path.unlink(missing_ok=True)", {"unlink"}),
        ("shutil.rmtree(folder)", {"shutil.rmtree"}),
        ("shutil.get_terminal_size()", set()),
        ("from shutil import rmtree", {"shutil.rmtree"}),
        ("tempfile.mkstemp()", {"tempfile.mkstemp"}),
        ("disk.write(path, data)", set()),
        ("tree.rename(one, other)", set()),
    ],
)
def test_what_counts_as_writing(line: str, found: set[str], tmp_path: Path) -> None:
    """The test above sees each way to change a file, and takes no reading for one."""
    source = tmp_path / "module.py"
    source.write_text(line + "\n")
    assert writes(source) == found


@pytest.mark.parametrize("library", IMPORTERS)
def test_each_library_has_one_importer(library: str) -> None:
    """A library is known to one file, so that it can be replaced there."""
    found = {
        module_of(path)
        for path in SOURCES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert found == IMPORTERS[library]


def test_only_the_engine_knows_doit() -> None:
    """doit is imported under popbuild/build/ alone."""
    for path in SOURCES:
        if any(name.split(".")[0] == "doit" for name in imports(path)):
            assert path.parent == PACKAGE / "build", path


def test_no_dead_file() -> None:
    """Each module is imported by another, named by pyproject.toml or dodo.py, or a command."""
    used = set().union(*(imports(path) for path in SOURCES))
    used |= {f"popbuild.cli.cmd_{name}" for name in COMMAND_NAMES}
    text = (CHECKOUT / "pyproject.toml").read_text() + (CHECKOUT / "dodo.py").read_text()
    dead = [
        module_of(path)
        for path in SOURCES
        if path.name not in ("__init__.py", "__main__.py")
        and module_of(path) not in used | set(re.findall(r"[\w.]+", text))
    ]
    assert dead == []


def test_every_test_is_found(pytestconfig: pytest.Config) -> None:
    """pytest passes over folders of some names, `build` among them, unless it is told its own."""
    folders = {path.parent.name for path in (CHECKOUT / "tests").rglob("test_*.py")}
    assert "build" in folders
    passed_over = pytestconfig.getini("norecursedirs")
    assert [name for name in folders if any(fnmatch(name, each) for each in passed_over)] == []


def test_dodo_is_short() -> None:
    """dodo.py hands doit the task creators and stays under 30 lines."""
    assert len((CHECKOUT / "dodo.py").read_text().splitlines()) < 30


BANNED = re.compile(r"\b(dirty|outdated|workflow|manifest|workspace)\b", re.IGNORECASE)


def test_one_word_for_one_thing() -> None:
    """The glossary's words, and not their synonyms."""
    read = (path for path in (*SOURCES, *DOCS) if path.name != "glossary.md")
    found = {path: words for path in read if (words := BANNED.findall(path.read_text()))}
    assert found == {}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse lays out help differently")
def test_docs_cli_is_what_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/cli.md and the lists of docs/api.md are what tools/docs writes: they cannot drift."""
    monkeypatch.setenv("COLUMNS", "80")
    loader = importlib.machinery.SourceFileLoader("tools_docs", str(CHECKOUT / "tools/docs"))
    spec = importlib.util.spec_from_loader("tools_docs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert (CHECKOUT / "docs/cli.md").read_text() == module.page()
    assert (CHECKOUT / "docs/api.md").read_text() == module.api_page()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link in the docs names a file that is there."""
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_exit_codes_are_the_documented_ones() -> None:
    """The table in docs/design.md has exactly the codes of errors.py."""
    from popbuild.base import errors

    text = (CHECKOUT / "docs/design.md").read_text().split("## Exit codes")[1].split("##")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    codes = {name: value for name, value in vars(errors).items() if name.isupper()}
    assert documented == {value for name, value in codes.items() if not name.startswith("_")}


def test_every_stage_is_documented() -> None:
    """docs/tasks.md has a row for each of the eleven stages with its function."""
    from popbuild.model.stage_names import FUNCTIONS, STAGES

    text = (CHECKOUT / "docs/tasks.md").read_text()
    for stage in STAGES:
        assert f"| `{stage}` | `{FUNCTIONS[stage]}` |" in text
