"""Where `popbuild serve` listens, under which names, and for which of them there is a cookie."""

from __future__ import annotations

import errno
import re
import socket
from typing import Any

import pytest

from popbuild.base.errors import UsageError
from popbuild.web.hosts import Binding, draw_names, open_sockets

ALL = "0.0.0.0"  # noqa: S104 - a row of the table
HERE = {"127.0.0.1:87", "localhost:87", "[::1]:87"}
OWN = "OWN.localhost:87"

# What is given; the addresses it listens at, all names, those with a cookie, the one printed.
ROWS: dict[str, tuple[Binding, set[str], set[str], set[str], str]] = {
    "nothing": (Binding(port=87), {"127.0.0.1", "::1"}, {OWN, *HERE}, {OWN}, OWN),
    "this machine": (Binding("127.0.0.1", 87), {"127.0.0.1", "::1"}, HERE, HERE, "127.0.0.1:87"),
    "its name": (Binding("localhost", 87), {"127.0.0.1", "::1"}, HERE, HERE, "localhost:87"),
    "another of its addresses": (
        Binding("127.0.0.2", 87),
        {"127.0.0.2"},
        {"127.0.0.2:87"},
        {"127.0.0.2:87"},
        "127.0.0.2:87",
    ),
    "all": (Binding(ALL, 87), {ALL, "::1"}, {OWN, f"{ALL}:87", *HERE}, {OWN}, OWN),
    "all, of IPv6 too": (Binding("::", 87), {"::"}, {OWN, "[::]:87", *HERE}, {OWN}, OWN),
    "all, and a name": (
        Binding(ALL, 87, ("Here.example",)),
        {ALL, "::1"},
        {OWN, f"{ALL}:87", *HERE, "here.example:87", "here.example"},
        {OWN, "here.example:87", "here.example"},
        "here.example:87",
    ),
    "one, and a name": (
        Binding("192.0.2.1", 87, ("here.example",)),
        {"192.0.2.1"},
        {"192.0.2.1:87", "here.example:87", "here.example"},
        {"192.0.2.1:87", "here.example:87", "here.example"},
        "here.example:87",
    ),
    "the port that goes without saying": (
        Binding("here.example", 80),
        {"here.example"},
        {"here.example:80", "here.example"},
        {"here.example:80", "here.example"},
        "here.example:80",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_names(row: tuple[Binding, set[str], set[str], set[str], str]) -> None:
    """A name that other servers of this machine have too has a cookie only where it was asked for,
    and the drawn name is not given away."""
    place, addresses, known, with_cookie, shown = row
    names = draw_names(place, place.port)
    drawn = names.own or ""

    def as_row(hosts: Any) -> set[str]:
        return {OWN if each == drawn else each for each in hosts}

    assert set(place.addresses) == addresses
    assert as_row(names.known) == known
    assert as_row(names.with_cookie) == with_cookie
    assert as_row([names.shown]) == {shown}
    assert as_row(names.told) == known - {OWN}
    assert (names.own is not None) == (OWN in known)
    assert not names.api.startswith(drawn or "OWN")


def test_each_start_draws_another() -> None:
    """One that no page finds by trying, and that a browser takes for a host's name."""
    drawn = {draw_names(Binding(), 80).own for _ in range(100)}
    assert len(drawn) == 100
    assert all(re.fullmatch(r"[a-z2-7]{16}\.localhost:80", each or "") for each in drawn)
    names = draw_names(Binding(), 80)
    assert names.own is not None
    assert names.own.removesuffix(":80") in names.with_cookie
    assert names.own.removesuffix(":80") not in names.told


def _second_address_fails(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Have the system refuse to listen at ::1 as often as this."""
    left = iter(range(times))

    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and next(left, None) is not None:
                raise OSError(number, "as the system says")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Refusing)


def test_both_addresses_have_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where free ports of the one are taken at the other."""
    _second_address_fails(monkeypatch, errno.EADDRINUSE, 3)
    sockets = open_sockets(Binding(port=0))
    names = [each.getsockname()[:2] for each in sockets]
    for each in sockets:
        each.close()
    port = names[0][1]
    assert names == [("127.0.0.1", port), ("::1", port)]


def test_the_other_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a neighbour, to whom a browser would go: there is no server, then."""
    _second_address_fails(monkeypatch, errno.EADDRINUSE, 100)
    with pytest.raises(UsageError) as refused:
        open_sockets(Binding(port=0))
    assert refused.value.message == "another program listens there"
    assert refused.value.values["address"].startswith("[::1]:")


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_without_ipv6(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no ::1, no neighbour has it either: the other one will do."""
    _second_address_fails(monkeypatch, number, 100)
    (listener,) = open_sockets(Binding(port=0))
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
