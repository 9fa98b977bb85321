"""The API as a table, from which its routes, its OpenAPI document and its checks are made."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild import __version__
from popbuild.base.errors import InputError
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.web import handlers
from popbuild.web.api_schemas import JOB, QUERY, SHAPES, Shape, array, fields, ref
from popbuild.web.server import BYTES, JSON, Server, WebRequest

PREFIX = "/api/v1"
Verb = Callable[[Server, WebRequest], Any]  # or a coroutine function: see handlers.py


@dataclass(frozen=True)
class Operation:
    """One verb. `takes` names the schema of its body; `gives` is that of its answer, None where the
    answer is not JSON but of this `kind`."""

    method: str
    path: str
    verb: Verb
    says: str
    gives: Shape | None = None
    takes: str | None = None
    query: Mapping[str, Shape] = field(default_factory=dict)
    status: int = 200
    kind: str = JSON


_get = functools.partial(Operation, "GET")
_post = functools.partial(Operation, "POST")


def _start(path: str, verb: Verb, says: str, takes: str = "Nothing") -> Operation:
    """A verb that begins or ends a build, and answers before that is done."""
    return Operation("POST", path, verb, says, ref("Build"), takes, status=202)


OPERATIONS = (
    _get("/jobs", handlers.jobs, "Jobs, page by page", ref("Jobs"), query=QUERY),
    _post("/jobs", handlers.submit, "Submit a seed", fields("id text"), "Submission", status=201),
    _get("/jobs/{job}", handlers.job, "A job and its tasks", ref("Job")),
    _get("/jobs/{job}/files", handlers.files, "The files of a job", array(ref("File"))),
    _get("/jobs/{job}/files/{name:path}", handlers.file, "A file of a job", kind=BYTES),
    _get("/jobs/{job}/archive", handlers.download, "A job as popbuild archive has it", kind=BYTES),
    _get(
        "/jobs/{job}/explanation",
        handlers.explain,
        "Why tasks are stale, with the differences",
        array(ref("Explanation")),
    ),
    _get(
        "/jobs/{job}/difference", handlers.diff, "What the last rebuild changed", ref("Difference")
    ),
    _start("/jobs/{job}/retry", handlers.retry, "Build a rejected job with another sample"),
    _post(
        "/jobs/{job}/approve",
        handlers.approve,
        "Approve at a human gate",
        ref("Decided"),
        "Approval",
    ),
    _post(
        "/jobs/{job}/reject", handlers.reject, "Reject at a human gate", ref("Decided"), "Refusal"
    ),
    _post("/jobs/{job}/stop", handlers.stop, "Stop the build of a job", ref("Stopped"), "Nothing"),
    _post("/plan", handlers.plan, "What a build would do and cost", ref("Plan"), "Selection"),
    _get("/builds", handlers.builds, "Builds that this server started", array(ref("Build"))),
    _start("/builds", handlers.build, "Build jobs", "BuildOrder"),
    _get("/builds/{build}", handlers.one_build, "A build", ref("Build")),
    _start("/builds/{build}/stop", handlers.stop_build, "Stop a build; what was bought is kept"),
    _get("/pipelines", handlers.pipelines, "The pipelines", array(ref("Pipeline"))),
    _get(
        "/runs",
        handlers.all_runs,
        "The last promotions, the newest first",
        array(ref("Run")),
        query={"job": JOB},
    ),
    _get(
        "/events",
        handlers.events,
        "What happens, as server-sent events; Last-Event-ID resumes after one",
        query={"job": JOB},
        kind="text/event-stream",
    ),
)


@functools.cache
def _schema(name: str) -> schemas.Schema:
    document = {**SHAPES[name], "components": {"schemas": SHAPES}}
    return schemas.compile_schema(document, f"openapi.json#/components/schemas/{name}")


def check_body(operation: Operation, body: object) -> tuple[Problem, ...]:
    """What is wrong with what was sent to an operation."""
    return gate.judge(body, _schema(operation.takes)) if operation.takes else ()


def check_query(operation: Operation, query: Mapping[str, str]) -> None:
    """InputError for a parameter that the operation does not have."""
    for name in query:
        if name not in operation.query:
            values = {"parameter": name[:80], "known": ", ".join(operation.query) or "none"}
            raise InputError("no such parameter", values)


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of the whole API."""
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        path = PREFIX + each.path.replace(":path}", "}")
        paths.setdefault(path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "popbuild",
            "version": __version__,
            "description": "The verbs of the command line, over HTTP. Every request needs the "
            "token of this start of popbuild serve, as `Authorization: Bearer` or as its cookie.",
        },
        "paths": paths,
        "components": {
            "schemas": SHAPES,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(each: Operation) -> dict[str, Any]:
    in_path = re.findall(r"{(\w+)", each.path)
    parameters: list[Shape] = [
        {"name": name, "in": "path", "required": True, "schema": JOB} for name in in_path
    ]
    parameters += [
        {"name": name, "in": "query", "schema": shape} for name, shape in each.query.items()
    ]
    kind = "*/*" if each.kind == BYTES else each.kind
    wrong = {"description": "What is wrong", "content": {JSON: {"schema": ref("Error")}}}
    right = {"description": each.says, "content": {kind: {"schema": each.gives or {}}}}
    found: dict[str, Any] = {
        "operationId": each.verb.__name__,
        "summary": each.says,
        "responses": {str(each.status): right, "default": wrong},
    }
    if parameters:
        found["parameters"] = parameters
    if each.takes:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": ref(each.takes)}}}
    return found
