"""Routes and requests: the one importer of starlette."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from popbuild.base import errors, jsonio
from popbuild.base.errors import (
    InputError,
    PopbuildError,
    UsageError,
)
from popbuild.base.printing import in_our_words, show_traceback
from popbuild.base.redact import redact, redact_value
from popbuild.base.roots import check_there
from popbuild.model.problem import Problem
from popbuild.web import routes
from popbuild.web.guard import MAX_BODY_BYTES, Guard, Refusal, Safety, refusal
from popbuild.web.page_routes import PAGES, Show
from popbuild.web.routes import OPERATIONS, PREFIX, Operation
from popbuild.web.server import (
    JSON,
    NotAnswered,
    Reply,
    Server,
    WebRequest,
    error_page,
    reply_json,
    static,
)

_THREADS = 32

# The HTTP status of an error; the first that matches.
_STATUS: tuple[tuple[type[PopbuildError], int], ...] = (
    (errors.LockedError, 409),
    (errors.StoppedError, 409),
    (errors.ConfigError, 409),  # the root must be fixed first: the request may be repeated then
    (errors.GateError, 422),
    (InputError, 422),
    (UsageError, 400),
)


def make_app(server: Server, guard: Guard) -> Safety:
    """The whole application: safety first, then routes."""

    def route(path: str, answer: Callable[[Request], Awaitable[Reply]], method: str) -> Route:
        return Route(path, functools.partial(_endpoint, server, answer), methods=[method])

    table = [
        route(PREFIX + each.path, functools.partial(_verb, server, each), each.method)
        for each in OPERATIONS
    ]
    table += [
        route(path, functools.partial(_page, server, show), "GET") for path, show in PAGES.items()
    ]
    table.append(Route(f"{PREFIX}/openapi.json", _description, methods=["GET"]))
    table.append(Route("/static/{name}", _static, methods=["GET"]))

    @contextlib.asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        # More than asyncio's default: some threads wait for a build to stop, others render pages.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        eyes = asyncio.create_task(server.eyes.run())
        await server.eyes.begun.wait()  # or the very first page would show no jobs
        try:
            yield
        finally:
            server.hub.close()
            await server.builds.close()
            eyes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await eyes

    handlers: Any = {HTTPException: functools.partial(_no_route, server)}
    return Safety(Starlette(routes=table, exception_handlers=handlers, lifespan=living), guard)


async def _endpoint(
    server: Server, answer: Callable[[Request], Awaitable[Reply]], request: Request
) -> Response:
    try:
        check_there(server.root)
        return _response(await answer(request))
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception as error:
        return _response(_error(server, request, error))


async def _verb(server: Server, operation: Operation, request: Request) -> Reply:
    ask = await _ask_of(server, request, operation)
    if inspect.iscoroutinefunction(operation.verb):
        answer = await operation.verb(server, ask)
    else:
        answer = await asyncio.to_thread(operation.verb, server, ask)
    if isinstance(answer, Reply):
        return answer
    return reply_json(redact_value(answer, server.environment), operation.status)


async def _page(server: Server, show: Show, request: Request) -> Reply:
    reply = await show(server, await _ask_of(server, request))
    assert isinstance(reply.body, bytes)
    text = redact(reply.body.decode(), server.environment)
    return dataclasses.replace(reply, body=text.encode())


async def _description(request: Request) -> Response:
    return _response(reply_json(routes.openapi_document()))


async def _static(request: Request) -> Response:
    try:
        return _response(static(request.path_params["name"]))
    except NotAnswered as missing:
        return _response(reply_json(missing.as_json(), missing.status))


async def _no_route(server: Server, request: Request, error: HTTPException) -> Response:
    """No such route, or not with this method."""
    values = {"path": request.url.path[:200], "method": request.method}
    said = UsageError(str(error.detail).lower(), values, f"{PREFIX}/openapi.json names all")
    response = _response(_error(server, request, NotAnswered(error.status_code, said)))
    response.headers.update(error.headers or {})
    return response


async def _ask_of(
    server: Server, request: Request, operation: Operation | None = None
) -> WebRequest:
    """What is asked of a verb, or of a page. The job in its path exists."""
    query = _query_of(request)
    if operation is not None:
        routes.check_query(operation, query)
    body = None
    if operation is not None and operation.takes:
        # Another page's form could send other types without a preflight request.
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise refusal(415, "only JSON is taken", {"found": kind, "allowed": JSON})
        judged = functools.partial(_judged, operation)
        body, problems = await server.bodies.take(request.headers, request.stream(), judged)
        if problems:
            error = InputError("the request is not valid", {"sent to": operation.path})
            raise NotAnswered(422, error, problems)
    if "job" in request.path_params:
        server.known(request.path_params["job"])
    return WebRequest(request.path_params, query, body, request.headers.get("last-event-id"))


def _judged(operation: Operation, data: bytes) -> tuple[Any, tuple[Problem, ...]]:
    body = jsonio.loads(data, "request", max_bytes=MAX_BODY_BYTES)
    return body, routes.check_body(operation, body)


def _query_of(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise InputError("a parameter is given twice", {"parameter": name[:80]})
        found[name] = value
    return found


def _error(server: Server, request: Request, error: Exception) -> Reply:
    """The answer to a failed request: always the same shape, never a traceback."""
    if isinstance(error, Refusal):
        error = NotAnswered(error.status, error.error)
    if not isinstance(error, NotAnswered):
        error = _told(error)
    if request.url.path.startswith("/api/"):
        return reply_json(redact_value(error.as_json(), server.environment), error.status)
    return error_page(server, error.error, error.status)


def _told(error: Exception) -> NotAnswered:
    """The error of a command; printed on stderr too where popbuild or the disk is at fault."""
    if isinstance(error, PopbuildError):
        found = (status for kind, status in _STATUS if isinstance(error, kind))
        return NotAnswered(next(found, 500), error)
    ours = in_our_words(error)
    if os.environ.get("POPBUILD_DEBUG"):
        show_traceback(error)
    else:
        print(f"error: {redact(str(ours), os.environ)}", file=sys.stderr)
    return NotAnswered(500, ours)


def _response(reply: Reply) -> Response:
    headers = dict(reply.headers)
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, headers, reply.kind)
    return StreamingResponse(reply.body, reply.status, headers, reply.kind)
