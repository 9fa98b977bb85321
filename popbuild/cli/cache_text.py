"""The store and its copies as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator

from popbuild.base.units import money, size
from popbuild.upkeep.prune_store import StorePruning
from popbuild.upkeep.share_store import Share, StoreStatus, Transfer


def status_lines(status: StoreStatus) -> Iterator[str]:
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


def _partly_known(cost: float, count: int, unpriced: int) -> str:
    """`$0.02`, `unknown`, or `$0.02 + unknown` where some of it has no price."""
    if not unpriced:
        return money(cost)
    return "unknown" if unpriced == count else f"{money(cost)} + unknown"


def transfer_line(transfer: Transfer, done: str) -> str:
    """`3 answers pushed, 4.5 kB; 12 were there already: s3://bucket/prefix`."""
    return (
        f"{_answers(transfer.copied)} {done}, {size(transfer.size_bytes)}; "
        f"{transfer.there:,} were there already: {transfer.place}"
    )


def damage_lines(transfer: Transfer) -> Iterator[str]:
    """A warning for each entry that was not copied."""
    for name in transfer.damaged:
        yield f"warning: damaged, and not copied: {name}"


def store_pruning_lines(pruning: StorePruning) -> Iterator[str]:
    """What was dropped, or would be."""
    for name in pruning.dropped:
        yield f"{'dropped' if pruning.done else 'would drop'} {name}"
    drop = "dropped" if pruning.done else "to drop"
    yield (
        f"{_answers(len(pruning.dropped))} {drop}, {size(pruning.dropped_bytes)}; "
        f"{pruning.kept:,} stay, {size(pruning.kept_bytes)}"
    )
    if pruning.referenced:
        yield (
            f"{pruning.referenced:,} of these stay because jobs refer to them; "
            "--referenced drops them too"
        )
    if pruning.dropped and not pruning.done:
        yield "nothing was dropped yet: --yes does it"


def _answers(count: int) -> str:
    return f"{count:,} answer{'s' * (count != 1)}"
