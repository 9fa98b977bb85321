"""What is cleared away, or mended, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from popbuild.base.paths import shown_name
from popbuild.base.units import count, size
from popbuild.upkeep.doctor import Checkup
from popbuild.upkeep.prune import Pruning

_MAX_NAMED = 10


def pruning_lines(pruning: Pruning) -> Iterator[str]:
    """What was dropped, or would be: the first of them, and the sums."""
    verb, drop = ("dropped", "dropped") if pruning.done else ("would drop", "to drop")
    for item in pruning.dropped[:_MAX_NAMED]:
        yield f"{verb} {pruning.shown(item)}, {size(item.size_bytes)}"
    more = len(pruning.dropped) - _MAX_NAMED
    if more > 0:
        yield f"… and {more:,} more: --json names all of them"
    what = f"{' and '.join(pruning.rule.kinds)} of " if pruning.rule.kinds else ""
    name = "orphan" if pruning.rule.orphans else "job"
    yield (
        f"{what}{count(len(pruning.dropped), name)} {drop}, {size(pruning.dropped_bytes)}; "
        f"{what}{count(len(pruning.kept), name)} left, {size(pruning.kept_bytes)}"
    )
    if pruning.busy:
        names = ", ".join(map(shown_name, pruning.busy[:_MAX_NAMED]))
        names += ", …" if pruning.busy[_MAX_NAMED:] else ""
        yield f"left alone, since they are being built: {names}"
    if pruning.dropped and not pruning.done:
        yield "nothing was dropped yet: --yes does it"


def checkup_lines(checkup: Checkup) -> Iterator[str]:
    """How it ended: how much was found, and how much of it was mended."""
    if not checkup.found:
        yield "nothing to mend"
        return
    for each in sorted(checkup.busy, key=lambda each: each.path):
        yield f"left alone, since its job is being built: {next(each.lines(checkup.root))}"
    yield f"{count(len(checkup.found), 'finding')}, {len(checkup.mended):,} mended"
    if checkup.shelf is not None:
        yield f"what was moved, and copies of what was changed: {checkup.root.show(checkup.shelf)}/"
    if not checkup.mended:
        yield "nothing was changed: --yes mends all of it"
