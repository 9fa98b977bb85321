"""tests.yaml: what is wanted of results, by variant and pipeline, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import ConfigError, no_such
from popbuild.base.paths import MAIN_NAME, Root
from popbuild.model.config.documents import parse_and_validate

TESTS_FILE = "tests.yaml"


@dataclass(frozen=True)
class QualityTest:
    """What is wanted of the jobs of a variant: of all, of those that a glob matches, of a pipeline.
    Rates and scores are the least, cost in US dollars and latency in seconds the most that a job
    may have on average. Each job must have so many `samples`."""

    variant: str = MAIN_NAME
    jobs: str | None = None
    pipeline: str | None = None
    task: str | None = None
    samples: int = 1
    pass_rate: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    cost: float | None = None
    latency_s: float | None = None

    @property
    def title(self) -> str:
        """What it is about: `cheap, pipeline reviews, jobs review-*`."""
        said = {"pipeline": self.pipeline, "jobs": self.jobs, "task": self.task}
        parts = [f"{name} {value}" for name, value in said.items() if value is not None]
        return ", ".join([self.variant, *parts])


def read_tests(root: Root) -> list[QualityTest]:
    """The tests of a root. Raises ConfigError: without a file, too."""
    path = root.config / TESTS_FILE
    where = f"pipeline-config/{TESTS_FILE}"
    try:
        data = disk.read(path, max_bytes=jsonio.MAX_BYTES)
    except FileNotFoundError:
        hint = "it says what is wanted: tests: [{passRate: 0.9}]; see docs/compare.md"
        raise ConfigError("there are no tests", {"file": where}, hint) from None
    body: Mapping[str, Any] = parse_and_validate(data, where, "tests")
    return [_test(each) for each in body["tests"]]


def _test(body: Mapping[str, Any]) -> QualityTest:
    return QualityTest(
        body.get("variant", MAIN_NAME),
        body.get("jobs"),
        body.get("pipeline"),
        body.get("task"),
        body.get("samples", 1),
        body.get("passRate"),
        body.get("scores", {}),
        body.get("cost"),
        body.get("latency"),
    )


def score_named(name: str, measures: Iterable[str]) -> str | None:
    """The score that a name means: `formatting.faithful`, or `faithful` where one task alone has
    one of this name. None where no job has any score. Raises ConfigError for an unknown one."""
    known = list(measures)
    found = [each for each in known if name in (each, each.partition(".")[2])]
    if len(found) == 1 or name in known:
        return name if name in known else found[0]
    if not known:
        return None
    where = {"file": f"pipeline-config/{TESTS_FILE}"}
    message = "several tasks have a score of this name" if found else "no such score"
    raise ConfigError(message, no_such("score", name, found or known, where=where))
