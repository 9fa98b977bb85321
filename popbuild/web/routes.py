"""The API as a table: its routes, its OpenAPI document and what is taken are all made from it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild import __version__
from popbuild.base.errors import InputError
from popbuild.model.problem import Problem
from popbuild.model.schema import gate, schemas
from popbuild.web import handlers
from popbuild.web.api_schemas import JOB, QUERY, SHAPES, TEXT, Shape, an_object, array, ref
from popbuild.web.server import BYTES, Server, WebRequest

PREFIX = "/api/v1"
Verb = Callable[[Server, WebRequest], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """One verb. `takes` names the shape of its body, `gives` that of its answer: None where that is
    no JSON but `kind`."""

    method: str
    path: str
    verb: Verb
    says: str
    gives: Shape | None = None
    takes: str | None = None
    query: Mapping[str, Shape] | None = None
    status: int = 200
    kind: str = "application/json"

    @property
    def name(self) -> str:
        return self.verb.__name__

    @property
    def path_names(self) -> list[str]:
        parts = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        return [part.partition(":")[0] for part in parts]


OPERATIONS = (
    Operation("GET", "/jobs", handlers.jobs, "Jobs, page by page", ref("Jobs"), query=QUERY),
    Operation(
        "POST",
        "/jobs",
        handlers.submit,
        "Submit a seed",
        an_object({"id": TEXT}),
        "Submission",
        status=201,
    ),
    Operation("GET", "/jobs/{job}", handlers.job, "A job and its tasks", ref("Job")),
    Operation("GET", "/jobs/{job}/files", handlers.files, "The files of a job", array(ref("File"))),
    Operation("GET", "/jobs/{job}/files/{name:path}", handlers.file, "A file of a job", kind=BYTES),
    Operation(
        "GET",
        "/jobs/{job}/archive",
        handlers.download,
        "A job as popbuild archive has it",
        kind=BYTES,
    ),
    Operation(
        "GET",
        "/jobs/{job}/explanation",
        handlers.explain,
        "Why tasks are stale, with the differences",
        array(ref("Explanation")),
    ),
    Operation(
        "GET",
        "/jobs/{job}/difference",
        handlers.diff,
        "What the last rebuild changed",
        ref("Difference"),
    ),
    Operation(
        "POST",
        "/jobs/{job}/retry",
        handlers.retry,
        "Build a rejected job with another sample",
        ref("Build"),
        "Nothing",
        status=202,
    ),
    Operation(
        "POST",
        "/jobs/{job}/approve",
        handlers.approve,
        "Say yes at a human gate",
        ref("Decided"),
        "Approval",
    ),
    Operation(
        "POST",
        "/jobs/{job}/reject",
        handlers.reject,
        "Say no at a human gate",
        ref("Decided"),
        "Refusal",
    ),
    Operation(
        "POST",
        "/jobs/{job}/stop",
        handlers.stop,
        "Ask whoever builds a job to stop",
        ref("Stopped"),
        "Nothing",
    ),
    Operation(
        "POST",
        "/plan",
        handlers.plan,
        "What a build would do and cost",
        ref("Plan"),
        "Selection",
    ),
    Operation(
        "GET", "/builds", handlers.builds, "Builds that this server started", array(ref("Build"))
    ),
    Operation(
        "POST",
        "/builds",
        handlers.build,
        "Build jobs",
        ref("Build"),
        "BuildOrder",
        status=202,
    ),
    Operation("GET", "/builds/{build}", handlers.one_build, "A build", ref("Build")),
    Operation(
        "POST",
        "/builds/{build}/stop",
        handlers.stop_build,
        "Stop a build; what was bought is kept",
        ref("Build"),
        "Nothing",
        status=202,
    ),
    Operation("GET", "/pipelines", handlers.pipelines, "The pipelines", array(ref("Pipeline"))),
    Operation(
        "GET",
        "/runs",
        handlers.all_runs,
        "The last promotions, the newest first",
        array(ref("Run")),
        query={"job": JOB},
    ),
    Operation(
        "GET",
        "/events",
        handlers.events,
        "What happens, as server-sent events; Last-Event-ID goes on behind one",
        query={"job": JOB},
        kind="text/event-stream",
    ),
)


@functools.cache
def _schema(name: str) -> schemas.Schema:
    document = {**SHAPES[name], "components": {"schemas": SHAPES}}
    return schemas.compile_schema(document, f"openapi.json#/components/schemas/{name}")


def check_body(operation: Operation, body: Any) -> tuple[Problem, ...]:
    """What is wrong with what was sent to an operation."""
    return gate.judge(body, _schema(operation.takes)) if operation.takes else ()


def check_query(operation: Operation, query: Mapping[str, str]) -> None:
    """InputError for a parameter that the operation does not have."""
    known = operation.query or {}
    for name in query:
        if name not in known:
            values = {"parameter": name[:80], "known": ", ".join(known) or "none"}
            raise InputError("no such parameter", values)


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
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": JOB} for name in each.path_names
    ]
    parameters += [
        {"name": name, "in": "query", "schema": shape} for name, shape in (each.query or {}).items()
    ]
    found: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.says,
        "responses": {
            str(each.status): {
                "description": each.says,
                "content": _content(each),
            },
            "default": {
                "description": "What is wrong",
                "content": {"application/json": {"schema": ref("Error")}},
            },
        },
    }
    if parameters:
        found["parameters"] = parameters
    if each.takes:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref(each.takes)}},
        }
    return found


def _content(each: Operation) -> dict[str, Any]:
    if each.gives:
        return {each.kind: {"schema": each.gives}}
    return {"*/*" if each.kind == BYTES else each.kind: {"schema": {}}}
