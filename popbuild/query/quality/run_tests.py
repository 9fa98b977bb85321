"""Judges what stands against tests.yaml and against baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from popbuild.base.errors import ConfigError, no_such
from popbuild.base.paths import MAIN_NAME, Root
from popbuild.query import describe
from popbuild.query.compare.job_result import CellResult
from popbuild.query.compare.read_results import columns_of, read_cells
from popbuild.query.quality.baseline import baseline_place, read_baseline
from popbuild.query.quality.judged import JudgedTest, against_baseline, held_against
from popbuild.query.quality.quality_tests import TESTS_FILE, QualityTest, read_tests


def judge_root(
    root: Root, names: Sequence[str] | None = None, *, baseline: bool = False
) -> Iterator[JudgedTest]:
    """Every test of a root, or those of some variants; then each variant beside its baseline."""
    variants = variants_tested(root, names)
    has_tests = (root.config / TESTS_FILE).exists()
    for test in read_tests(root) if has_tests or not baseline else ():
        if test.variant in variants:
            yield held_against(test, _cells_of(root, test))
    for variant in variants if baseline else ():
        before = read_baseline(root, variant)
        cells = cells_of_variant(root, variant)
        yield against_baseline(variant, baseline_place(variant), before, cells)


def variants_tested(root: Root, names: Sequence[str] | None) -> list[str]:
    """The variants of these names, or those that tests.yaml names; without the file, the main one.
    UsageError for an unknown one."""
    if names is None and (root.config / TESTS_FILE).exists():
        names = list(dict.fromkeys(each.variant for each in read_tests(root)))
    columns, _ = columns_of(root, names or [MAIN_NAME])
    return [each.name for each in columns]


def cells_of_variant(root: Root, variant: str, jobs: str | None = None) -> dict[str, CellResult]:
    """What a variant has of its jobs."""
    columns, _ = columns_of(root, [variant])
    return read_cells(columns[0], [] if jobs is None else [jobs])


def _cells_of(root: Root, test: QualityTest) -> Mapping[str, CellResult]:
    columns, _ = columns_of(root, [test.variant])
    around = describe.around(columns[0].roots[0])
    known = around.config.pipelines
    where = {"file": f"pipeline-config/{TESTS_FILE}"}
    if test.pipeline is not None and test.pipeline not in known:
        values = no_such("pipeline", test.pipeline, filter(None, known), where=where)
        raise ConfigError("no such pipeline", values)
    tasks = {name for each in known.values() for name in each.names}
    if test.task is not None and test.task not in tasks:
        raise ConfigError("no such task", no_such("task", test.task, tasks, where=where))
    names = [] if test.jobs is None else [test.jobs]
    return read_cells(columns[0], names, test.task, test.pipeline)
