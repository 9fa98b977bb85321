"""The sockets that a server listens on: one for each address, all at one port."""

from __future__ import annotations

import errno
import socket

from popbuild.base.errors import UsageError
from popbuild.web.hosts import Binding, in_url

_BACKLOG = 4_096
_TRIES = 20  # at ports that are free at the first address and taken at the second
_NO_SUCH = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # on a machine without IPv6


def open_sockets(place: Binding) -> list[socket.socket]:
    """Listen at a place; UsageError where that is not possible. The second address may only be left
    out where the machine has none: browsers would take another program there for ours."""
    for tries_left in reversed(range(_TRIES)):
        sockets: list[socket.socket] = []
        port = place.port
        for address in place.addresses:
            try:
                sockets.append(_listen(address, port))
            except OSError as error:
                if sockets and error.errno in _NO_SUCH:
                    continue
                for each in sockets:
                    each.close()
                if error.errno == errno.EADDRINUSE and place.port == 0 and tries_left:
                    break
                raise _refused(address, port, error) from None
            port = sockets[0].getsockname()[1]
        else:
            return sockets
    raise AssertionError("the last try returns or raises")


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _refused(address: str, port: int, error: OSError) -> UsageError:
    in_use = error.errno == errno.EADDRINUSE
    return UsageError(
        "another program listens there" if in_use else "it is not possible to listen there",
        {"address": f"{in_url(address)}:{port}", "found": error.strerror},
        hint="--port 0 takes a free one" if in_use else None,
    )
