"""A model's reasoning in its answer, by the tags around it. The rule is in `docs/tasks.md`.

Most providers keep reasoning apart. Servers of open models often do not, or leave out the opening
tag, which is already in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

Spans = Callable[[str], Iterable[tuple[int, int, bool]]]

# The tags of vLLM's, SGLang's and llama.cpp's parsers, and of models' own templates. As names in
# <…>, also <seed:think>, <mm:think>, <ifm|think>, with attributes, in any case:
_ALWAYS = "think|thinking|antthinking"
# An answer may use these tags itself, so they count only at its beginning:
_AT_START = (
    "thoughts?|reasoning|reason|reflection|analysis|scratchpad|inner_monologue|inner_thoughts"
    "|internal_thoughts|chain_of_thought|cot"
)
_NAMED = (
    rf"<(?P<slash>/?)(?P<name>(?:\w{{1,20}}[:|])?(?i:{_ALWAYS}|{_AT_START}))(?:\s[^<>]{{0,200}})?>"
)
_HARMONY = r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*"
_HEADER_END = r"\b[^<>]{0,40}(?:<\|constrain\|>[^<>]{0,40})?<\|message\|>"
# Special tokens: how reasoning opens, and how it closes.
TOKENS = (
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|channel>\s*thought\b", r"<channel\|>"),  # Gemma
    (r"<\|think(?:ing)?\|>", r"<\|/think(?:ing)?\|>"),
    (r"<unused94>\s*thought\b", r"<unused95>"),  # MedGemma
    (r"\[unused16\]", r"\[unused17\]"),  # Pangu
    # gpt-oss: channels, of which the last one is the answer.
    (
        rf"{_HARMONY}(?:analysis|commentary){_HEADER_END}",
        rf"(?:<\|end\|>\s*)?{_HARMONY}final{_HEADER_END}",
    ),
)
_TAGS = re.compile(
    "|".join(
        [
            f"(?=[<\\[◁])(?:(?P<n>{_NAMED})",
            *(f"(?P<o{number}>{opening})" for number, (opening, _) in enumerate(TOKENS)),
            *(f"(?P<c{number}>{closing})" for number, (_, closing) in enumerate(TOKENS)),
        ]
    )
    + ")"
)
# Every tag has one of these: for most answers one quick search is enough.
_HINT = re.compile(
    "think|thought|reason|reflection|scratchpad|monologue|inner_|channel|unused|analysis|cot",
    re.IGNORECASE,
)
# The same channels from servers that leave out the tokens and keep the names.
_BARE_CHANNELS = re.compile(r"\s*analysis.*?assistant\s?final(?:json)?", re.DOTALL)
# What may surround an answer behind reasoning.
_AROUND = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>)?",
        r"<\|START_(?:RESPONSE|TEXT)\|>(.*?)(?:<\|END_(?:RESPONSE|TEXT)\|>)?",
        r"<answer>(.*)</answer>",
        r"<response>(.*)</response>",
        r"(.*?)<\|(?:return|end)\|>",
    )
)
_BLANK = re.compile(r"[\s\ufeff\u200b]*")
_QUOTES = "`\"'\u201c\u201d\u2018\u2019"
_BEGINS = re.compile(r"[ \t]*(?:\r?\n|[\[{]|\Z)")
_LOOK_AROUND = 200  # characters of a line that show whether a tag is only mentioned
_MAX_ROUNDS = 16  # closing tags without an opening one; each needs another search


@dataclass(frozen=True)
class Tag:
    """A tag around reasoning. `name` is the same for the one that opens and the one that closes."""

    start: int
    end: int
    text: str
    name: str
    closes: bool
    counts_anywhere: bool


@dataclass(frozen=True)
class WithoutReasoning:
    """An answer without its reasoning. `in_place` is the same with blanks for what was left out, so
    that lines and columns stay; `reasoning` counts the characters left out; `unclosed` is the tag
    that never closes. `is_sure` is false where a closing tag stood alone: it may have been part of
    a document that is cut off."""

    text: str
    in_place: str
    reasoning: int = 0
    unclosed: Tag | None = None
    is_sure: bool = True


def without(text: str, content: Spans) -> WithoutReasoning:
    """Take the reasoning out of an answer. `content` gives the spans of code and documents, in
    which tags are content, and whether each is whole: in a broken one, a closing tag may end
    reasoning that held a draft."""
    if not _HINT.search(text):
        return WithoutReasoning(text, text)
    bare = _BARE_CHANNELS.match(text)
    start = bare.end() if bare else 0
    cuts = [(0, start)] if start else []
    tags = [tag for tag in _tags(text, start) if not _is_mention(text, tag)]
    is_sure = True
    for _ in range(_MAX_ROUNDS):
        start, unclosed = _leading(text, start, tags, cuts)
        if unclosed:
            return _cut(text, cuts, unclosed)
        tags = [tag for tag in tags if tag.start >= start]
        spans = sorted(content(text[start:])) if tags else []
        whole = [(first + start, end + start) for first, end, is_whole in spans if is_whole]
        every = [(first + start, end + start) for first, end, _ in spans]
        outside = _outside(tags, whole)
        sure = {tag.start for tag in _outside(tags, every)}
        lone = _first_lone(text, outside, sure)
        if lone is None:
            return replace(_cut(text, cuts, _blocks(outside, sure, cuts)), is_sure=is_sure)
        is_sure = False
        cuts.append((start, lone.end))
        start = lone.end
        tags = [tag for tag in tags if tag.start >= start]
    return _cut(text, cuts, tags[0] if tags else None)


def _tags(text: str, start: int) -> list[Tag]:
    found = []
    for match in _TAGS.finditer(text, start):
        name = match["name"]
        if name is not None:
            plain = re.split("[:|]", name.casefold())[-1]
            anywhere = plain in _ALWAYS.split("|")
            tag = name.casefold(), match["slash"] == "/", anywhere
        else:
            group = match.lastgroup or ""
            tag = group[1:], group[0] == "c", True
        found.append(Tag(match.start(), match.end(), match[0], *tag))
    return found


def _is_mention(text: str, tag: Tag) -> bool:
    """Whether a tag is only mentioned: inside a code span on its line, or between quotes."""
    before = text[max(0, tag.start - _LOOK_AROUND) : tag.start].rpartition("\n")[2]
    after = text[tag.end : tag.end + _LOOK_AROUND].partition("\n")[0]
    if before.count("`") % 2 and "`" in after:
        return True
    is_quoted = before[-1:] in _QUOTES and after[:1] in _QUOTES and before and after
    return bool(is_quoted) and not before[-2:-1].isalnum() and not after[1:2].isalnum()


def _leading(
    text: str, start: int, tags: list[Tag], cuts: list[tuple[int, int]]
) -> tuple[int, Tag | None]:
    """Where the blocks end that an answer begins with, one behind the other."""
    closing = _closing(tags)
    for number, tag in enumerate(tags):
        if tag.start < start:
            continue
        blank = _BLANK.match(text, start)
        assert blank is not None
        if tag.closes or tag.start != blank.end():
            break
        end = closing[number]
        if end is None:
            return start, tag
        cuts.append((start, end))
        start = end
    return start, None


def _outside(tags: list[Tag], spans: list[tuple[int, int]]) -> list[Tag]:
    found, number = [], 0
    for tag in tags:
        while number < len(spans) and spans[number][1] <= tag.start:
            number += 1
        if number == len(spans) or tag.start < spans[number][0]:
            found.append(tag)
    return found


def _first_lone(text: str, tags: list[Tag], sure: set[int]) -> Tag | None:
    """The first closing tag without an opening one before it. In a broken document it must be
    followed by a new line or a bracket: otherwise it may be inside of a string."""
    opened: set[str] = set()
    for tag in tags:
        if not tag.closes:
            opened.add(tag.name)
        elif tag.name not in opened and (tag.start in sure or _BEGINS.match(text, tag.end)):
            return tag
    return None


def _blocks(tags: list[Tag], sure: set[int], cuts: list[tuple[int, int]]) -> Tag | None:
    """Add the later blocks outside of documents to `cuts`; gives the tag that never closes."""
    at = 0
    for tag, end in zip(tags, _closing(tags), strict=True):
        if tag.start < at or tag.closes or not tag.counts_anywhere or tag.start not in sure:
            continue
        if end is None:
            return tag
        cuts.append((tag.start, end))
        at = end
    return None


def _closing(tags: list[Tag]) -> list[int | None]:
    """Where the block of each opening tag ends: at its closing tag, or at the next one where inner
    blocks were never closed."""
    found: list[int | None] = [None] * len(tags)
    opened: dict[str, list[int]] = {}
    for number, tag in enumerate(tags):
        stack = opened.setdefault(tag.name, [])
        if not tag.closes:
            stack.append(number)
        elif stack:
            found[stack.pop()] = tag.end
    following: dict[str, int] = {}
    for number in reversed(range(len(tags))):
        tag = tags[number]
        if tag.closes:
            following[tag.name] = tag.end
        elif found[number] is None:
            found[number] = following.get(tag.name)
    return found


def _cut(text: str, cuts: list[tuple[int, int]], unclosed: Tag | None) -> WithoutReasoning:
    if not cuts:
        return WithoutReasoning(text, text, 0, unclosed)
    kept, blank, at = [], [], 0
    for start, end in [*cuts, (len(text), len(text))]:
        kept.append(text[at:start])
        blank += [kept[-1], _blank(text[start:end])]
        at = end
    plain, in_place = "".join(kept), "".join(blank)
    for around in _AROUND:
        if match := around.fullmatch(in_place, *_ends(in_place)):
            in_place = _blank(in_place[: match.start(1)]) + match[1]
        if match := around.fullmatch(plain, *_ends(plain)):
            plain = match[1]
    return WithoutReasoning(plain, in_place, sum(end - start for start, end in cuts), unclosed)


def _ends(text: str) -> tuple[int, int]:
    """Where a text begins and ends without the blanks around it."""
    end = len(text.rstrip())
    return min(len(text) - len(text.lstrip()), end), end


def _blank(text: str) -> str:
    """Blanks with as many lines, and as many characters on the last."""
    return "\n" * text.count("\n") + " " * (len(text) - text.rfind("\n") - 1)
