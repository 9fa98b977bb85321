"""Which items of a task are to be run, and why: their receipts held against today's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from popbuild.jobs.fingerprint import Inputs, current, fixed
from popbuild.jobs.item_receipts import ItemReceipts, Receipt
from popbuild.jobs.staleness import changes
from popbuild.model.item import Item
from popbuild.model.letter import Fingerprint
from popbuild.model.pipeline import Task
from popbuild.task.items import own_digest


@dataclass
class ItemPlan:
    """Says of each item why it is to be run. `task` is what decides about one item, `fixed` are the
    dependencies that all of them have before any runs."""

    whole: Task
    all_inputs: Inputs
    receipts: ItemReceipts
    _of_shared: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by digest

    def __post_init__(self) -> None:
        self.task = self.whole.as_one_item
        self.inputs = replace(self.all_inputs, sample=0, samples={})
        self.fixed: Fingerprint = fixed(self.task, self.inputs)

    def sample(self, item: Item) -> int:
        """Which draw an item is at."""
        return max(self.all_inputs.sample, self.all_inputs.samples.get(item.key, 0))

    def reasons(self, item: Item) -> tuple[str, ...]:
        """Why an item is to be run; none if its receipt holds."""
        receipt = self.receipts.by_key.get(item.key)
        if receipt is None:
            return ("never run",)
        found = list(self._shared_reasons(receipt))
        if receipt.refinements > self.task.refinements:
            took, allowed = receipt.refinements, self.task.refinements
            found.append(f"took {took} refinements, now {allowed}")
        found += [
            f"{each} changed"
            for each, digest in receipt.own.items()
            if each != "sample" and own_digest(each, item) != digest
        ]
        if str(self.sample(item)) != receipt.own.get("sample", "0"):
            found.append("a fresh sample was asked for")
        return tuple(found)

    def _shared_reasons(self, receipt: Receipt) -> tuple[str, ...]:
        digest = receipt.shared
        if digest not in self._of_shared:
            last = self.receipts.shared.get(digest)
            self._of_shared[digest] = ("receipt damaged",)
            if last is not None:
                now = current(last, self.task, self.inputs, skipped=receipt.skipped)
                differing = changes(last, now, self.task, self.inputs)
                self._of_shared[digest] = tuple(map(str, differing))
        return self._of_shared[digest]

    def standing(self, items: Iterable[Item]) -> Mapping[str, Receipt]:
        """The receipts that hold, by key."""
        distinct = {item.key: item for item in items}.values()
        return {
            each.key: self.receipts.by_key[each.key] for each in distinct if not self.reasons(each)
        }
