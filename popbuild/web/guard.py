"""Who may ask, decided before anything is looked up: host, origin, token, kind of request.

A page on the web can make a browser send requests to this server, and even read the answers if it
makes one of its names point to 127.0.0.1. So `Host` must be one of our names, with the port; an
`Origin`, if there is one, must have the same name; and nothing is answered without a token. A
cookie counts only under the names that it was set for: see `hosts.py`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from popbuild.base.errors import InputError, PopbuildError
from popbuild.web.hosts import Names
from popbuild.web.pages.html import render_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 17 * 1024 * 1024  # a seed of 16 MB and its envelope
LET_IN = "let_in"  # in a request's state: called once its token is found valid
_READING = ("GET", "HEAD")
_WHERE = {"allowed": "the address that popbuild serve printed, or Authorization: Bearer"}
_HINT = (
    "each start has its own name and token: open the address in the terminal where the server runs"
)
_PATH = "/=&+:;,~()!*'$@"  # not quoted in the path of an address

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types popbuild",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Refusal(Exception):
    """A request that is refused: the HTTP status, and why."""

    status: int
    error: PopbuildError


@dataclass(frozen=True)
class Guard:
    """What a request must have. `token` belongs to this start: it is in the printed address and in
    the cookie named `cookie`. `chosen` stays the same for all starts, and is never set as a cookie:
    a browser would send it to the next program that listens on the port."""

    names: Names
    token: str
    cookie: str
    chosen: str | None = None

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise a Refusal unless this request may be answered."""
        self.check_host(headers)
        self._check_origin(method, path, headers)
        given = self._tokens_of(headers)
        if not given:
            raise refusal(401, "the token is missing", _WHERE, _HINT)
        if not any(map(self.is_token, given)):
            raise refusal(401, "the token is wrong", _WHERE, _HINT)

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raise a Refusal unless the request names this server."""
        host = _host_of(headers)
        if self.names.is_of_another_start(host):
            raise refusal(421, "this is the address of another start", {"host": host}, _HINT)
        if host not in self.names.known:
            told = ", ".join(sorted(self.names.told))
            raise refusal(421, "this server has another name", {"host": host, "known": told})

    def _check_origin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        host = _host_of(headers)
        ours = {f"http://{host}", f"https://{host}" if host in self.names.tls else None}
        if origin is not None and origin.lower() not in ours:
            raise refusal(403, "another page may not ask", {"origin": origin})
        site = headers.get("sec-fetch-site", "none")
        # A link from elsewhere may lead to a page; other requests from elsewhere are refused.
        to_look = method in _READING and headers.get("sec-fetch-mode", "navigate") == "navigate"
        is_page = to_look and not path.startswith("/api/")
        if site not in ("none", "same-origin") and not is_page:
            raise refusal(403, "another page may not ask", {"sec-fetch-site": site})

    def _tokens_of(self, headers: Mapping[str, str]) -> list[str]:
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return [value.strip()] if value.strip() else []
        if _host_of(headers) not in self.names.with_cookie:
            return []
        return list(cookies_named(self.cookie, headers.get("cookie", "")))

    def is_token(self, given: str) -> bool:
        """Whether this is the token of this start, or the chosen one."""
        known = (self.token, self.token if self.chosen is None else self.chosen)
        return any(hmac.compare_digest(given.encode(), each.encode()) for each in known)

    def cookie_for(self, headers: Mapping[str, str]) -> str | None:
        """The `Set-Cookie` for a browser; None under a name that gets no cookie."""
        if _host_of(headers) not in self.names.with_cookie:
            return None
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        # `Secure` keeps the cookie of a proxy's page from servers without its certificate.
        return f"{cookie}; Secure" if headers.get("x-forwarded-proto") == "https" else cookie


def cookies_named(name: str, header: str) -> Iterator[str]:
    """The values of this name in a `Cookie` header as browsers send it (RFC 6265, 5.4). It may hold
    cookies of other programs, of any form and under our name, so the first one need not be ours."""
    for each in header.split(";"):
        found, _, value = each.partition("=")
        if found.strip(" \t") == name:
            yield value.strip(" \t")


def _host_of(headers: Mapping[str, str]) -> str:
    return headers.get("host", "").lower()


def refusal(
    status: int, message: str, values: Mapping[str, object], hint: str | None = None
) -> Refusal:
    return Refusal(status, InputError(message, values, hint))


class Safety:
    """Runs before all routes: refuses requests, limits their size, adds the headers."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":  # no web sockets here
            await self._judged(scope)(scope, _limited(receive), _with_headers(send))

    def _judged(self, scope: Scope) -> ASGIApp:
        """The application, or the answer to a request that does not get that far."""
        headers = _headers_of(scope)
        method, path = scope["method"], scope["path"]
        try:
            moved = self._without_token(scope, headers) if method in _READING else None
            if moved is not None:
                return moved
            self._guard.check(method, path, headers)
            _let_in(scope)
            _check_size(headers)
        except Refusal as refused:
            return _answer_to(refused, path, headers)
        return self._app

    def _without_token(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """Move the token from the address into a cookie, and redirect to the address without it, so
        that it does not stay in the browser's history or in a copied address. Under a name without
        a cookie, redirect to the name that has one."""
        words = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in words if name == "token"), None)
        if given is None:
            return None
        self._guard.check_host(headers)
        if not self._guard.is_token(given):
            raise refusal(401, "the token is wrong", _WHERE, _HINT)
        rest = [(name, value) for name, value in words if name != "token"]
        # Not "//elsewhere": a path that begins like that would lead to another host.
        target = quote("/" + scope["path"].lstrip("/"), safe=_PATH)
        cookie = self._guard.cookie_for(headers)
        if cookie is None:
            target = f"http://{self._guard.names.own}{target}"
            rest.append(("token", self._guard.token))
        target += f"?{urlencode(rest)}" if rest else ""
        more = {"content-type": "text/plain", "location": target}
        return Response(b"", 303, more if cookie is None else {**more, "set-cookie": cookie})


def _answer_to(refused: Refusal, path: str, headers: Mapping[str, str]) -> Response:
    if path.startswith("/api/"):
        body = json.dumps(refused.error.as_json())
        return Response(body, refused.status, media_type="application/json")
    if "text/html" in headers.get("accept", ""):
        # It shows nothing of the root: anyone may have asked.
        html = render_page("refused.html", error=refused.error).encode("utf-8", "replace")
        return Response(html, refused.status, media_type="text/html")
    return Response(f"{refused.error}\n", refused.status, media_type="text/plain")


def _let_in(scope: Scope) -> None:
    told = scope.get("state", {}).get(LET_IN)
    if told is not None:
        told()


def _headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request. One that is there twice counts as empty, except `Cookie`: a proxy
    may pass on each cookie on its own line, as HTTP/2 does (RFC 9113, 8.2.3)."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in found:
            text = f"{found[key]}; {text}" if key == "cookie" else ""
        found[key] = text
    return found


def _check_size(headers: Mapping[str, str]) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise _too_large()


def _too_large() -> Refusal:
    return refusal(413, "the request is too large", {"allowed": f"{MAX_BODY_BYTES:,} bytes"})


def _limited(receive: Receive) -> Receive:
    """`receive`, which refuses a body without a length once it is too large."""
    came = 0

    async def limited() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
