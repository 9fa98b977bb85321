"""`popbuild run`; `doit run` shares its words and what it does."""

from popbuild.build.shared_words import RUN
from popbuild.cli.options import Given, roots_and_names


@RUN.done_by
def _run(given: Given) -> int:
    from popbuild.build.run_command import build_as_told

    roots, names, variables = roots_and_names(given, RUN)
    return build_as_told(roots, given, names, variables)
