"""The public JSON Schema test suite, against the gate: it agrees but for the table below.

The suite lies in the source distribution of jsonschema. pip gets that from the package registry, at
the version and by the hash of requirements.txt, once for each environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workspace import CHECKOUT

from popbuild.model.schema import dialects, gate, schemas

DRAFTS = {
    "draft4": "draft-04",
    "draft6": "draft-06",
    "draft7": "draft-07",
    "draft2019-09": "2019-09",
    "draft2020-12": "2020-12",
}
REMOTE = "localhost:1234"  # nothing is fetched: these tests are left out

# Where we disagree: drafts, file, what the test's name has in it, and why.
ASSERTED = "`format` is asserted in every draft"
NOT_A_KEYWORD = "no keyword any more: `validate` names it, and what replaced it"
CONTENT = "the gate judges the document, not what a string in it encodes"
DIFFERENT: list[tuple[str, str, str, str]] = [
    ("draft2020-12", "format.json", "is only an annotation by default", ASSERTED),
    ("draft2019-09 draft2020-12", "dependencies-compatibility.json", "", NOT_A_KEYWORD),
    ("draft7", "content.json", "", CONTENT),
]


@pytest.fixture(scope="session")
def suite() -> Path:
    """The source distribution of the locked jsonschema."""
    locked = re.search(
        r"^(jsonschema==\S+) ((?:\\\n +--hash=\S+ ?)+)", _requirements(), re.MULTILINE
    )
    assert locked is not None
    hashes = re.findall(r"sha256:(\w+)", locked[2])
    folder = Path(sys.prefix) / "test-suite"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # the workers of one run ask for it together
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = [path for path in folder.glob("*.tar.gz") if _digest(path) in hashes]
        if not found:
            (folder / "requirements.txt").write_text(locked[0])
            pip = f"{sys.executable} -m pip download --quiet --no-deps --no-build-isolation"
            words = [*pip.split(), "--no-binary", ":all:", "--require-hashes"]
            words += ["--dest", str(folder), "-r", str(folder / "requirements.txt")]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            found = [path for path in folder.glob("*.tar.gz") if _digest(path) in hashes]
    (path,) = found
    return path


def _requirements() -> str:
    return (CHECKOUT / "requirements.txt").read_text()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def groups(suite: Path, draft: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every group of tests of a draft, with the name of its file."""
    with tarfile.open(suite) as archive:
        for member in archive:
            inside = member.name.partition(f"/json/tests/{draft}/")[2]
            if inside.endswith(".json"):
                data = archive.extractfile(member)
                assert data is not None
                for group in json.load(data):
                    if REMOTE not in json.dumps(group["schema"]):
                        yield inside, group


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_gate_agrees_with_the_public_suite(suite: Path, draft: str) -> None:
    """All tests, the optional ones too; and each row of the table still says something."""
    (dialect,) = (each for each in dialects.DIALECTS if each.name == DRAFTS[draft])
    rows = [row for row in DIFFERENT if draft in row[0].split()]
    used, wrong, count = set(), [], 0
    for file, group in groups(suite, draft):
        schema = group["schema"]
        if isinstance(schema, dict):
            schema = {"$schema": dialect.uri, **schema}
        compiled = schemas.compile_schema(schema, file)
        for test in group["tests"]:
            count += 1
            if (gate.judge(test["data"], compiled) == ()) is test["valid"]:
                continue
            name = f"{group['description']}: {test['description']}"
            row = next((r for r in rows if file.endswith(r[1]) and r[2] in name), None)
            used.add(row)
            if row is None:
                wrong.append(f"{file}: {name}")
    assert wrong == []
    assert used == set(rows)
    assert count > 600


def test_the_table_is_documented() -> None:
    """The docs name each difference, with its reason."""
    text = (CHECKOUT / "docs/tasks.md").read_text()
    for _, file, _, why in DIFFERENT:
        (line,) = (each for each in text.splitlines() if f"`{file}`" in each)
        assert why in line
