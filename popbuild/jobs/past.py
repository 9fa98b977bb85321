"""What a task was made from at its last build: values, as far as they are still known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from popbuild.base.paths import JobFolder
from popbuild.jobs.input_files import own_value
from popbuild.jobs.members import is_about_jobs
from popbuild.jobs.records import read_json
from popbuild.model.letter import Letter
from popbuild.model.problem import MISSING, value_read
from popbuild.model.values import value_digest


@dataclass(frozen=True)
class LastBuild:
    """What is known of a job before. `folder` is what answers for it, `last_good` its last good
    result; `artifacts`
    are the main ones by task. `frozen_from` has the values of frozen tasks, and `last_seed` is the
    job's own copy of its seed where another one stands in its place."""

    folder: JobFolder
    last_good: JobFolder
    artifacts: Mapping[str, str]
    frozen_from: Mapping[str, Mapping[str, Any]]
    last_seed: Any

    def value(self, letter: Letter, dependency: str, digest: str) -> Any:
        """The value that a dependency of a letter had, or MISSING where it is unknown. Of other
        jobs, what the letter says of them."""
        kind, _, rest = dependency.partition(":")
        if is_about_jobs(dependency):
            return letter.body.get("jobs", MISSING)
        if kind == "setting":
            settings = letter.body.get("configuration")
            return settings.get(rest, MISSING) if isinstance(settings, dict) else MISSING
        kept = self.frozen_from.get(letter.task, {}).get(dependency, MISSING)
        candidates = itertools.chain([kept], self._candidates(kind, rest))
        return next((e for e in candidates if value_digest(e) == digest), MISSING)

    def _candidates(self, kind: str, rest: str) -> Iterator[Any]:
        """The values that stand where this one may have been read."""
        above, _, pointer = rest.partition(":")
        folders = (self.folder, self.last_good)
        if kind == "input":
            yield from (own_value(folder, above, pointer) for folder in folders)
        elif kind == "seed":
            if self.last_seed is not None:
                yield value_read(self.last_seed, rest)
            yield from (value_read(read_json(folder.seed), rest) for folder in folders)
        elif kind == "artifact" and above in self.artifacts:
            path = self.last_good.artifact(self.artifacts[above])
            yield value_read(read_json(path), pointer)
