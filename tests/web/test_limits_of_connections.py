"""A server that strangers cannot silence: connections, deadlines, uploads, the log."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import uvicorn
from patience import PATIENCE_S
from served import Served, serve, served_by
from workspace import Workspace

from popbuild.web import connections
from popbuild.web.connections import Connection, Connections
from popbuild.web.guard import LET_IN

HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
NEIGHBOURS = 1_100
START = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
sys.argv = ["popbuild", "serve", "--port", "0"]
from popbuild.cli.main import entry
entry()
"""


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """The tests' own sockets are more than a shell lets a process have at first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def connected(served: Served, number: int, data: bytes) -> Iterator[list[socket.socket]]:
    """So many, each of which sends this and no more."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            each = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)
            found.append(stack.enter_context(each))
            with contextlib.suppress(OSError):  # some are closed at once
                each.sendall(data)
        yield found


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.mark.parametrize("files", [256, 1024])
def test_the_sockets_of_a_neighbour(workspace: Workspace, files: int) -> None:
    """Half requests that use up all that the system allows are closed for the owner, the oldest
    first; who follows events is not. The log has a line."""
    running = workspace.start("python", "-c", START, str(files))
    running.wait_for("Ctrl-C ends it")
    served = served_by(running)
    with served.events() as events:
        assert events.next().kind == "hello"
        with connected(served, NEIGHBOURS, HALF) as held:
            assert served.get("/").status == 200
            assert not is_open(held[0])
            assert is_open(held[-1])  # it was answered beside them, not behind their deadline
            seed = {"name": "later", "data": {"topic": "wasps"}}
            assert served.post("/api/v1/jobs", {"seed": seed, "id": "later"}).status == 201
            events.until("job", id="later")
    running.interrupt()
    assert running.wait().code == 0
    assert running.err.count("\n") == running.err.count("too many connections") == 1


def test_no_file_is_left(workspace: Workspace) -> None:
    """Where the system refuses another connection, those without the token make room."""
    running = workspace.start("popbuild", "serve", "--port", "0")
    running.wait_for("Ctrl-C ends it")
    served = served_by(running)
    assert served.get("/").status == 200
    opened = len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (opened + 20, hard))
    with connected(served, 200, HALF) as held:
        # Not a page: there is no file to read for one either.
        assert served.get("/api/v1/openapi.json").status == 200
        assert is_open(held[-1])
    running.interrupt()
    assert running.wait().code == 0
    assert running.err.count("\n") == running.err.count("too many connections") == 1


def test_no_request_fills_the_log(workspace: Workspace) -> None:
    """What is not HTTP is not logged, wherever it stands: a stranger could send it all day."""
    host = "Host: 127.0.0.1\r\n"
    chunked = f"POST /api/v1/jobs HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"
    with serve(workspace) as served:
        for first, then in (
            ("\x00\xff\r\n\r\n", ""),
            (f"GET / HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", ""),
            (f"{chunked}nonsense\r\n", ""),
            (chunked, "nonsense\r\n"),
            (f"GET / HTTP/1.1\r\n{host}\r\n" * 3, "\x00\r\n\r\n"),
            (f"GET /{'a' * 100_000} HTTP/1.1\r\n{host}\r\n", ""),
        ):
            with (
                connected(served, 1, first.encode("latin-1")) as (connection,),
                contextlib.suppress(OSError),
            ):
                if then:
                    connection.recv(100)
                    connection.sendall(then.encode("latin-1"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
        assert served.get("/").status == 200  # and `serve` sees that nothing was printed


def memory_mb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1_000


@pytest.mark.parametrize("framing", ["Content-Length: 16000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("with_token", [True, False])
def test_uploads_that_do_not_end(workspace: Workspace, framing: str, with_token: bool) -> None:
    """Of 40 the memory holds two, of strangers none; the rest waits outside. Once they are gone,
    another one is taken."""
    running = workspace.start("popbuild", "serve", "--port", "0")
    running.wait_for("Ctrl-C ends it")
    served = served_by(running)
    assert served.get("/").status == 200
    before = memory_mb(running.pid)
    token = f"Authorization: Bearer {served.token}\r\n" if with_token else ""
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: {served.host}\r\n{token}"
    head += f"Content-Type: application/json\r\n{framing}\r\n\r\n"
    body = (b"f42400\r\n" if "chunked" in framing else b"") + bytes(15_000_000)
    with connected(served, 40, head.encode()) as held:
        left = {each: memoryview(body) for each in held}
        for _ in range(10):
            for each in held:
                each.setblocking(False)
                with contextlib.suppress(OSError):  # no more of it is taken, or it was refused
                    while left[each]:
                        left[each] = left[each][each.send(left[each]) :]
            assert served.get("/").status == 200
        assert memory_mb(running.pid) < before + 120
    seed = served.post("/api/v1/jobs", {"seed": {"name": "x", "data": {"topic": "x" * 100_000}}})
    assert seed.status == 201, seed.text
    running.interrupt()
    assert running.wait().code == 0


# --- deadlines, with a clock that a test moves ---


class Bench:
    """A server in this process with an application of ours, and its connections."""

    def __init__(self, most: int = 100) -> None:
        self.lines = Connections(most)
        self.now_s = asyncio.get_running_loop().time()
        self._config = uvicorn.Config(_application, http="h11", lifespan="off", log_level="error")
        self._config.load()
        self._state = uvicorn.Server(self._config).server_state
        self._clients: list[Client] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)

    async def __aenter__(self) -> Bench:
        def make() -> Connection:
            return Connection(self.lines, self._config, self._state, {})

        self._accepting = asyncio.create_task(self.lines.accept(self._listener, make))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._accepting.cancel()
        self._listener.close()
        for line in self._state.connections.copy():
            line.transport.abort()
        for client in self._clients:
            client.connection.close()
        await _breathe()

    async def connect(self, data: bytes) -> Client:
        """A connection that has sent this; the server has read it."""
        client = Client(socket.create_connection(self._listener.getsockname()))
        self._clients.append(client)
        await client.send(data)
        return client

    async def pass_s(self, seconds: float) -> None:
        """Let time go by, and the server notice."""
        self.now_s += seconds
        self.lines.sweep(self.now_s)
        await _breathe()


class Client:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile
            self.connection.send(data)
        await _breathe()

    async def is_open(self) -> bool:
        """Whether the server has left it open; all that came is read."""
        await _breathe()
        try:
            while self.connection.recv(1 << 20):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


async def _breathe() -> None:
    """Let whatever is ready happen, on both sides."""
    for _ in range(100):
        await asyncio.sleep(0)


async def _application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """`/large` answers with more than a connection takes, `/read` reads a body, `/follow` streams
    for ever; with a token, it says so."""
    if any(name == b"authorization" for name, _ in scope["headers"]):
        scope["state"][LET_IN]()
    if scope["path"] == "/read":
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/follow":
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    size = 50_000_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.body", "body": bytes(size)})


def request(path: str, *more: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


TOKEN = "Authorization: Bearer x"
LONG = "Content-Length: 1000000"


@pytest.mark.parametrize(
    ("sent", "each_s", "is_kept"),
    [
        pytest.param([b""], connections.HEAD_S, False, id="nothing"),
        pytest.param([HALF], connections.HEAD_S, False, id="half a head"),
        pytest.param([HALF, *[b"a"] * 12], 1.0, False, id="a byte of a head a second"),
        pytest.param([request("/"), b"G"], connections.HEAD_S, False, id="half a second request"),
        pytest.param(
            [request("/read", LONG, method="POST")], connections.BODY_S, False, id="no body"
        ),
        pytest.param(
            [request("/read", LONG, method="POST"), *[b"a"] * 25], 1.0, False, id="a byte of a body"
        ),
        pytest.param(
            [request("/read", TOKEN, LONG, method="POST"), *[bytes(20_000)] * 10],
            connections.BODY_S,
            True,
            id="a body that comes slowly",
        ),
        pytest.param(
            [request("/", LONG, method="POST"), *[bytes(20_000)] * 12],
            1.0,
            False,
            id="the rest of a body that was refused",
        ),
        pytest.param(
            [request("/large")], connections.READER_S, False, id="an answer that is not read"
        ),
        pytest.param([request("/") * 10], connections.HEAD_S, False, id="many requests at once"),
        pytest.param([request("/follow", TOKEN)], 3_600.0, True, id="events"),
        pytest.param([request("/read", TOKEN, "Content-Length: 0")], 1.0, True, id="just answered"),
    ],
)
def test_every_wait_has_an_end(sent: Sequence[bytes], each_s: float, is_kept: bool) -> None:
    """Whatever a connection does not send, or does not take, or sends a byte at a time. What makes
    progress is let go on."""

    async def scenario() -> bool:
        async with Bench() as bench:
            client = await bench.connect(sent[0])
            await bench.pass_s(0)
            for part in sent[1:]:
                await bench.pass_s(each_s)
                await client.send(part)
            await bench.pass_s(each_s)
            await bench.pass_s(0.1)
            return await client.is_open()

    assert asyncio.run(scenario()) is is_kept


def test_who_makes_room() -> None:
    """First who has waited longest without the token, whatever is under way; then who has it and is
    idle; a request with the token is never given up, and the new connection is."""

    async def scenario() -> AsyncIterator[list[bool]]:
        async with Bench(most=4) as bench:
            clients = [
                await bench.connect(request("/follow", TOKEN)),
                await bench.connect(request("/", TOKEN)),
                await bench.connect(HALF),
                await bench.connect(request("/follow")),
            ]
            for _ in range(4):
                clients.append(await bench.connect(request("/follow", TOKEN)))
                yield [await each.is_open() for each in clients]

    async def all_of() -> list[list[bool]]:
        return [each async for each in scenario()]

    first, second, third, fourth = asyncio.run(all_of())
    assert first == [True, True, False, True, True]
    assert second == [True, True, False, False, True, True]
    assert third == [True, False, False, False, True, True, True]
    assert fourth == [True, False, False, False, True, True, True, False]
