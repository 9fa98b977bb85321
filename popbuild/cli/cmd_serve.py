"""`popbuild serve`."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from popbuild.base.errors import UsageError
from popbuild.cli.options import Given, command, flag, option, root_of

if TYPE_CHECKING:
    from popbuild.web.serve import Address

_PORTS = 65_535


@command(
    "show jobs in a browser",
    option("--port", value="N", help="where to listen (8710); 0 takes a free one"),
    option("--host", value="ADDRESS", help="listen beyond 127.0.0.1: see docs/serve.md"),
    option(
        "--name",
        value="NAME",
        repeated=True,
        help="a host name by which --host is reached; can be repeated",
    ),
    flag("--open", help="open the page in a browser"),
)
def _serve(given: Given) -> int:
    """Show jobs in a browser, as they are and as they change: what runs, what failed and why,
    what it cost, what a build would do; submit, build, stop, retry, decide. One process on
    127.0.0.1 and ::1. Each start draws a host name and a token, and prints an address with both.
    Ctrl-C ends it, and the builds that it started; nothing is lost."""
    from popbuild.web.hosts import PORT, Binding
    from popbuild.web.serve import opened, serve

    host = given.host or None
    port = PORT if given.port is None else _port(given.port)
    if given.name and host is None:
        raise UsageError("--name is for an address beyond 127.0.0.1", {}, hint="--host ADDRESS")
    root = root_of(given)

    def say(address: Address) -> None:
        if given.open:
            until_the_end.enter_context(opened(root, address.page))
        if given.json:
            # Not print_json: it would mask a token of the environment.
            told = {"address": address.page, "api": address.api, "token": address.token}
            print(json.dumps({"root": str(root.path), **told}), flush=True)
        else:
            print(f"popbuild serves {root.path}", "open", f"  {address.page}", sep="\n")
            _warn(host, given)
            print("Ctrl-C ends it", flush=True)

    token = os.environ.get("POPBUILD_TOKEN") or None
    with contextlib.ExitStack() as until_the_end:
        return serve(root, Binding(host, port, tuple(given.name or ()), token), say)


def _warn(host: str | None, given: Given) -> None:
    from popbuild.web.hosts import is_loopback, is_wildcard

    if host is None:
        return
    if is_loopback(host):
        print(f"warning: other users' servers on {host} are sent the cookie of this page")
    elif is_wildcard(host) and not given.name:
        print("warning: other machines are refused until --name says how they call this one")
    else:
        print("warning: others reach this address; what goes there is not encrypted")


def _port(given: str) -> int:
    if not (given.isascii() and given.isdecimal()) or len(given) > 5 or int(given) > _PORTS:
        raise UsageError(f"--port is a number up to {_PORTS}", {"found": given or "nothing"})
    return int(given)
