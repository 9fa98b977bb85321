"""`popbuild accept`."""

from popbuild.cli.options import ONE_JOB, Given, argument, command, print_result, root_of


@command(
    "take what is there as up to date",
    ONE_JOB,
    argument("tasks", "TASK", "*", help="a task; all if absent"),
)
def _accept(given: Given) -> int:
    """Take what is there as up to date, without building: for a cosmetic edit of a prompt, or an
    artifact edited by hand (make's -t, dvc's commit). Every artifact must pass its gate."""
    from popbuild.build import verbs

    job = given.job
    accepted = verbs.accept(root_of(given), job, given.tasks)
    return print_result(
        given.json,
        lambda: {"job": job, "accepted": accepted},
        lambda: [f"accepted {job}:{task}" for task in accepted] or [f"{job} was up to date"],
    )
