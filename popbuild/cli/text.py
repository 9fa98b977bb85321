"""What is stored, dropped or mended, as text."""

from __future__ import annotations

from collections.abc import Iterator

from popbuild.base.paths import shown_name
from popbuild.base.units import count, money, size
from popbuild.upkeep.doctor import Checkup
from popbuild.upkeep.prune import Pruning
from popbuild.upkeep.share_store import Share, StorePruning, StoreStatus, Transfer

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
    """How much was found and mended."""
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


def store_lines(status: StoreStatus) -> Iterator[str]:
    """What the store holds: a line for each model, and the sum."""
    head = ("model", "answers", "size", "bought for", "hits", "saved")
    rows = [head, *(_share(name, share) for name, share in status.models.items())]
    if len(status.models) != 1:
        rows.append(_share("in all", status.total))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield f"{status.folder}:"
    for name, *numbers in rows:
        cells = [f"{each:>{width}}" for each, width in zip(numbers, widths[1:], strict=True)]
        yield f"  {name:<{widths[0]}}  " + "  ".join(cells)
    for name in status.damaged:
        yield f"  damaged: {name}"
    if status.set_aside:
        yield f"  {status.set_aside} damaged before, and set aside"


def _share(name: str, share: Share) -> tuple[str, ...]:
    saved = share.saved
    return (
        name,
        f"{share.entries:,}",
        size(share.size_bytes),
        _partly_known(share.cost, share.entries, share.unpriced),
        f"{saved.hits:,}",
        _partly_known(saved.cost, saved.hits, saved.unpriced),
    )


def _partly_known(cost: float, number: int, unpriced: int) -> str:
    """`$0.02`, `unknown`, or `$0.02 + unknown` where some of it has no price."""
    if not unpriced:
        return money(cost)
    return "unknown" if unpriced == number else f"{money(cost)} + unknown"


def transfer_line(transfer: Transfer, done: str) -> str:
    """`3 answers pushed, 4.5 kB; 12 were there already: s3://bucket/prefix`."""
    return (
        f"{count(transfer.copied, 'answer')} {done}, {size(transfer.size_bytes)}; "
        f"{transfer.there:,} were there already: {transfer.place}"
    )


def store_pruning_lines(pruning: StorePruning) -> Iterator[str]:
    """What was dropped, or would be."""
    for name in pruning.dropped:
        yield f"{'dropped' if pruning.done else 'would drop'} {name}"
    drop = "dropped" if pruning.done else "to drop"
    yield (
        f"{count(len(pruning.dropped), 'answer')} {drop}, {size(pruning.dropped_bytes)}; "
        f"{pruning.kept:,} stay, {size(pruning.kept_bytes)}"
    )
    if pruning.referenced:
        yield (
            f"{pruning.referenced:,} of these stay because jobs refer to them; "
            "--referenced drops them too"
        )
    if pruning.dropped and not pruning.done:
        yield "nothing was dropped yet: --yes does it"
