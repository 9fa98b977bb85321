"""The API against its own OpenAPI document: schemathesis asks whatever the document allows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import commands
import pytest
from served import serve
from workspace import Workspace

pytestmark = pytest.mark.slow

EXAMPLES = os.environ.get("POPBUILD_TEST_EXAMPLES", "3")  # for each operation


def test_the_document_names_every_route(workspace: Workspace) -> None:
    """Whatever the document names is answered, and it is valid against itself."""
    with serve(workspace) as served:
        document = served.get("/api/v1/openapi.json").json
    assert document["openapi"].startswith("3.1")
    used: set[str] = set()
    _references(document, used)
    assert all(each["type"] == "array" for each in _with_items(document))
    assert used == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(value: Any, found: set[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            found.add(value["$ref"])
        for each in value.values():
            _references(each, found)
    elif isinstance(value, list):
        for each in value:
            _references(each, found)


def _with_items(value: Any) -> Iterator[dict[str, Any]]:
    """The schemas that say what items are: without a type, anything else would do as well."""
    if isinstance(value, dict):
        if "items" in value and "properties" not in value:
            yield value
        for each in value.values():
            yield from _with_items(each)
    elif isinstance(value, list):
        for each in value:
            yield from _with_items(each)


@pytest.mark.thorough
@pytest.mark.parametrize(("phase", "job"), [("coverage", None), ("fuzzing", "first")])
def test_schemathesis(workspace: Workspace, phase: str, job: str | None) -> None:
    """No answer is a server's error, and each has the status, the kind and the shape that the
    document promises, whatever is asked; of jobs that there are not, and of one that there is."""
    assert workspace.popbuild("run", "first").code == 0
    workspace.write("schemathesis.toml", f'parameters = {{ job = "{job}" }}' if job else "")
    with serve(workspace) as served:
        address = f"http://{served.host}/api/v1/openapi.json"
        argv = (
            *("python", "-c", RUN, "--config-file", "schemathesis.toml", "run", address),
            *(
                "--url",
                f"http://{served.host}",
                "--header",
                f"Authorization: Bearer {served.token}",
            ),
            *("--phases", phase, "--max-examples", EXAMPLES, "--request-timeout", "30"),
            *("--checks", CHECKS, "--suppress-health-check", "all", "--generation-deterministic"),
            # It ends only with the server; test_serve follows it.
            *("--exclude-path", "/api/v1/events", "--no-color", "--continue-on-failure"),
        )
        ended = commands.run(argv, cwd=workspace.root, env=workspace.environment(), real=True)
        assert served.get("/api/v1/jobs/first").status == 200  # it still stands
    assert ended.code == 0, ended.out[-6_000:] + ended.err[-2_000:]


RUN = "from schemathesis.cli import schemathesis; schemathesis(prog_name='schemathesis')"
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "ignored_auth",
        "unsupported_method",
    ]
)
