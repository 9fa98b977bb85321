"""The frame of every page, error pages, and static files."""

from __future__ import annotations

import functools
import mimetypes
from typing import Any

from popbuild import __version__
from popbuild.base.errors import PopbuildError, UsageError
from popbuild.base.paths import PACKAGE
from popbuild.web.pages.html import render_page
from popbuild.web.server import HTML, NotAnswered, Reply, Server

_STATIC = (PACKAGE / "web" / "static", PACKAGE / "web" / "pages" / "static")


def page(server: Server, name: str, here: str, status: int = 200, **values: Any) -> Reply:
    """A page of the site."""
    text = render_page(
        name,
        here=here,
        root=str(server.root.path),
        root_name=server.root.path.name or "/",
        version=__version__,
        **{"trouble": server.eyes.trouble, **values},
    )
    return Reply(text.encode("utf-8", "replace"), HTML, status)


def error_page(server: Server, error: PopbuildError, status: int) -> Reply:
    """A page that says what is wrong, and does not say it twice."""
    trouble = server.eyes.trouble
    if trouble is not None and trouble.as_line() == error.as_line():
        trouble = None
    values = {"title": error.message, "error": error, "trouble": trouble}
    return page(server, "message.html", "", status, **values)


@functools.cache
def static(name: str) -> Reply:
    """A file of ours, by its name; NotAnswered for any other."""
    for folder in _STATIC:
        known = {path.name: path for path in folder.iterdir()}
        if name in known:
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            kind += "; charset=utf-8" if kind.startswith("text/") else ""
            return Reply(known[name].read_bytes(), kind)
    raise NotAnswered(404, UsageError("no such file", {"file": name[:80]}))
