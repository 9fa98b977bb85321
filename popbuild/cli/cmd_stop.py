"""`popbuild stop`."""

from popbuild.base.errors import OK, STOPPED
from popbuild.cli.options import SOME_JOBS, Given, command, print_result, root_of

_PATIENCE_S = 10.0


@command("stop the build of jobs", SOME_JOBS)
def _stop(given: Given) -> int:
    """Stop the build of jobs, in whichever process it runs: a run in another terminal, or a worker
    of popbuild watch, which does not build them again by itself. Tasks under way are interrupted,
    as by Ctrl-C; answers that came are kept, and the next run goes on from there. Commands that
    wait for such a job stop waiting. Other jobs go on, and a job that is not being built stays as
    it is. Exits with 4 if a job is still being built after ten seconds: it stops as soon as it
    can."""
    from popbuild.jobs import stop_requests
    from popbuild.query import describe

    root = root_of(given)
    found = stop_requests.stop(root, describe.names_to_ids(root, given.names), _PATIENCE_S)
    return print_result(
        given.json,
        lambda: [each.as_json() for each in found],
        lambda: (line for each in found for line in each.lines()),
        OK if all(each.ended for each in found) else STOPPED,
    )
