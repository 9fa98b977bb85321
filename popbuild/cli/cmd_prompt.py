"""`popbuild prompt`."""

import sys
from collections.abc import Iterator

from popbuild.base.errors import printable
from popbuild.cli.options import ITEM, ONE_JOB, ONE_TASK, Given, command, print_result, root_of


@command("print what a task would ask, without a call", ONE_JOB, ONE_TASK, ITEM)
def _prompt(given: Given) -> int:
    """Print the messages that a task would send now; of a task with items, about the first, or
    the one that --item names. Renders the templates; makes no call."""
    from popbuild.query import describe
    from popbuild.query.preview import message_lines
    from popbuild.query.prompt_now import prompt_now

    root = root_of(given)
    messages = prompt_now(describe.find_job(root, given.job), given.task, given.item)

    def lines() -> Iterator[str]:
        for number, message in enumerate(messages):
            content = message_lines(message)
            yield from [""] if number else []
            yield f"--- {message['role']}"
            yield printable(content) if sys.stdout.isatty() else content

    return print_result(given.json, lambda: messages, lines)
