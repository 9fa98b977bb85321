"""The variants of a root: which there are, what each has, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from popbuild.base import jsonio
from popbuild.base.errors import PopbuildError
from popbuild.base.paths import COMPLETE, CURRENT, MAIN_NAME, PENDING, REJECTED, Root, Variant
from popbuild.base.units import count
from popbuild.jobs.job_ids import standing_jobs
from popbuild.model.config import variants
from popbuild.model.config.snapshot import VARIANT_FILE, Snapshot, take_snapshot
from popbuild.query.text_difference import shown_text, text_difference

_STATES = (COMPLETE, REJECTED, CURRENT, PENDING)


@dataclass(frozen=True)
class VariantSummary:
    """A variant: how many files it has, what `--set` said to make it, and of which one; its jobs by
    the folder that they are in. `wrong` says why it cannot be built any more."""

    label: str
    files: int
    of: str
    said: Mapping[str, Any]
    jobs: Mapping[str, int]
    wrong: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.label,
            "files": self.files,
            "of": self.of or None,
            "set": self.said or None,
            "jobs": dict(self.jobs),
            **({"wrong": self.wrong} if self.wrong else {}),
        }

    def line(self, width: int) -> str:
        """The variant in one line."""
        parts = [self.wrong] if self.wrong else []
        parts += [count(self.files, "file")] if self.files else []
        parts += [f"{self.of or MAIN_NAME} with {' '.join(_words(self.said))}"] if self.said else []
        told = ", ".join(f"{number} {state}" for state, number in self.jobs.items() if number)
        return f"{self.label:<{width}}  {'; '.join([*parts, told or 'no jobs'])}"


def _words(said: Mapping[str, Any]) -> Iterator[str]:
    """What `--set` said, as a command line has it."""
    for key, value in said.items():
        if key == "taskConfig":
            yield from _places(value, "")
        elif key == "vars":
            yield from _places(value, "vars.")
        else:
            yield f"{key}={value}"


def _places(value: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, each in value.items():
        if isinstance(each, dict) and each:
            yield from _places(each, f"{above}{key}.")
        else:
            yield f"{above}{key}={each if isinstance(each, str) else jsonio.compact(each)}"


def summaries(root: Root) -> list[VariantSummary]:
    """The main variant, those with files, and those that have jobs."""
    main = replace(root, variant=Variant())
    used = variants.with_jobs(main)
    labels = [MAIN_NAME, *sorted({*variants.written(main), *used}, key=label_order)]
    return [_summary(main, label) for label in labels]


def label_order(label: str) -> tuple[bool, str, int]:
    """Those that `--set` made come last, and draws by their numbers."""
    name, _, draw = label.partition("@")
    return name.startswith(variants.MADE), name, int(draw) if draw.isdecimal() else 0


def _summary(main: Root, label: str) -> VariantSummary:
    jobs = _jobs_in(main if label == MAIN_NAME else replace(main, variant=Variant(label)))
    try:
        chosen = variants.choose(main, label)
        own = () if chosen.variant.draw else variants.own_files(chosen)
    except PopbuildError as error:
        return VariantSummary(label, 0, "", {}, jobs, error.message)
    made = chosen.variant
    files = 0 if made.said or label == MAIN_NAME else len(own)
    return VariantSummary(label, files, made.of, variants.said_by(made), jobs)


def _jobs_in(root: Root) -> dict[str, int]:
    """How many jobs stand in each folder."""
    standing = standing_jobs(root)
    return {state: len(standing[state]) for state in _STATES}


# In what two differ.


@dataclass(frozen=True)
class FileDifference:
    """A file that one of two variants lacks, or that both have otherwise. `lines` are those of a
    unified diff, none of a file that is no text."""

    path: str
    change: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class VariantDifference:
    """What the variant `after` has otherwise than `before`: files, then settings."""

    before: str
    after: str
    files: tuple[FileDifference, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "files": [
                {"file": each.path, "change": each.change, "difference": list(each.lines)}
                for each in self.files
            ],
        }

    def lines_of_text(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.before} -> {self.after}"
        for each in self.files:
            yield f"  {each.path} {each.change}"
            yield from (f"    {line}" for line in each.lines)
        if not self.files:
            yield "  no difference"


def compare_variants(before: Root, after: Root) -> VariantDifference:
    """In what the files and settings of two variants differ."""
    old, new = take_snapshot(before)[0], take_snapshot(after)[0]
    texts = [_with_settings(before, old), _with_settings(after, new)]
    found = differing_files(*texts)
    return VariantDifference(before.variant.label, after.variant.label, tuple(found))


def differing_files(
    before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Iterable[FileDifference]:
    """The files that differ, by their paths."""
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        change = "added" if old is None else "removed" if new is None else "changed"
        lines = text_difference(*(shown_text(path, each or b"") for each in (old, new)))
        yield FileDifference(path, change, lines)


def _with_settings(root: Root, snapshot: Snapshot) -> dict[str, bytes]:
    """A snapshot's files, and its settings as if they were files."""
    found = dict(snapshot.files)
    if snapshot.settings is not None:
        found[VARIANT_FILE] = snapshot.settings
    if root.variant.said:
        words = "".join(f"{each}\n" for each in _words(variants.said_by(root.variant)))
        found["--set"] = words.encode()
    return found
