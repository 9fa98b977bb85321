"""The wheel: everything that popbuild needs is in it, and it works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from workspace import CHECKOUT, Workspace

from popbuild.model.schema import schemas

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the wheel's content, metadata included, as an installer would leave it."""
    target = wheel.parent / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    return target


def test_the_wheel_works_outside_the_checkout(tmp_path: Path, installed: Path) -> None:
    """Installed from the wheel, popbuild makes a root, validates it and lists its jobs: schemas
    and demo are inside."""
    program = (
        "import sys, popbuild.cli.main, popbuild.model.schema.schemas;"
        "print(popbuild.model.schema.schemas.folder(), file=sys.stderr);"
        "sys.exit(popbuild.cli.main.main(sys.argv[1:]))"
    )
    with Workspace(tmp_path) as workspace:
        here = {"env": {"PYTHONPATH": str(installed)}, "cwd": workspace.home}
        made = workspace.run("python", "-c", program, "init", "project", **here)
        assert made.code == 0, made.err
        assert str(installed / "popbuild/_schemas") in made.err
        here["cwd"] = workspace.home / "project"
        checked = workspace.run("python", "-c", program, "validate", **here)
        assert (checked.code, "all valid" in checked.out) == (0, True), checked.out + checked.err
        listed = workspace.run("python", "-c", program, "list", **here)
        assert "market-analysis" in listed.out


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """Schemas, the demo, templates and the licence; no bytecode, no tests, no data of a run."""
    names = zipfile.ZipFile(wheel).namelist()
    for kind in schemas.STORAGE_FORMATS:
        assert f"popbuild/_schemas/{kind}.schema.json" in names
    assert "popbuild/_demo/pipeline-config/pipeline.json" in names
    assert "popbuild/py.typed" in names
    for page in ("templates/report.html", "templates/panels/graph.html", "static/popbuild.css"):
        assert f"popbuild/web/pages/{page}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    wrong = ("__pycache__", "tests/", "pipeline-data", ".popbuild/")
    assert [name for name in names if any(each in name for each in wrong)] == []
