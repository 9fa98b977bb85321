"""uvicorn with our signals and our connections. With `connections`, its one importer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import uvicorn

from popbuild.web.connections import Connection, Connections, lines_allowed
from popbuild.web.guard import Safety
from popbuild.web.server import Server

if TYPE_CHECKING:
    from types import FrameType
_GRACE_S = 2  # for unfinished answers when the server ends
_TICKS = 10  # of uvicorn's clock in a second


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
    """uvicorn that reports when it is ready, ends normally at a signal, does not wait for followers
    of events, and limits all connections."""

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
