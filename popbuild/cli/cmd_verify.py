"""`popbuild verify`."""

from popbuild.base.errors import OK, REJECTED
from popbuild.cli.options import JOBS, Given, command, print_result, root_of


@command("prove that nothing complete was altered", JOBS)
def _verify(given: Given) -> int:
    """Prove offline that complete jobs are what was promoted: recompute every digest of
    seeds, artifacts, letters, logs, kept prompts, schemas and code, and stored answers.
    Prints what was altered, added or removed since; exits with 1 if anything was. Makes no
    call, writes nothing."""
    from popbuild.upkeep.verify import verify

    found = verify(root_of(given), given.names)
    return print_result(given.json, found.as_json, found.lines, OK if found.proven else REJECTED)
