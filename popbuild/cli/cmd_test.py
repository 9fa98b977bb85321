"""`popbuild test`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from popbuild.base.errors import OK, REJECTED, UsageError
from popbuild.cli.options import Given, command, flag, option, print_json, print_lines, root_of

if TYPE_CHECKING:
    from popbuild.query.quality.judged import JudgedTest


@command(
    "test results: pass rates, scores, cost, latency",
    option("--variants", value="NAMES", help="only the tests of these, as base,cheap"),
    flag("--baseline", help="compare with scores/<variant>.json too, and fail for a drop"),
    flag("--save", help="write scores/<variant>.json from what stands"),
    option("--junit", value="FILE", help="write JUnit XML as well, for CI"),
    of_variants=False,
)
def _test(given: Given) -> int:
    """Test what stands against pipeline-config/tests.yaml: pass rate, mean scores, cost, latency,
    by pipeline and variant, each with its 95 % interval. With --baseline, a drop since
    scores/<variant>.json fails if its interval excludes that there is none. Makes no call; exits
    with 1 where a test fails."""
    from popbuild.query.quality.run_tests import judge_root, variants_tested

    root = root_of(given)
    names = None if given.variants is None else given.variants.split(",")
    if given.save:
        if given.baseline:
            raise UsageError("--save replaces what --baseline compares with", {})
        from popbuild.build.baselines import save_baselines

        print_lines(save_baselines(root, variants_tested(root, names)))
        return OK
    found = list(judge_root(root, names, baseline=given.baseline))
    if given.junit is not None:
        from popbuild.build.verbs import hand_over
        from popbuild.query.quality.junit import junit_xml

        hand_over(Path(given.junit), junit_xml(found).encode())
    if given.json:
        print_json([each.as_json() for each in found])
    else:
        print_lines(_lines(found))
    return OK if all(each.passed for each in found) else REJECTED


def _lines(found: list[JudgedTest]) -> Iterator[str]:
    for each in found:
        yield from each.lines()
