"""Writes a text of a command to a file, or prints it."""

from __future__ import annotations

import sys
from pathlib import Path

from popbuild.base.arguments import Given
from popbuild.base.errors import OK, UsageError
from popbuild.base.printing import print_json, print_result


def give_text(text: str, output: str, given: Given) -> int:
    """Write a text to a file, and say where, or print it."""
    from popbuild.build.verbs import hand_over

    if output != "-":
        target = Path(output)
        if target.is_dir():
            raise UsageError("a file is wanted, this is a folder", {"file": target})
        hand_over(target, text.encode())
        return say_where(target, given)
    if given.json:
        print_json({"path": None, "text": text})
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
    return OK


def say_where(target: Path, given: Given) -> int:
    return print_result(given.json, lambda: {"path": str(target)}, lambda: [str(target)])
