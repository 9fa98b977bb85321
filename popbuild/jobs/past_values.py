"""The values that dependencies had when a task was built, as far as a job's files still tell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.paths import JobFolder
from popbuild.jobs import records
from popbuild.jobs.input_files import own_value
from popbuild.jobs.members import is_about_jobs
from popbuild.model.letter import Letter
from popbuild.model.pipeline import Pipeline
from popbuild.model.problem import MISSING, value_read
from popbuild.model.values import value_digest

_IN_LETTERS = {"setting": "configuration", "vars": "vars"}


@dataclass(frozen=True)
class PastValues:
    """Where the past of a job's task stands: its directory, the last good result, the values that
    were kept when the task was frozen, and what its copy of the seed was."""

    folder: JobFolder
    last_good: JobFolder
    pipeline: Pipeline
    kept: Mapping[str, Any]
    last_seed: Any

    def value(self, letter: Letter, dependency: str, digest: str) -> Any:
        """The value with this digest, or MISSING where it is unknown: the job's own copy of its
        seed, the letter's settings and vars, and the last good result have it."""
        kind, _, rest = dependency.partition(":")
        if is_about_jobs(dependency):  # what the letter says of these
            return letter.body.get("jobs", MISSING)
        if kind in _IN_LETTERS:
            said = letter.body.get(_IN_LETTERS[kind])
            return said.get(rest, MISSING) if isinstance(said, dict) else MISSING
        kept = self.kept.get(dependency, MISSING)
        if value_digest(kept) == digest:
            return kept
        if kind == "input":
            name, _, pointer = rest.partition(":")
            values = (own_value(each, name, pointer) for each in (self.folder, self.last_good))
            return next((each for each in values if value_digest(each) == digest), MISSING)
        if kind == "seed":
            paths, pointer = [self.folder.seed, self.last_good.seed], rest
        elif kind == "artifact":
            upstream, _, pointer = rest.partition(":")
            if upstream not in self.pipeline.names:
                return MISSING
            paths = [self.last_good.artifact(self.pipeline.task(upstream).artifact)]
        else:
            return MISSING
        documents = [self.last_seed] if kind == "seed" and self.last_seed is not None else []
        for document in itertools.chain(documents, map(records.read_json, paths)):
            value = value_read(document, pointer)
            if value_digest(value) == digest:
                return value
        return MISSING
