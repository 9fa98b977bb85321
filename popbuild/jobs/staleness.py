"""A letter and today's inputs -> a verdict with every reason. Reads no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from popbuild.base import jsonio
from popbuild.jobs import job_records, members
from popbuild.jobs.fingerprint import UNREAD, Inputs, current, value_now
from popbuild.model.letter import Fingerprint, Letter
from popbuild.model.pipeline import Task
from popbuild.model.place import OWN, Place
from popbuild.model.problem import MISSING, column_items

_MAX_SHOWN = 40  # characters of a value in a reason
_MAX_UPSTREAM = 12  # tasks above that are named, of those that are stale
# Of these a fingerprint holds the value itself in the digest's place.
_LITERAL = ("answer", "output", "stages", "sample", "job", "when")
FRESH = "a fresh sample was asked for"


@dataclass(frozen=True)
class Verdict:
    """Whether a task must run, with every reason why; whether its artifact was edited by hand.
    `held` are the reasons why a frozen task would have to run, None for any other. `as_built` says
    how to look at it as it was built, where another environment is a reason. `skipped` says why its
    condition left it out, when that was decided last."""

    reasons: tuple[str, ...]
    edited: bool = False
    held: tuple[str, ...] | None = None
    as_built: str = ""
    skipped: str = ""

    @property
    def stale(self) -> bool:
        return bool(self.reasons)

    @property
    def frozen(self) -> bool:
        return self.held is not None

    @property
    def brief(self) -> str:
        """What a line of a listing has room for: the first reason, and how many there are."""
        many = len(self.reasons)
        return f"{many} reasons, {self.reasons[0]}" if many > 1 else str(self)

    def __str__(self) -> str:
        if self.held is not None:
            return f"frozen, else stale: {'; '.join(self.held)}" if self.held else "frozen"
        if self.reasons or self.edited:
            return "; ".join(self.reasons) or "edited by hand"
        return f"skipped: {self.skipped}" if self.skipped else "up to date"


NEVER_BUILT = Verdict(("never built",))
DAMAGED = Verdict(("letter damaged or altered",))  # there is a file, but not a letter
FOREIGN = Verdict(("built by another program",))  # the letter that stands there is not ours


Past = Callable[[str, str], Any]  # a dependency and its old digest -> its old value, or MISSING


def unknown_past(_dependency: str, _digest: str) -> Any:
    """A past that is unknown."""
    return MISSING


@dataclass(frozen=True)
class DependencyChange:
    """A dependency that differs: its digests, and its values as far as they are known."""

    dependency: str
    before: str
    after: str
    old: Any = MISSING
    new: Any = MISSING
    note: str = ""  # what is said in place of values

    def __str__(self) -> str:
        """`seed:/data/tone changed: formal → casual`, one line."""
        if self.before == jsonio.ABSENT:
            what, shown = "added", self._shown(self.new)
        elif self.after == jsonio.ABSENT:
            what, shown = "removed", self._shown(self.old)
        else:
            known = MISSING not in (self.old, self.new)
            what, shown = "changed", _difference(self) if known else ""
        said = shown or self.note
        return f"{self.dependency} {what}" + (f": {said}" if said else "")

    def _shown(self, value: Any) -> str:
        """A value that is on one side alone; of what the items of a list have, each."""
        return "" if value is MISSING else brief(column_items(self.dependency, value))


def changes(
    last: Fingerprint, now: Fingerprint, task: Task, inputs: Inputs, past: Past = unknown_past
) -> tuple[DependencyChange, ...]:
    """Every dependency that differs. `now` is what `current` gave for `last`."""
    if last == now:
        return ()
    found = []
    for dependency in sorted({*last, *now}):
        before, after = last.get(dependency, jsonio.ABSENT), now.get(dependency, jsonio.ABSENT)
        if before == after:
            continue
        if dependency == "endpoint":
            found.append(_endpoint_change(before, after, inputs.place))
            continue
        if members.is_about_jobs(dependency):
            whose = job_records.differing(dependency, past(dependency, before), inputs.jobs)
            jobs = ":".join(dependency.split(":")[:2]).replace("jobs-kind", "jobs")
            if not whose and jobs != dependency and last.get(jobs) != now.get(jobs):
                continue  # of other jobs, which is a reason of its own
            found.append(DependencyChange(dependency, before, after, note=whose))
            continue
        if dependency in _LITERAL or _tells_itself(dependency):
            old, new = (MISSING if each == jsonio.ABSENT else each for each in (before, after))
        else:
            old, new = past(dependency, before), value_now(dependency, task, inputs)
        note = UNREAD if after == UNREAD else ""
        found.append(DependencyChange(dependency, before, after, old, new, note))
    return tuple(found)


def _tells_itself(dependency: str) -> bool:
    """Whether the fingerprint holds what a template learned of a value in the digest's place."""
    kind, _, place = dependency.partition(":")
    return kind.endswith(("-kind", "-length")) and "/*/" not in place


def _endpoint_change(before: str, after: str, place: Place) -> DependencyChange:
    """Whether an address was added, removed or changed: to have none is to use the provider's."""
    note = place.since(None if before == jsonio.ABSENT else before)
    before, after = (jsonio.ABSENT if each == OWN else each for each in (before, after))
    return DependencyChange("endpoint", before, after, note=note)


def _difference(change: DependencyChange) -> str:
    """Two values as one phrase; of what the items of a list have, how many differ."""
    old, new = (column_items(change.dependency, each) for each in (change.old, change.new))
    if old is not change.old and new is not change.new:
        if len(old) != len(new):
            return f"{len(old):,} → {len(new):,} items"
        differing = [place for place, each in enumerate(old) if each != new[place]]
        if len(differing) != 1:
            return f"{len(differing):,} of {len(old):,} items"
        place = differing[0]
        shown = _both(old[place], new[place])
        return f"item {place}: {' → '.join(shown)}"
    return " → ".join(_both(old, new))


def brief(value: Any) -> str:
    """A value as a phrase shows it: on one line, cut after forty characters."""
    plain = isinstance(value, str) and value.isprintable() and value == value.strip() != ""
    text = value if plain else jsonio.compact(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _both(old: object, new: object) -> tuple[str, str]:
    """Two values that differ, cut so that the place shows where they begin to."""
    texts = [each if isinstance(each, str) else jsonio.compact(each) for each in (old, new)]
    pairs = enumerate(zip(*texts, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), min(map(len, texts)))
    if same <= _MAX_SHOWN // 2 or max(map(len, texts)) <= _MAX_SHOWN:
        return brief(old), brief(new)
    start = same - _MAX_SHOWN // 4
    return brief("…" + texts[0][start:]), brief("…" + texts[1][start:])


def now_of(letter: Letter, task: Task, inputs: Inputs) -> dict[str, str]:
    """Today's fingerprint, to be held against a letter's."""
    return current(letter.fingerprint, task, inputs, skipped=bool(letter.skipped))


def verdict_of(
    task: Task,
    letter: Letter | None,
    inputs: Inputs,
    artifact: str | None,
    stale_upstream: tuple[str, ...] = (),
    past: Past = unknown_past,
    *,
    asked: str | None = None,
    frozen: bool = False,
) -> Verdict:
    """Say whether a task must run, with every reason why. `artifact` is the digest of the main
    artifact that stands there. `stale_upstream` names needed tasks that are themselves to be
    rebuilt; `past` knows the last build's values; `asked` is why a person wants it built."""
    if letter is None:
        return NEVER_BUILT
    now = now_of(letter, task, inputs)
    found = changes(letter.fingerprint, now, task, inputs, past)
    if asked == FRESH:  # which is why it is at another draw: said once
        found = tuple(each for each in found if each.dependency != "sample")
    if inputs.waits and any(map(members.is_about_jobs, letter.fingerprint)):
        # What these jobs will give is not known yet.
        reasons = [str(each) for each in found if not members.is_about_jobs(each.dependency)]
        reasons += inputs.waits
    else:
        reasons = [str(each) for each in found]
    if letter.refinements > task.refinements:
        reasons.append(f"built with {letter.refinements} refinements, now {task.refinements}")
    if artifact is None and not letter.skipped:
        reasons.append("artifact missing")
    reasons.extend(f"upstream {name} is stale" for name in stale_upstream[:_MAX_UPSTREAM])
    if len(stale_upstream) > _MAX_UPSTREAM:
        reasons.append(f"upstream {len(stale_upstream) - _MAX_UPSTREAM} more are stale")
    reasons = [asked, *reasons] if asked else reasons
    edited = artifact is not None and artifact != letter.outputs.get(task.artifact)
    as_built = ""
    if any(each.dependency == "endpoint" for each in found):
        as_built = inputs.place.as_built(letter.fingerprint.get("endpoint"))
    if frozen and (artifact is not None or letter.skipped):
        return Verdict((), edited, tuple(reasons), as_built, letter.skipped)
    return Verdict(tuple(reasons), edited, as_built=as_built, skipped=letter.skipped)


def unfinished(verdict: Verdict) -> Verdict:
    """The verdict of an unfinished build by the last good letter. Half-done is not an edit."""
    reasons = (*verdict.reasons, *(verdict.held or ()), "was not finished")
    return Verdict(reasons, as_built=verdict.as_built)
