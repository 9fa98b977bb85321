"""Who is answered by `popbuild serve`, and who is not: hosts, origins, tokens, paths, bodies."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from provider import Provider
from served import Served, serve, served_by
from workspace import Workspace

PATHS = ("/", "/api/v1/jobs", "/api/v1/events", "/api/v1/nothing", "/static/live.js")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A root with a complete job and one that may not be built, for all tests of this file."""
    with (
        Provider() as provider,
        Workspace(tmp_path_factory.mktemp("safety"), provider) as workspace,
    ):
        workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
        workspace.pipeline(["research"])
        workspace.seed("first", {"topic": "bees"})
        assert workspace.popbuild("run", "first").code == 0
        workspace.seed("new", {"topic": "wasps"})
        yield workspace


@pytest.fixture(scope="module")
def served(built: Workspace) -> Iterator[Served]:
    """The server is the same for all: none of them may do more than look."""
    with serve(built) as served:
        yield served
        assert built.states("new") == []


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_host(served: Served, path: str) -> None:
    """A name that a web page made point to 127.0.0.1 is not ours, nor is another port, or none."""
    port = served.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        answer = served.get(path, host=host)
        assert (answer.status, b"another name" in answer.body) == (421, True), host
        assert served.get(f"{path}?token={served.token}", host=host).status == 421
        assert served.name not in answer.text
    assert served.get(path, host=None).status in (400, 421)
    assert served.get("/api/v1/jobs", host=f"LOCALHOST:{port}").status == 200


def test_two_hosts(served: Served) -> None:
    """Of a header that is there twice nothing is believed."""
    line = f"Host: {served.host}\r\nAuthorization: Bearer {served.token}\r\n"
    for request in (f"{line}Host: evil.example\r\n", f"Host: evil.example\r\n{line}"):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(f"GET /api/v1/jobs HTTP/1.1\r\n{request}\r\n".encode())
            status = connection.makefile("rb").readline()
        assert status.split()[1] in (b"400", b"421"), status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "file://"])
def test_a_foreign_origin(served: Served, path: str, origin: str) -> None:
    """Another page may not ask, neither to read nor to do, with all that a browser would send."""
    for headers in ({}, {"authorization": None, "host": served.page, "cookie": served.cookie}):
        assert served.get(path, origin=origin, **headers).status == 403
        assert served.post(path, {}, origin=origin, **headers).status == 403
    for host, asks, status in (
        (served.host, served.host, 200),
        (served.page, served.page, 200),
        # What another user served at this port before is still open at its address, not at ours.
        (served.page, served.host, 403),
        (served.page, f"localhost:{served.port}", 403),
    ):
        ours = {"host": host, "origin": f"http://{asks}"}
        assert served.post("/api/v1/plan", {"jobs": ["first"]}, **ours).status == status


def test_a_foreign_site(served: Served) -> None:
    """What a browser says of where a request comes from counts, too: a page may be linked to from
    elsewhere, and nothing else."""
    site = {"sec_fetch_site": "cross-site"}
    assert served.get("/", sec_fetch_mode="navigate", **site).status == 200
    assert served.get("/", sec_fetch_mode="no-cors", **site).status == 403
    assert served.get("/api/v1/events", sec_fetch_mode="cors", **site).status == 403
    assert served.get("/api/v1/jobs", sec_fetch_mode="navigate", **site).status == 403
    assert served.post("/api/v1/builds", {"jobs": ["new"]}, **site).status == 403


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/api/v1/nothing"])
def test_without_the_token(served: Served, path: str) -> None:
    """Without the token of this start there is no answer, however near another comes."""
    wrong = (None, "Bearer", "Bearer ", f"Basic {served.token}", f"Bearer {served.token[:-1]}")
    for authorization in (*wrong, f"Bearer {served.token}x", "Bearer é"):
        assert served.get(path, authorization=authorization).status == 401, authorization
        assert served.post(path, {}, authorization=authorization).status == 401
    other = f"popbuild-{served.port + 1}={served.token}"
    # A cookie of 127.0.0.1 may have been sent to every server on this machine, or set by one.
    for host, cookie in ((served.page, other), (served.host, served.cookie)):
        missing = served.get(path, authorization=None, host=host, cookie=cookie)
        assert (missing.status, "the token is missing" in missing.text) == (401, True)
    assert served.get(f"{path}?token=wrong").status == 401


def test_a_token_of_another_start(served: Served) -> None:
    """As a cookie, a header or in the address it is said to be wrong, not missing; to a browser on
    a small page, that says where the right one stands and nothing of the root."""
    old = f"popbuild-{served.port}=that-of-another-start"
    kind = {"accept": "text/html,*/*;q=0.8"}
    for answer in (
        served.get("/", authorization=None, host=served.page, cookie=old, **kind),
        served.get("/jobs/first?token=old", authorization=None, **kind),
        served.get("/", authorization="Bearer old", **kind),
    ):
        assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "<h1>The token is wrong</h1>" in answer.text
        assert "in the terminal where the server runs" in answer.text
        assert "safety" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    told = served.get("/api/v1/jobs", authorization="Bearer old", **kind)
    assert (told.status, told.json["error"]) == (401, "the token is wrong")
    foreign = served.get("/", host="<b>evil", **kind)
    assert (foreign.status, "<b>evil" in foreign.text) == (421, False)


def test_the_token_leaves_the_address(served: Served) -> None:
    """The address that is printed puts the token into a cookie that no script reads and no other
    site sends, and leads on without it."""
    browser = {"authorization": None, "host": served.page}
    answer = served.get(f"/jobs/first?token={served.token}&a=b", **browser)
    assert (answer.status, answer.headers["location"]) == (303, "/jobs/first?a=b")
    assert answer.headers["content-type"].startswith("text/plain")
    cookie = answer.headers["set-cookie"]
    assert cookie == f"{served.cookie}; Path=/; HttpOnly; SameSite=Lax"
    assert served.get("/api/v1/jobs", cookie=served.cookie, **browser).status == 200
    elsewhere = served.get(f"//evil.example/?token={served.token}", **browser)
    assert elsewhere.headers["location"] == "/evil.example/"
    odd = served.get(f"/jobs/a%252f%3Fb%23?token={served.token}", **browser)
    assert odd.headers["location"] == "/jobs/a%252f%3Fb%23"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_no_cookie_for_a_name_of_all(served: Served, name: str) -> None:
    """Under a name that other servers of this machine have too, the token leads to the one that
    this start drew, and nothing is kept."""
    host = f"{name}:{served.port}"
    answer = served.get(f"/jobs/first?a=b&token={served.token}", authorization=None, host=host)
    leads_to = f"http://{served.page}/jobs/first?a=b&token={served.token}"
    assert (answer.status, answer.headers["location"]) == (303, leads_to)
    assert "set-cookie" not in answer.headers
    assert served.name not in served.get("/?token=wrong", authorization=None, host=host).text


def test_the_address_of_another_start(served: Served) -> None:
    """What was kept of it says where the new one stands, and not which."""
    answer = served.get("/jobs/first", host=f"abcdefghijklmnop.localhost:{served.port}")
    assert (answer.status, "of another start" in answer.text) == (421, True)
    assert "in the terminal where the server runs" in answer.text
    assert served.name not in answer.text


# What stands in a browser's header beside ours: it knows no quotes, no limits of names, no order.
FOREIGN_COOKIES = {
    "JSON": 'prefs={"theme":"dark","list":[1,2]}',
    "no value": "seen",
    "no name": "=value",
    "nothing": ";; ; ",
    "a quote that does not end": 'a="b',
    "our name in a value": "a=popbuild-0=x",
    "other letters": "näme=wért; 名=値",
    "words of a Set-Cookie": "Path=/; HttpOnly; $Version=1; expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "odd names": "a b=c; @=d; [x]=e; a,b=f; a/b=g",
    "hundreds": "; ".join(f"c{number}={'x' * 50}" for number in range(180)),
    "a large one": "big=" + "x" * 4_090,
}


@pytest.mark.parametrize("foreign", FOREIGN_COOKIES.values(), ids=FOREIGN_COOKIES)
def test_cookies_of_other_programs(served: Served, foreign: str) -> None:
    """They stand in one header with ours, before or behind it, and say nothing about it."""
    header = foreign.encode().decode("latin-1")
    browser = {"authorization": None, "host": served.page}
    wrong = f"popbuild-{served.port}=of-another-start"
    for cookie in (
        f"{header}; {served.cookie}",
        f"{served.cookie}; {header}",
        f"{header};{served.cookie};{header}",
        f"{wrong}; {header}; {served.cookie}",
    ):
        assert served.get("/api/v1/jobs", cookie=cookie, **browser).status == 200
    assert served.get("/api/v1/jobs", cookie=header, **browser).status == 401
    assert served.get("/api/v1/jobs", cookie=f"{header}; {wrong}", **browser).status == 401


def test_a_line_for_each_cookie(served: Served) -> None:
    """So a proxy may pass them on."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = f"Host: {served.page}\r\nCookie: a=b\r\nCookie: {served.cookie}\r\nCookie: c\r\n"
        connection.sendall(f"GET /api/v1/jobs HTTP/1.1\r\n{head}\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"200"


@pytest.mark.parametrize(
    "name",
    [
        "../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/seeds/first.json",
        "/etc/passwd",
        "artifacts/../../seed.json",
        "tasks/research/../../../../../.env",
        "artifacts/..%5c..%5cseed.json",
        "%00",
        "nothing",
    ],
)
def test_a_path_that_leaves(built: Workspace, served: Served, name: str) -> None:
    """No path leads out of a job, nor to a file that is none of its own."""
    built.write(".env", "SECRET=1")
    for path in (f"/api/v1/jobs/first/files/{name}", f"/static/{name}", f"/api/v1/jobs/{name}"):
        answer = served.get(path)
        assert answer.status == 404, (path, answer.text)
        assert b"root:" not in answer.body


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_changes_anything(built: Workspace, served: Served, kind: str | None) -> None:
    """What a form of another page could send is not taken."""
    body = b'{"jobs": ["new"]}'
    answer = served.ask("POST", "/api/v1/builds", body, content_type=kind)
    assert answer.status == 415
    assert built.states("new") == []


def test_what_is_sent_is_read_strictly(served: Served) -> None:
    """No field that is unknown, none twice, nothing that is no JSON, no other method."""
    for body in (b"", b"{", b'{"jobs": ["first"], "jobs": []}', b'{"jobs": [], "x": 1}', b"[]"):
        answer = served.post("/api/v1/builds", body)
        assert answer.status == 422, answer.text
        assert set(answer.json) >= {"error", "values", "hint"}
    assert served.get("/api/v1/jobs?nonsense=1").status in (400, 422)
    assert served.get("/api/v1/jobs?page=1&page=2").status == 422
    assert served.get("/api/v1/jobs?page=%D9%A1").status == 400
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = served.ask(method, "/api/v1/jobs", b"{}", content_type="application/json")
        assert answer.status == 405, method


def test_too_much(served: Served) -> None:
    """A body that is too large is refused before it is read, and one without a length when it has
    become too large."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = f"Host: {served.host}\r\nAuthorization: Bearer {served.token}\r\n"
        head += "Content-Type: application/json\r\n"
        length = f"POST /api/v1/jobs HTTP/1.1\r\n{head}Content-Length: 999999999\r\n\r\n"
        connection.sendall(length.encode())
        assert connection.makefile("rb").readline().split()[1] == b"413"
    chunks = b"400000\r\n" + b" " * 0x400000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        start = f"POST /api/v1/jobs HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
        try:
            connection.sendall(start.encode() + chunks * 6 + b"0\r\n\r\n")
            answered = connection.makefile("rb").readline()
        except OSError:  # the server has answered, and hung up on us
            answered = b"HTTP/1.1 413"
        assert answered.split()[1] == b"413", answered


def test_every_answer_is_guarded(served: Served) -> None:
    """The headers that keep a browser from running anything are on every answer, errors too."""
    asked = [served.get(path) for path in ("/", "/api/v1/jobs", "/nothing", "/static/live.js")]
    asked += [served.get("/", authorization=None), served.get("/", host="evil.example")]
    for answer in asked:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_beyond_the_loopback(workspace: Workspace) -> None:
    """Others are let in only by an explicit address, which says so, under the names that were
    given; a chosen token has to be long."""
    refused = workspace.popbuild("serve", "--port", "0", "--name", "here.example")
    assert (refused.code, "--host" in refused.err) == (3, True)
    short = workspace.popbuild("serve", "--port", "0", env={"POPBUILD_TOKEN": "secret"})
    assert (short.code, "too short" in short.err) == (3, True)
    chosen = {"POPBUILD_TOKEN": "a-token-that-is-long-enough"}
    options = ("--host", "0.0.0.0", "--name", "here.example")  # noqa: S104 - that is the point
    running = workspace.start("popbuild", "serve", "--port", "0", *options, env=chosen)
    running.wait_for("Ctrl-C ends it")
    assert "warning: others reach this address" in running.out
    port = int(running.out.partition("here.example:")[2].partition("/")[0])
    there = Served(port, chosen["POPBUILD_TOKEN"])
    assert there.get("/api/v1/jobs", host=f"here.example:{port}").status == 200
    assert chosen["POPBUILD_TOKEN"] not in running.out
    asked = f"/?token={there.token}"
    plain = there.get(asked, host=f"here.example:{port}").headers["set-cookie"]
    proxy = there.get(asked, host="here.example", x_forwarded_proto="https").headers["set-cookie"]
    assert proxy == f"{plain}; Secure"
    # No browser keeps the one that stays the same: the next start gives another cookie.
    assert there.token not in plain
    given = {"authorization": None, "cookie": plain.partition(";")[0]}
    assert there.get("/api/v1/jobs", host=f"here.example:{port}", **given).status == 200
    assert there.get("/api/v1/jobs", **given).status == 401
    assert there.get("/api/v1/jobs").status == 200  # by its loopback, which no page elsewhere has
    assert there.get("/api/v1/jobs", host=f"evil.example:{port}").status == 421
    # Behind a proxy with TLS: the browser names it without a port.
    for origin, status in (
        ("https://here.example", 200),
        ("http://here.example", 200),
        ("https://evil.example", 403),
        ("https://127.0.0.1", 403),
        (f"http://127.0.0.1:{port}", 403),
    ):
        answer = there.get("/api/v1/jobs", host="here.example", origin=origin)
        assert answer.status == status, origin
    running.interrupt()
    assert running.wait().code == 0


def test_the_page_at_127_0_0_1(workspace: Workspace) -> None:
    """For a browser that does not find the drawn name, where it is asked for: the cookie
    counts there, and what that means is said."""
    options = ("--port", "0", "--host", "127.0.0.1")
    with workspace.start("popbuild", "serve", *options) as running:
        running.wait_for("Ctrl-C ends it")
        assert "warning: other users' servers on 127.0.0.1 are sent the cookie" in running.out
        there = served_by(running)
        assert there.name == "127.0.0.1"
        answer = there.get(f"/?token={there.token}", authorization=None)
        assert (answer.headers["location"], there.cookie in answer.headers["set-cookie"]) == (
            "/",
            True,
        )
        assert there.get("/", authorization=None, cookie=there.cookie).status == 200
        running.interrupt()
        assert running.wait().code == 0


def test_programs_are_told_where_to_ask(workspace: Workspace) -> None:
    """As JSON: the page's address for a browser, the API's for a program, which need not find the
    drawn name, and the token."""
    with workspace.start("popbuild", "serve", "--port", "0", "--json") as running:
        running.wait_for("}\n")
        told = json.loads(running.out)
        assert set(told) == {"root", "address", "api", "token"}
        assert told["address"].endswith(f"/?token={told['token']}")
        there = Served(int(told["api"].rpartition(":")[2]), told["token"])
        assert told["api"] == f"http://{there.host}"
        assert there.get("/api/v1/jobs").status == 200
        running.interrupt()
        assert running.wait().code == 0


def test_all_addresses_without_a_name(workspace: Workspace) -> None:
    """This machine reaches it by the address that is printed; others need a name, which is said."""
    options = ("--port", "0", "--host", "0.0.0.0")  # noqa: S104 - that is the point
    with workspace.start("popbuild", "serve", *options) as running:
        running.wait_for("Ctrl-C ends it")
        assert "--name says how they call this one" in running.out
        there = served_by(running)
        for host in ("127.0.0.1", "localhost", "[::1]"):
            assert there.get("/api/v1/jobs", host=f"{host}:{there.port}").status == 200
        for host in ("evil.example", "192.0.2.1"):
            assert there.get("/api/v1/jobs", host=f"{host}:{there.port}").status == 421
        running.interrupt()
        assert running.wait().code == 0


def test_a_key_is_not_shown(workspace: Workspace) -> None:
    """A key of this root's environment is in no page and no answer, though a seed may hold it."""
    key = "sk-canary-5f1c7c1e0b6e4b0f9a5d"
    workspace.write(".env", f"OPENAI_API_KEY={key}\n")
    workspace.seed("first", {"topic": key, "tone": key})
    with serve(workspace) as other:
        for path in ("/", "/jobs/first", "/plan?job=first", "/api/v1/jobs/first", "/pipelines"):
            answer = other.get(path)
            assert answer.status == 200, answer.text
            assert key not in answer.text, path
