"""A real `popbuild serve` on a free port of the loopback, and a client that says what it likes."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commands import Running
from patience import PATIENCE_S
from workspace import Workspace

_ADDRESS = re.compile(r"http://([a-z0-9.]+):(\d+)/\?token=(\S+)")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """The server of a root. Requests have its token and its host unless told otherwise: programs
    name it by its address, browsers by the `name` that it drew."""

    port: int
    token: str
    name: str = "127.0.0.1"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        """The host of its pages in a browser."""
        return f"{self.name}:{self.port}"

    @property
    def address(self) -> str:
        return f"http://{self.page}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """What a browser sends that has opened the address."""
        return f"popbuild-{self.port}={self.token}"

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: Any, **headers: str | None) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, **{"content_type": "application/json", **headers})

    def ask(self, method: str, path: str, body: bytes | None, **headers: str | None) -> Answer:
        """Any request. Names of headers have `_` for `-`; None leaves one out."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=PATIENCE_S)) as line:
            self._send(line, method, path, body, headers)
            response = line.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def _send(
        self,
        line: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str | None],
    ) -> None:
        # Not request(): that would mend a path that is wrong on purpose.
        line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        common = {"host": self.host, "authorization": f"Bearer {self.token}"}
        for name, value in {**common, **headers}.items():
            if value is not None:
                line.putheader(name.replace("_", "-"), value)
        if body is not None:
            line.putheader("content-length", str(len(body)))
        line.endheaders(body)

    @contextlib.contextmanager
    def events(self, path: str = "/api/v1/events", last: str | None = None) -> Iterator[Events]:
        """What happens, from now on or from behind the event of this ID."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=PATIENCE_S)) as line:
            self._send(line, "GET", path, None, {"last_event_id": last})
            response = line.getresponse()
            assert response.status == 200, response.read()
            yield Events(response)

    def wait_for(self, job: str, *standings: str, timeout_s: float = PATIENCE_S) -> Any:
        """The row of a job once it stands like this."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows = self.get(f"/api/v1/jobs?search={job}").json["jobs"]
            found = next((row for row in rows if row["id"] == job), None)
            if found is not None and found["standing"] in standings:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)


@dataclass
class Event:
    id: str
    kind: str
    body: Any


class Events:
    """Server-sent events, one after the other."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def next(self, deadline: float | None = None, others: Sequence[Event] = ()) -> Event:
        """The next one; comments are passed over. These come as long as the server lives, so a read
        alone never waits too long. TimeoutError after the deadline, with the `others` before."""
        deadline = time.monotonic() + PATIENCE_S if deadline is None else deadline
        fields: dict[str, str] = {}
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the event did not come; others: {others}")
            line = self._response.readline().decode()
            assert line, "the server ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                return Event(fields["id"], fields["event"], json.loads(fields["data"]))
            else:
                fields = {}

    def until(self, kind: str, **wanted: Any) -> Event:
        """The next of a kind that says this. TimeoutError with what came instead."""
        deadline, others = time.monotonic() + PATIENCE_S, []
        while True:
            event = self.next(deadline, others)
            if event.kind == kind and wanted.items() <= event.body.items():
                return event
            others.append(event)


def served_by(running: Running) -> Served:
    """A server that has said its address."""
    match = _ADDRESS.search(running.out)
    assert match is not None, running.out
    return Served(int(match[2]), match[3], match[1])


@contextlib.contextmanager
def serve(
    workspace: Workspace, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Start the server of a workspace's root; ended as Ctrl-C ends it."""
    running = workspace.start("popbuild", "serve", "--port", "0", *options, env=env)
    running.wait_for("Ctrl-C ends it")
    yield served_by(running)
    running.interrupt()
    ended = running.wait()
    assert ended.code == 0, ended
    assert ended.err == "", ended.err
