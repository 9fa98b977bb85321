"""`popbuild run`; `doit run` shares its words and what it does."""

from __future__ import annotations

import dataclasses

from popbuild.base.arguments import Given
from popbuild.build.shared_words import RUN
from popbuild.cli.options import root_and_names


def _run(given: Given) -> int:
    from popbuild.build.run_command import build_as_told

    root, names, variables = root_and_names(given, RUN)
    return build_as_told(root, given, names, variables)


COMMAND = dataclasses.replace(RUN, run=_run)
