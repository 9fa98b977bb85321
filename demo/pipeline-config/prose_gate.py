"""What the demo's tasks check in a piece of prose before they let it through.

Each check is for something that small models really do: run on, repeat themselves, talk about
their answer, fall into lists, invent figures. A good answer of any model passes them all.
"""

import re
from collections.abc import Iterable

Problem = dict[str, str]

# Four words in a row are rarely said twice in a few sentences; a model in a loop says little else.
SEQUENCE_WORDS = 4
MOST_REPEATED = 0.15

TALK_ABOUT_THE_ANSWER = re.compile(
    r"^(here['\u2019]?s|here (is|are)|sure|certainly|of course|to answer|answer:|text:)"
    r"|\b(revised|rewritten|shorter) version\b|\b(two|three) sentences\b|\bas an ai\b"
    r"|\byour (question|text)\b|\bthis (text|paragraph)\b|\bthe (given|provided) text\b",
    re.IGNORECASE,
)
MARKUP = re.compile(r"^\s*([-*•#>]|\d+[.)]\s)|\*\*|__|```|</?[a-z]+>", re.MULTILINE)
# Two sentences about a market need no sums or shares, and the model has no source for them.
FIGURE = re.compile(r"[$€£]\s?\d+|\d+\s?(?:%|percent\b)|\b(?:million|billion|trillion)\b")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
WORD = re.compile(r"[\w'\u2019-]+")


def prose_problems(
    text: str,
    *,
    words: tuple[int, int],
    about: Iterable[str] = (),
    source: str = "",
    pointer: str = "/content",
) -> list[Problem]:
    """Every fault of `text`; none if it is `words` (least, most) long and well formed.

    about: phrases of which it must share a word, if any. source: where its numbers must stand;
    without one it may have no sums and no shares.
    """
    messages = [
        *length_faults(text, *words),
        *form_faults(text),
        *subject_faults(text, about),
        *number_faults(text, source),
    ]
    return [{"message": message, "pointer": pointer} for message in messages]


def length_faults(text: str, least: int, most: int) -> list[str]:
    count = len(text.split())
    if count < least:
        return [f"too short: {count} words, at least {least} are wanted"]
    if count > most:
        return [f"too long: {count} words, at most {most} are wanted"]
    return []


def form_faults(text: str) -> list[str]:
    faults = []
    # Also how an answer shows that it was cut off at its token limit.
    if not text.rstrip("\"')\u2019\u201d").endswith((".", "!", "?")):
        faults.append("does not end with a sentence")
    if MARKUP.search(text):
        faults.append("has a list or markup where plain sentences are wanted")
    if talk := TALK_ABOUT_THE_ANSWER.search(text):
        faults.append(f"talks about the answer: {talk.group(0)!r}")
    if (share := repeated_share(text)) > MOST_REPEATED:
        faults.append(f"repeats itself: {share:.0%} of its {SEQUENCE_WORDS}-word sequences")
    return faults


def subject_faults(text: str, about: Iterable[str]) -> list[str]:
    wanted = content_words(" ".join(about))
    if not wanted or wanted & content_words(text):
        return []
    return [f"is off the subject: none of {', '.join(sorted(wanted))}"]


def number_faults(text: str, source: str) -> list[str]:
    """Numbers that the source does not give were invented. Without a source: sums and shares."""
    if not source:
        figures = (found.group(0) for found in FIGURE.finditer(text))
        return [f"has a figure without a source: {figure!r}" for figure in figures]
    invented = set(NUMBER.findall(text)) - set(NUMBER.findall(source))
    return [f"the number {number} is not in the source" for number in sorted(invented)]


def repeated_share(text: str) -> float:
    """The share of four-word sequences that stood in the text before, from 0 to 1."""
    words = [word.casefold() for word in WORD.findall(text)]
    sequences = [tuple(words[i : i + SEQUENCE_WORDS]) for i in range(len(words) - 3)]
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def content_words(text: str) -> set[str]:
    """The words that can carry a subject, cut so that `store` and `storage` count as one."""
    return {word[:4] for word in re.findall(r"[a-z]{4,}|\bai\b", text.casefold())}


def sentences(text: str) -> list[str]:
    """The text cut after its full stops; `$7.5M` and `Inc. and` stay whole."""
    return [part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z])", text.strip()) if part]


def one_paragraph(text: str) -> str:
    """The text with each run of spaces and line breaks made one space."""
    return " ".join(text.split())
