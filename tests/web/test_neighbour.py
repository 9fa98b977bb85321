"""Another user of this machine, with a server on another port of it, in a real browser.

The neighbour writes down all that the browser sends to their port, and their pages try all that a
page can do. Where the tests are root's, the neighbour is another user indeed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Tab, chromium, needs_chromium
from served import Served, serve
from workspace import CHECKOUT, Workspace

_TESTS = CHECKOUT / "tests"
CHOSEN = "a-token-that-is-long-enough"


class Neighbour:
    """The neighbour's server; `seen` are the requests that came."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self._out = process.stdout
        self.port: int = json.loads(self._out.readline())["port"]
        self.seen: list[dict[str, Any]] = []

    def end(self) -> None:
        """End the server, and read all that it wrote down."""
        self._process.terminate()
        self.seen += [json.loads(line) for line in self._out]
        self._process.wait()

    def headers(self, name: str) -> list[str]:
        """The values of a header in all requests."""
        every = (pair for each in self.seen for pair in each["headers"])
        return [value for found, value in every if found == name]


@contextlib.contextmanager
def neighbour(port: int = 0, victim: int = 0) -> Iterator[Neighbour]:
    """Start the neighbour's server, to which the server at the port `victim` is next door."""
    argv = [sys.executable, "neighbour.py", str(port), str(victim)]
    with subprocess.Popen(argv, cwd=_TESTS, stdout=subprocess.PIPE, text=True) as process:
        try:
            there = Neighbour(process)
            yield there
            there.end()
        finally:
            process.kill()


def test_nobody_listens_beside_us(workspace: Workspace) -> None:
    """Browsers look for `localhost`, and what is below it, at ::1 first, so that is ours as well: a
    neighbour cannot listen there while we do, and we do not start where they do."""
    with serve(workspace) as served:
        for address in ("127.0.0.1", "0.0.0.0", "::1", "::"):  # noqa: S104 - all are tried
            text = f"""
import neighbour, socket
neighbour.become_another_user()
server = socket.socket(socket.{"AF_INET6" if ":" in address else "AF_INET"})
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(("{address}", {served.port}))
server.listen()
"""
            argv = [sys.executable, "-c", text]
            tried = subprocess.run(argv, cwd=_TESTS, capture_output=True, text=True, check=False)
            assert tried.returncode == 1, address
            assert tried.stderr.splitlines()[-1].startswith("OSError: "), tried.stderr
    with socket.socket(socket.AF_INET6) as theirs:
        theirs.bind(("::1", 0))
        theirs.listen()
        port = str(theirs.getsockname()[1])
        refused = workspace.popbuild("serve", "--port", port)
        assert (refused.code, "another program listens there" in refused.err) == (3, True)
        assert f"[::1]:{port}" in refused.err


@pytest.fixture
def tab(workspace: Workspace, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """The owner's page of a job, whose artifact a test may name by its `param`."""
    with chromium() as browser, serve(workspace) as served:
        tab = Tab(browser, served)
        yield tab
        tab.context.close()


def _nothing_of(served: Served, seen: Neighbour) -> None:
    """Neither the token of a start nor the name that it drew came to the neighbour."""
    assert seen.seen
    text = json.dumps(seen.seen)
    assert served.token not in text
    assert served.name not in text
    theirs = {f"popbuild-{served.port}=of-the-neighbour", 'prefs={"theme":"dark"}'}
    assert {each for line in seen.headers("cookie") for each in line.split("; ")} <= theirs


@pytest.mark.slow
@needs_chromium
def test_a_neighbour_gets_nothing(workspace: Workspace, tab: Tab, provider: Any) -> None:
    """By a link in an artifact, in this tab and in another; by an address that is typed; by their
    pages, which ask us in every way that a browser has; and the owner is not locked out."""
    served = tab.served
    workspace.seed("new", {"topic": "wasps", "tone": "plain"})
    with neighbour(victim=served.port) as theirs:
        link = f"http://127.0.0.1:{theirs.port}/link"
        provider.script([f"[look]({link}) and <{link}-2> ![x]({link}-3)", "short"])
        assert workspace.popbuild("run", "first").code == 0
        page = tab.open("/jobs/first")
        look = page.locator(f"a[href='{link}']").first
        with tab.context.expect_page() as opening:
            look.click(modifiers=["Control"])
        opening.value.wait_for_url(link)
        assert opening.value.evaluate("window.opener") is None
        for host in ("127.0.0.1", "localhost", "[::1]"):
            page.goto(f"http://{host}:{theirs.port}/typed")
            got = page.evaluate("window.attack()")
            assert len(got) > 40
            mine = {"cookie": got.pop("cookie")}
            assert served.token not in str(mine)
            assert {name: what for name, what in got.items() if what} == {}
        page.goto(f"http://127.0.0.1:{theirs.port}/back")
        page.get_by_role("heading", name="The token is missing").wait_for()
        page = tab.open("/jobs/first")
        page.get_by_role("heading", name="first").first.wait_for()
        assert workspace.states("new") == []
    paths = {each["path"] for each in theirs.seen}
    assert {"/link", "/typed", "/back"} <= paths
    assert "/link-3" not in paths
    _nothing_of(served, theirs)


@pytest.mark.slow
@needs_chromium
def test_a_neighbour_before_us(workspace: Workspace) -> None:
    """What they left in the browser when they had the port does not stand before our pages: a tab
    that is still open, cookies, and a worker that answers for every page of its origin."""
    assert workspace.popbuild("run", "first").code == 0
    with chromium() as browser, browser.new_context() as context:
        with neighbour() as theirs:
            port, left = theirs.port, context.new_page()
            for host in ("localhost", "127.0.0.1"):
                left.goto(f"http://{host}:{port}/")
                left.evaluate("window.settle()")
        with serve(workspace, "--port", str(port)) as served:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_role("heading", name="taken").wait_for()  # the worker is there
            page.goto(served.address)
            page.get_by_role("link", name="first").wait_for()
            # The tab that is left asks us as a page of the same origin would.
            asks = "async () => (await fetch('/api/v1/jobs')).status"
            assert left.evaluate(asks) == 401
            assert page.evaluate("async () => (await fetch('/api/v1/jobs')).status") == 200


@pytest.mark.slow
@needs_chromium
def test_a_neighbour_after_us(workspace: Workspace) -> None:
    """A page that is still open when our server has ended asks what listens at its port then.
    What that tells them opens nothing at the next start, not even with a token that stays the
    same, and what they leave in the browser does not stand before its pages."""
    assert workspace.popbuild("run", "first").code == 0
    env = {"POPBUILD_TOKEN": CHOSEN}
    with chromium() as browser, browser.new_context() as context:
        page = context.new_page()
        with serve(workspace, env=env) as served:
            page.goto(served.address)
            page.locator("html[data-line=open]").wait_for()
        with neighbour(served.port) as theirs:
            page.reload()
            page.get_by_role("heading", name="neighbour").wait_for()
            page.evaluate("window.settle()")
        assert served.token in json.dumps(theirs.seen)  # as must be: the browser cannot tell
        with serve(workspace, "--port", str(served.port), env=env) as again:
            for each in theirs.seen:
                headers = {name.replace("-", "_"): value for name, value in each["headers"]}
                answer = again.get(each["path"], **{"authorization": None, **headers})
                assert answer.status == 421
                stolen = {"authorization": None, "cookie": headers.get("cookie")}
                assert again.get(each["path"], host=again.page, **stolen).status == 401
            bearer = f"Bearer {served.token}"
            assert again.get("/api/v1/jobs", authorization=bearer).status == 401
            page.goto(again.address)
            page.get_by_role("link", name="first").wait_for()
        assert CHOSEN not in json.dumps(theirs.seen)
