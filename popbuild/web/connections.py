"""Connections of the server: how many there are, and how long each may take.

Any user of the machine may connect; only the token in the head of a request identifies ours. So
every wait has an end, and at the limit a connection without the token is closed first. uvicorn only
limits idle connections; the rest is here, in a subclass of its protocol. The one importer of
uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from popbuild.web.guard import LET_IN, Safety
from popbuild.web.server import Server

if TYPE_CHECKING:
    from types import FrameType

    from uvicorn.server import ServerState

HEAD_S = 10.0  # for the whole head of a request, also after an answer
BODY_S = 10.0  # in which BODY_BYTES of a body must arrive, or its end
BODY_BYTES = 10_000
STRANGER_BYTES = 1_000_000  # read from a connection that has not shown the token
READER_S = 30.0  # for a reader to take any part of its answer
_GRACE_S = 2  # for unfinished answers when the server ends
_TICKS = 10  # of uvicorn's clock in a second
_BACK_OFF_S = 0.1  # when the system cannot accept a connection

_MOST_FILES = 65_536
_MOST_LINES = 2_000
_OTHER_FILES = 256  # for jobs that are looked at, and builds that are started


def lines_allowed() -> int:
    """How many connections to allow: the limit of open files, raised as far as possible, without
    those that the server opens otherwise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _MOST_FILES
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, _MOST_FILES)), hard))
        soft = max(soft, min(most, _MOST_FILES))
    return min(_MOST_LINES, max(soft // 2, soft - _OTHER_FILES))


class _Waits(Enum):
    HEAD = auto()
    BODY = auto()
    READER = auto()  # the client, which does not read the answer
    US = auto()


@dataclass(frozen=True)
class _Mark:
    """Since when a connection waits for something, and how many bytes had arrived by then."""

    what: tuple[object, ...]
    since_s: float
    came_bytes: int


class Connection(H11Protocol):
    """A connection, with deadlines."""

    def __init__(
        self,
        lines: Connections,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, state, {**app_state, LET_IN: self._let_in})
        self._lines = lines
        self._came_bytes = 0
        self.mark = _Mark((_Waits.HEAD, None), self.loop.time(), 0)
        self.is_trusted = False

    def _let_in(self) -> None:
        self.is_trusted = True

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._came_bytes += len(data)
        super().data_received(data)
        if not self.is_trusted and self._came_bytes > STRANGER_BYTES:
            self.flow.pause_reading()  # the rest of a body that was refused

    def send_400_response(self, msg: str) -> None:
        if self.cycle is None:
            super().send_400_response(msg)
            return
        # After a request there may be no place for this answer, and uvicorn would print a
        # traceback, one for each packet of a neighbour who wants to fill our log.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.abort()

    def is_overdue(self, now_s: float) -> bool:
        """Whether a deadline has passed; called about once a second."""
        waits, mark = self._waits(), self.mark
        what: tuple[object, ...] = (waits, self.cycle, self.is_idle)
        if waits is _Waits.READER:
            what = (*what, self.transport.get_write_buffer_size())
        waited_s = now_s - mark.since_s
        if what == mark.what:
            if waits is _Waits.HEAD:
                return waited_s > HEAD_S
            if waits is _Waits.READER:
                return waited_s > READER_S
            if waits is _Waits.US or waited_s <= BODY_S:
                return False
            if self._came_bytes - mark.came_bytes < BODY_BYTES:
                return True
        self.mark = _Mark(what, now_s, self._came_bytes)
        return False

    def _waits(self) -> _Waits:
        if self.transport.get_write_buffer_size():
            return _Waits.READER
        if self.is_idle:
            return _Waits.HEAD
        if self.cycle.more_body and not self.flow.read_paused:
            return _Waits.BODY
        return _Waits.US


class Connections:
    """All connections."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open: set[Connection] = set()
        self._has_told = False

    def add(self, line: Connection) -> None:
        """Take another connection, and close one if there are too many."""
        if len(self.open) >= self._most and not self._make_room():
            line.transport.abort()
            return
        self.open.add(line)

    def sweep(self, now_s: float) -> None:
        """Close overdue connections."""
        for line in [line for line in self.open if line.is_overdue(now_s)]:
            self._end(line)

    async def accept(self, listener: socket.socket, make: Callable[[], Connection]) -> None:
        """Accept connections, for ever. asyncio's own server prints a traceback for each connection
        that it has no file for, thousands a second."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue  # it was gone before
            except OSError:  # no file for it, or no memory
                await asyncio.sleep(0 if self._make_room() else _BACK_OFF_S)
                continue
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(make, connection)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest among those without the token, or else among
        idle ones; whether there was one."""
        could = [line for line in self.open if not line.is_trusted or line.is_idle]
        if not could:
            return False
        self._end(min(could, key=lambda line: (line.is_trusted, line.mark.since_s)))
        if not self._has_told:
            self._has_told = True
            says = "warning: too many connections; those that wait without the token are closed"
            print(says, file=sys.stderr, flush=True)
        return True

    def _end(self, line: Connection) -> None:
        self.open.discard(line)
        line.transport.abort()


def serve_until_stopped(
    app: Safety, listeners: Sequence[socket.socket], server: Server, ready: Callable[[], None]
) -> None:
    """Serve on listening sockets until a signal ends it; `ready` is called once."""
    config = uvicorn.Config(
        app,
        http="h11",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ws="none",
    )
    asyncio.run(_Listener(config, listeners, server, ready).serve([]))


class _Listener(uvicorn.Server):
    """Reports when it is ready, ends normally at a signal, does not wait for followers of events,
    and limits all connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        listeners: Sequence[socket.socket],
        server: Server,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._server = server
        self._ready = ready
        self._lines = Connections(lines_allowed())
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in self._listeners:
            self._accepting.append(asyncio.create_task(self._lines.accept(each, self._line)))
        self._ready()

    def _line(self) -> Connection:
        return Connection(self._lines, self.config, self.server_state, self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            self._lines.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        for each in self._listeners:
            each.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._server.hub.close()
