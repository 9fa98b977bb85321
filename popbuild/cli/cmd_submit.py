"""`popbuild submit`."""

from pathlib import Path

from popbuild.cli.options import Given, argument, command, option, print_result, root_of


@command(
    "queue a one-off job from a seed file",
    argument("file", "FILE", help="the seed"),
    option("--id", value="ID", help="the job's ID; a new pl-... one if absent"),
)
def _submit(given: Given) -> int:
    """Queue a one-off job: the seed is copied to pending/ under a new ID, or under --id.
    A seed under seeds/ needs no submit: its file name is its job's ID."""
    from popbuild.build import verbs

    job = verbs.submit(root_of(given), Path(given.file), given.id)
    return print_result(given.json, lambda: {"id": job}, lambda: [job])
