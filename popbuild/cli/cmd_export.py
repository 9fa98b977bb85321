"""`popbuild export`."""

from pathlib import Path

from popbuild.cli.options import ONE_JOB, Given, argument, command, option, print_result, root_of


@command(
    "copy a complete job's final artifact to a path",
    ONE_JOB,
    argument("target", "TARGET", help="a file or a folder"),
    option("--artifact", value="NAME", help="another artifact, not the last task's"),
)
def _export(given: Given) -> int:
    """Copy the final artifact of a complete job to a path, for CI to commit it, say. TARGET
    is a file or a folder. Refuses a job that is not up to date."""
    from popbuild.build import verbs
    from popbuild.query import describe

    root = root_of(given)
    job = describe.find_job(root, given.job)
    target = str(verbs.export(root, job, Path(given.target), given.artifact))
    return print_result(given.json, lambda: {"job": job.id, "path": target}, lambda: [target])
