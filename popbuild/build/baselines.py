"""Writes the baselines that `popbuild test --baseline` compares with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popbuild.base import disk, jsonio
from popbuild.base.errors import UsageError
from popbuild.base.paths import Root
from popbuild.query.quality.baseline import baseline_document, baseline_place
from popbuild.query.quality.judged import values_of
from popbuild.query.quality.run_tests import cells_of_variant


def save_baselines(root: Root, variants: Sequence[str]) -> Iterator[str]:
    """Write what stands of each variant, and give the files. UsageError for one without results."""
    for variant in variants:
        values = values_of(cells_of_variant(root, variant))
        if not values:
            hint = f"popbuild run --variant {variant}"
            raise UsageError("a variant has no results to keep", {"variant": variant}, hint)
        path = root.path / baseline_place(variant)
        disk.make_folder(path.parent)
        disk.write(path, jsonio.dumps(baseline_document(variant, values)))
        yield baseline_place(variant)
