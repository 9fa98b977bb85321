"""Connections of the server: how many there are, and how long each may take.

Anybody on the machine may connect, and is known only by the token in the head of a request. So
nothing is ever waited for without an end, and where there is no room for another connection, one
that has not shown the token makes it. uvicorn has a limit for idle connections alone; the rest is
here, in a subclass of its protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from popbuild.web.guard import LET_IN

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

HEAD_S = 10.0  # for the whole head of a request, also behind an answer
BODY_S = 10.0  # in each of these so many bytes of a body must come, until it ends
BODY_BYTES = 10_000
STRANGER_BYTES = 1_000_000  # all that is read of a connection that has not shown the token
READER_S = 30.0  # for a reader to take anything of its answer
_BACK_OFF_S = 0.1  # where the system has no room for a connection

_MOST_FILES = 65_536
_MOST_LINES = 2_000
_OTHER_FILES = 256  # for jobs that are looked at, and builds that are started


def lines_allowed() -> int:
    """How many connections there may be: what the operating system allows, raised as far as it
    lets us, less what else the server opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _MOST_FILES
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, _MOST_FILES)), hard))
        soft = max(soft, min(most, _MOST_FILES))
    return min(_MOST_LINES, max(soft // 2, soft - _OTHER_FILES))


class _Waits(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    READER = auto()  # who asked, and does not take the answer
    US = auto()


@dataclass(frozen=True)
class _Mark:
    """Since when a connection waits for something; for a body, what had come until then."""

    what: tuple[object, ...]
    since_s: float
    came_bytes: int


class Connection(H11Protocol):
    """A connection, with deadlines."""

    def __init__(
        self, lines: Connections, config: Config, state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, state, {**app_state, LET_IN: self._let_in})
        self._lines = lines
        self._came_bytes = 0
        self._mark = _Mark((_Waits.HEAD, None), self.loop.time(), 0)
        self.is_trusted = False

    def _let_in(self) -> None:
        self.is_trusted = True

    @property
    def since_s(self) -> float:
        return self._mark.since_s

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.drop(self)
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
        # Behind a request there may be no place for this answer, and uvicorn would end in a
        # traceback: one for each packet of a neighbour who wants to fill our log.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.abort()

    def is_overdue(self, now_s: float) -> bool:
        """Whether what it waits for has not come in time; asked about once a second."""
        waits, mark = self._waits(), self._mark
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
        self._mark = _Mark(what, now_s, self._came_bytes)
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
        self._open: set[Connection] = set()
        self._has_told = False

    def add(self, line: Connection) -> None:
        """Another connection, for which one makes room where there is none."""
        if len(self._open) >= self._most and not self._make_room():
            line.transport.abort()
            return
        self._open.add(line)

    def drop(self, line: Connection) -> None:
        self._open.discard(line)

    def sweep(self, now_s: float) -> None:
        """End what is overdue."""
        for line in [line for line in self._open if line.is_overdue(now_s)]:
            self._end(line)

    async def accept(self, listener: socket.socket, make: Callable[[], Connection]) -> None:
        """Take connections, for ever. asyncio's own server prints a traceback for each connection
        that it has no file for, thousands of them a second."""
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
        """End the connection that has waited longest of those without the token, or else of those
        where nothing is under way; whether there was one."""
        could = [line for line in self._open if not line.is_trusted or line.is_idle]
        if not could:
            return False
        self._end(min(could, key=lambda line: (line.is_trusted, line.since_s)))
        if not self._has_told:
            self._has_told = True
            says = "warning: too many connections; those that wait without the token are closed"
            print(says, file=sys.stderr, flush=True)
        return True

    def _end(self, line: Connection) -> None:
        self.drop(line)
        line.transport.abort()
