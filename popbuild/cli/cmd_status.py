"""`popbuild status`."""

from popbuild.build.shared_words import STATUS
from popbuild.cli.options import Given, print_json, print_lines, root_and_names


@STATUS.done_by
def _status(given: Given) -> int:
    from popbuild.jobs.selection import select

    root, names, variables = root_and_names(given, STATUS)
    ids = list(select(root, variables.get("job"), names))
    if not (names or "job" in variables):
        from popbuild.cli.cmd_list import list_jobs

        return list_jobs({root: ids}, as_json=given.json)
    from popbuild.cli.status_text import lines_of_status
    from popbuild.query import describe

    listed = describe.jobs_of(root, ids)
    found = [(job, describe.describe_job(job, root, unowned=True)) for job in listed]
    if given.json:
        print_json([body for _, body in found])
        return 0
    for number, (job, body) in enumerate(found):
        print_lines([""] if number else [])
        print_lines(lines_of_status(job, body))
    return 0
