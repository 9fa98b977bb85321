"""What a provider really sent, recorded below litellm: status, headers and body, up to a size.

litellm makes the transport of its HTTP clients in one place; client.py wraps this one around it.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from popbuild.base.errors import ProviderError
from popbuild.base.redact import redact

_SHOWN_CHARS = 200
_LOOKED_AT_BYTES = 20 * _SHOWN_CHARS
# Headers of the body as it came over the wire: the body that is handed on is unpacked.
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")


@dataclass
class HttpExchange:
    """The response to the last request of a call; `status` is None before it comes. `is_whole` says
    that the body came to its end; `error` is ours, where we stopped reading."""

    limit_bytes: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    error: ProviderError | None = None

    def document(self) -> Any:
        """The body as JSON. Raises ValueError."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def shown(self) -> dict[str, object]:
        """The body's beginning, for a person who must find out what answered there."""
        start = self.body[:_LOOKED_AT_BYTES].decode(errors="replace")
        # Before it is cut: half a key would not be recognized.
        text = redact(" ".join(start.split()), os.environ)
        return {
            "content type": self.headers.get("content-type") or "not given",
            "found": text[:_SHOWN_CHARS] or "nothing",
        }


# A context variable, since nothing that we give litellm for a call reaches its transport.
_current: contextvars.ContextVar[HttpExchange | None] = contextvars.ContextVar(
    "exchange", default=None
)


@contextlib.contextmanager
def recorded(limit_bytes: int) -> Iterator[HttpExchange]:
    """Record the response to what is sent in this context; larger bodies are refused."""
    exchange = HttpExchange(limit_bytes)
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


class Recorder(httpx.AsyncBaseTransport):
    """A transport around another one: reads each body whole, bounded, and notes it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _current.get()
        if exchange is None:
            return await self._inner.handle_async_request(request)
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        exchange.status = response.status_code
        exchange.headers = {name.lower(): value for name, value in response.headers.items()}
        exchange.body, exchange.is_whole = b"", False
        try:
            exchange.body = await _body(response, exchange)
            exchange.is_whole = True
        except ProviderError as error:
            exchange.error = error
            raise
        finally:
            await response.aclose()
        kept = [pair for pair in response.headers.raw if pair[0].lower() not in _OF_THE_WIRE]
        return httpx.Response(
            response.status_code,
            headers=kept,
            content=exchange.body,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _body(response: httpx.Response, exchange: HttpExchange) -> bytes:
    """The whole body as it was before it was compressed. Raises ProviderError."""
    limit = exchange.limit_bytes
    with contextlib.suppress(ValueError):
        if int(exchange.headers.get("content-length", 0)) > limit:
            raise _too_large(limit)
    unpack = _unpacker(exchange)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += unpack(chunk, limit - len(body))
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _unpacker(exchange: HttpExchange) -> Any:
    """A function from the next bytes on the wire to the body's: at most one more than there is room
    for."""
    encoding = exchange.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk, room: chunk[: room + 1]
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise unreadable(exchange, {"content encoding": encoding})
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes

    def unpack(chunk: bytes, room: int) -> bytes:
        try:
            return stream.decompress(stream.unconsumed_tail + chunk, room + 1)
        except zlib.error as error:
            values = {"content encoding": encoding, "problem": str(error)}
            raise unreadable(exchange, values) from None

    return unpack


def unreadable(exchange: HttpExchange, more: Mapping[str, object] | None = None) -> ProviderError:
    """The error of an answer that cannot be read: probably no provider sent it."""
    return elsewhere(
        "the provider's answer cannot be read",
        {"status": exchange.status, **exchange.shown(), **(more or {})},
        "does the address lead to the provider, or to a proxy in between?",
    )


def _too_large(limit: int) -> ProviderError:
    return elsewhere(
        "the provider's answer is too large",
        {"allowed": f"{limit / 2**20:g} MB"},
        "POPBUILD_MAX_ANSWER_MB sets how much of an answer is read",
    )


def elsewhere(message: str, values: Mapping[str, object], hint: str) -> ProviderError:
    """An error after which another model may well answer the same request."""
    error = ProviderError(message, values, hint)
    error.elsewhere = True
    return error
