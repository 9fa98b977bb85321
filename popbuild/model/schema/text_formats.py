"""What `format` asserts of a text, by the specifications that JSON Schema names for it.

Every check takes at most linear time and raises for no text: a text comes from a model, may have
millions of characters, and may hold halves of surrogate pairs. docs/design.md says why these are
ours, and not those of `jsonschema[format-nongpl]`.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from popbuild.model.schema import ecma

_MAX_HOST_CHARS = 253  # RFC 1035, 2.3.4, without the length bytes
_MAX_LABEL_CHARS = 63
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class TextFormat:
    """A format: its check, and its name with an example, for the message."""

    check: Callable[[str], bool]
    what: str


def _matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


# Dates and times: RFC 3339, 5.6, and its appendix A.

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.[0-9]++)?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    year, month, day = map(int, found.groups())
    if not 1 <= month <= len(_DAYS) or not 1 <= day <= _DAYS[month - 1]:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return leap or (month, day) != (2, 29)


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    hours, minutes, seconds, sign, offset_hours, offset_minutes = found.groups()
    if seconds != "60":
        return True
    # A leap second is the last of a day of UTC.
    offset = int(offset_hours or 0) * 60 + int(offset_minutes or 0)
    at = int(hours) * 60 + int(minutes) - (-offset if sign == "-" else offset)
    return at % (24 * 60) == 24 * 60 - 1


def _is_date_time(text: str) -> bool:
    return text[10:11] in ("T", "t") and _is_date(text[:10]) and _is_time(text[11:])


_is_duration = _matcher(
    r"P(?=[0-9T])(?:[0-9]++W|(?:[0-9]+Y)?(?:[0-9]+M)?(?:[0-9]+D)?"
    r"(?:T(?=[0-9])(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+S)?)?)"
)


# Hosts: RFC 1123, 2.1; RFC 5890 to 5893 for those in other scripts.

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490, 3.1: what stands for a dot


def _is_hostname(text: str) -> bool:
    return len(text) <= _MAX_HOST_CHARS and all(map(_is_label, text.split(".")))


def _is_label(text: str) -> bool:
    if len(text) > _MAX_LABEL_CHARS or _LABEL.fullmatch(text) is None:
        return False
    # Labels with two hyphens there exist only for other scripts.
    return text[2:4] != "--" or (text[:4].lower() == "xn--" and _is_idn_hostname(text))


def _is_idn_hostname(text: str) -> bool:
    if not 0 < len(text) <= _MAX_HOST_CHARS:
        return False
    import idna

    try:
        encoded = [idna.alabel(label).decode() for label in _DOTS.split(text)]
        for label in encoded:
            if label[:4].lower() == "xn--":
                idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return False
    return len(".".join(encoded)) <= _MAX_HOST_CHARS and all(
        _LABEL.fullmatch(label) and (label[2:4] != "--" or label[:4].lower() == "xn--")
        for label in encoded
    )


# Addresses: RFC 2673, 3.2; RFC 4291, 2.2; RFC 5321, 4.1.2 and 4.1.3; RFC 6531, 3.3.

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_is_ipv4 = _matcher(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_OTHER = "\u0080-\ud7ff\ue000-\U0010ffff"  # not ASCII, and no half of a pair
_LITERAL = re.compile(r"IPv6:(?P<ipv6>.*)|[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+|(?P<ipv4>[0-9.]+)")


@functools.cache
def _local_part(others: str) -> Callable[[str], bool]:
    atom = f"(?:{_ATEXT}|[{others}])++" if others else f"{_ATEXT}++"
    quoted = rf'"(?:[ !#-\[\]-~{others}]|\\[ -~])*+"'
    return _matcher(rf"{atom}(?:\.{atom})*+|{quoted}")


def _is_ipv6(text: str) -> bool:
    if len(text) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") or "%" in text:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_email(text: str, others: str = "", is_host: Callable[[str], bool] = _is_hostname) -> bool:
    local, at, host = text.rpartition("@")
    return bool(at) and _is_mail_host(host, is_host) and _local_part(others)(local)


def _is_mail_host(text: str, is_host: Callable[[str], bool]) -> bool:
    if not text.startswith("["):
        return is_host(text)
    found = _LITERAL.fullmatch(text[1:-1]) if text.endswith("]") else None
    if found is None:
        return False
    if found["ipv6"] is not None:
        return _is_ipv6(found["ipv6"])
    return found["ipv4"] is None or _is_ipv4(found["ipv4"])


# URIs: RFC 3986, appendices A and B; IRIs: RFC 3987, 2.2; templates: RFC 6570, 2.

_SPLIT = re.compile(
    r"(?:([^:/?#]*+):)?(?://([^/?#]*+))?([^?#]*+)(?:\?([^#]*+))?(?:#(.*+))?", re.DOTALL
)
_PLAIN = r"A-Za-z0-9._~!$&'()*+,;=\-"
_UCS = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef" + "".join(
    f"{chr(plane << 16 | (0x1000 if plane == 14 else 0))}-{chr(plane << 16 | 0xFFFD)}"
    for plane in range(1, 15)
)
_PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_PERCENT = "%[0-9A-Fa-f]{2}"
_is_scheme = _matcher("[A-Za-z][A-Za-z0-9+.-]*+")
_is_port = _matcher("(?::[0-9]*+)?")
_is_future_address = _matcher(rf"[vV][0-9A-Fa-f]++\.[{_PLAIN}:]++")


def _characters(more: str) -> Callable[[str], bool]:
    return _matcher(f"(?:[{_PLAIN}{more}]|{_PERCENT})*+")


class _Uri:
    """The check of a URI; of an IRI with `more` characters in every part."""

    def __init__(self, more: str, in_query: str) -> None:
        self._user = _characters(f":{more}")
        self._name = _characters(more)
        self._path = _characters(f":@/{more}")
        self._query = _characters(f":@/?{more}{in_query}")
        self._fragment = _characters(f":@/?{more}")

    def is_reference(self, text: str) -> bool:
        found = _SPLIT.fullmatch(text)
        if found is None:
            return False
        scheme, authority, path, query, fragment = found.groups()
        return (
            (scheme is None or _is_scheme(scheme))
            and (authority is None or self._is_authority(authority))
            and self._path(path)
            and (query is None or self._query(query))
            and (fragment is None or self._fragment(fragment))
        )

    def is_whole(self, text: str) -> bool:
        found = _SPLIT.fullmatch(text)
        return found is not None and found[1] is not None and self.is_reference(text)

    def _is_authority(self, text: str) -> bool:
        user, _, host = text.rpartition("@")
        if not self._user(user):
            return False
        if host.startswith("["):
            address, closed, port = host[1:].partition("]")
            known = _is_ipv6(address) or _is_future_address(address)
            return bool(closed) and known and _is_port(port)
        name, colon, port = host.partition(":")
        return self._name(name) and _is_port(colon + port)


_URI = _Uri("", "")
_IRI = _Uri(_UCS, _PRIVATE)
_VARIABLE = rf"(?:[A-Za-z0-9_]|{_PERCENT})++(?:\.(?:[A-Za-z0-9_]|{_PERCENT})++)*+"
_MODIFIED = rf"{_VARIABLE}(?::[1-9][0-9]{{0,3}}|\*)?"
_is_uri_template = _matcher(
    rf"(?:[!#$&'()*+,./0-9:;=?@A-Z\[\]_a-z~{_UCS}{_PRIVATE}-]|{_PERCENT}"
    rf"|\{{[+#./;?&=,!@|]?{_MODIFIED}(?:,{_MODIFIED})*+\}})*+"
)


# Pointers: RFC 6901, 3; draft-bhutton-relative-json-pointer-00, 3. UUIDs: RFC 4122, 3.

_POINTER = "(?:/(?:[^~/]|~[01])*+)*+"

TEXT_FORMATS: dict[str, TextFormat] = {
    "date": TextFormat(_is_date, "a date as in 2026-11-30"),
    "time": TextFormat(_is_time, "a time as in 09:30:00Z"),
    "date-time": TextFormat(_is_date_time, "a date-time as in 2026-11-30T09:30:00Z"),
    "duration": TextFormat(_is_duration, "a duration as in P3DT12H"),
    "email": TextFormat(_is_email, "an email address as in ada@example.com"),
    "idn-email": TextFormat(
        lambda text: _is_email(text, _OTHER, _is_idn_hostname),
        "an email address as in ada@example.com",
    ),
    "hostname": TextFormat(_is_hostname, "a hostname as in www.example.com"),
    "idn-hostname": TextFormat(_is_idn_hostname, "a hostname as in www.example.com"),
    "ipv4": TextFormat(_is_ipv4, "an IPv4 address as in 192.0.2.1"),
    "ipv6": TextFormat(_is_ipv6, "an IPv6 address as in 2001:db8::1"),
    "uri": TextFormat(_URI.is_whole, "a URI as in https://example.com/a?b=c"),
    "uri-reference": TextFormat(_URI.is_reference, "a URI reference as in ../a?b=c"),
    "iri": TextFormat(_IRI.is_whole, "an IRI as in https://example.com/ä"),
    "iri-reference": TextFormat(_IRI.is_reference, "an IRI reference as in ../ä"),
    "uri-template": TextFormat(_is_uri_template, "a URI template as in https://example.com/{id}"),
    "json-pointer": TextFormat(_matcher(_POINTER), "a JSON Pointer as in /a/0"),
    "relative-json-pointer": TextFormat(
        _matcher(rf"(?:0|[1-9][0-9]*+)(?:#|{_POINTER})"), "a relative JSON Pointer as in 1/a"
    ),
    "regex": TextFormat(
        lambda text: ecma.problem(text) is None, "a regular expression of ECMA-262"
    ),
    "uuid": TextFormat(
        _matcher("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
        "a UUID as in 123e4567-e89b-12d3-a456-426614174000",
    ),
}
