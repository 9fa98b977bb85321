"""Patterns of JSON Schema: what they match, as ECMA-262 says, and what it refuses."""

from __future__ import annotations

import pytest

from popbuild.model.schema import ecma, keywords

MATCHES: list[tuple[str, str, bool]] = [
    # Sets of characters.
    (r"^\d+$", "123", True),
    (r"^\d+$", "\u0663", False),
    (r"^[^\d]$", "\u0663", True),
    (r"^\D$", "1", False),
    (r"^[\D]$", "\u0663", True),
    (r"^\w$", "é", False),
    (r"^\W$", "é", True),
    (r"^[\W]$", "_", False),
    (r"^\s$", "\ufeff", True),
    (r"^\s$", "\u2028", True),
    (r"^\s$", "\x1c", False),
    (r"^[^\s]$", "\x85", True),
    (r"^[\S\s]*$", "a\n", True),
    (r"^.$", "\u2028", False),
    (r"^.$", "\r", False),
    (r"^.$", "\x85", True),
    (r"^.$", "😀", True),
    (r"^[^]$", "\n", True),
    (r"[]", "a", False),
    (r"^[^a-z]$", "A", True),
    (r"^[a\-z]$", "-", True),
    (r"^[\w.-]+$", "a-b.c", True),
    (r"^[[]$", "[", True),
    (r"^[\b]$", "\b", True),
    (r"^[&&--]$", "&", True),
    # Characters by number and by name.
    (r"^\u{1F600}$", "😀", True),
    (r"^\u{0000000041}$", "A", True),
    (r"^\uD83D\uDE00$", "😀", True),
    (r"^[\uD83D\uDE00-\u{1F602}]$", "😁", True),
    ("^[😀-😂]$", "😁", True),
    (r"^\x41\u0042$", "AB", True),
    (r"^\cA\cj$", "\x01\n", True),
    (r"^\0$", "\0", True),
    (r"^\t\v\f\r\n$", "\t\v\f\r\n", True),
    (r"^a\/b$", "a/b", True),
    (r"^\p{Letter}+$", "éß", True),
    (r"^\p{Lu}\P{Lu}$", "Éé", True),
    (r"^\p{Script=Greek}+$", "\u03b1\u03b2\u03b3", True),
    (r"^\p{Script_Extensions=Greek}$", "\u03b1", True),
    (r"^[\p{L}\d]+$", "é1", True),
    (r"^\p{Emoji_Presentation}$", "😀", True),
    # Places.
    (r"^a$", "a\n", False),
    (r"^$", "\n", False),
    (r"b", "abc", True),
    (r"\bcaf\b", "café", True),
    (r"^\Bé", "é", True),
    (r"(?<=\$)\d", "$5", True),
    (r"(?<!\$)\d", "$5", False),
    (r"^(?=.*\d)[a-z\d]+$", "abc1", True),
    (r"^(?!a)", "a", False),
    # Groups and repetitions.
    (r"^(?<year>\d{4})-\k<year>$", "2026-2026", True),
    (r"^(?<$y>a)\k<$y>$", "aa", True),
    (r"^(?:(?<n>a)|(?<n>b))\k<n>$", "bb", True),
    (r"^(a)(b)\2\1$", "abba", True),
    (r"^(?:(a)|b)\1$", "b", True),
    (r"^\1(a)$", "a", True),
    (r"^(a\1)$", "a", True),
    (r"^a{2,3}?$", "aaa", True),
    (r"^a{2}$", "aaa", False),
    (r"^(?i:a)b$", "Ab", True),
    (r"^(?i:a)b$", "AB", False),
    (r"(?m:^b$)", "a\nb", True),
    (r"^(?s:.)$", "\n", True),
    # What can only mean one thing.
    (r"^\@\-\_$", "@-_", True),
    (r"^x{a}$", "x{a}", True),
    (r"^{}$", "{}", True),
    (r"^[\w-x]$", "-", True),
    # What ECMA-262 does not know is Python's, as it was before.
    (r"(?i)^ab$", "AB", True),
    (r"^(?P<n>a)(?P=n)$", "aa", True),
    (r"\Aab\Z", "ab", True),
    (r"^a{,2}$", "aa", True),
    (r"^[[:alpha:]]$", "x", True),
    (r"^(?>a+)b$", "aab", True),
    (r"^a++$", "aa", True),
]


@pytest.mark.parametrize(("pattern", "text", "wanted"), MATCHES)
def test_what_a_pattern_matches(pattern: str, text: str, wanted: bool) -> None:
    """As ECMA-262 says, with the flag u, and not as Python does."""
    assert keywords.matches(pattern, text) is wanted


REFUSED = {
    "(?i)a": "character 1",
    "(?P<n>a)": "character 1",
    "a(?>b)": "character 2",
    "(?#c)": "character 1",
    "(?(1)a)": "character 1",
    "a++": "character 3",
    "a**": "character 3",
    "*a": "character 1",
    "^*": "character 2",
    "a{2}{3}": "character 5",
    "a{3,2}": "out of order",
    "a{,5}": "least number",
    r"\Aa": r"\A means nothing",
    r"a\Z": r"\Z means nothing",
    r"\a": r"\a means nothing",
    r"\01": r"\0 means nothing",
    r"\cé": r"\c means nothing",
    "\\": "means nothing",
    r"\u12": "number of a character",
    r"\u{110000}": "number of a character",
    r"\p{Nonsense}": "property",
    r"\2(a)": "names no group",
    r"\k<x>": "names no group",
    "(?<1>a)": "not the name of a group",
    "(?i-i:a)": "twice",
    "(": "not closed",
    ")": "without its (",
    "[a": "not closed",
    "[z-a]": "out of order",
    "[[:alpha:]]": "not a class",
    r"\-": "needs no backslash",
    "x{a}": "without a backslash",
    "(?=a)*": "lookahead",
    "a" * 30_000: "longer than 20,000",
}


@pytest.mark.parametrize("pattern", REFUSED, ids=lambda pattern: pattern[:20])
def test_what_is_no_pattern(pattern: str) -> None:
    """Each is refused where it stands, in words."""
    assert REFUSED[pattern] in (ecma.problem(pattern) or "")


@pytest.mark.parametrize("pattern", dict.fromkeys(row[0] for row in MATCHES[:-11]))
def test_what_is_one(pattern: str) -> None:
    """What matches by ECMA-262 is a pattern by it too."""
    assert ecma.problem(pattern) is None


def test_how_long_a_pattern_may_be() -> None:
    longest = "a" * ecma._MAX_CHARS
    assert ecma.problem(longest) is None
    assert ecma.problem(longest + "a") == f"longer than {ecma._MAX_CHARS:,} characters"


def test_what_is_a_slip_in_a_pattern() -> None:
    """It means something, though hardly what its author thought."""
    found = ecma.problem(r"[\d-x]")
    assert found is not None
    assert found.startswith("a range from or to a set, with - for itself")
