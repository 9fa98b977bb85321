"""How a command ends: its result as lines or as JSON, every error in our words, and an exit code.
No key is ever printed."""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from popbuild.base.errors import FAILED, INTERRUPTED, OK, PopbuildError, shown_error
from popbuild.base.redact import Variables, redact

_ROOM = "make room there and run it again: nothing is bought twice"
_ACCESS = "popbuild must be able to read and write there; then run it again"
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _ACCESS),
}


def print_result(
    as_json: bool,
    value: Callable[[], Any],
    lines: Callable[[], Iterable[str]],
    exit_code: int = OK,
) -> int:
    """Print a result as JSON or as lines. Gives the exit code."""
    if as_json:
        print_json(value())
    else:
        print_lines(lines())
    return exit_code


def print_json(value: object, *, lines: bool = False) -> None:
    """Print a value; with `lines`, as one line of many, at once."""
    text = json.dumps(value, indent=None if lines else 2, ensure_ascii=False)
    print(redact(text, os.environ), flush=lines)


def print_lines(lines: Iterable[str]) -> None:
    environment = Variables(os.environ)  # which are decoded, and searched for secrets, once
    for line in lines:
        print(redact(line, environment))


def guarded(
    command: Callable[[], int],
    *,
    debug: bool,
    as_json: bool = False,
    passed: tuple[type[Exception], ...] = (),
) -> int:
    """The exit code of a command. A traceback is shown only with `debug`.

    Exceptions of the types `passed` are left to the caller.
    """
    # Many jobs are many objects without cycles: a look for garbage among them is a sixth of a plan.
    gc.set_threshold(50_000)
    try:
        return command()
    except passed:
        raise
    except KeyboardInterrupt:
        print("interrupted: what was paid for is kept; run it again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`popbuild list | head`): nothing is wrong.
        write_nowhere(sys.stdout)
        return OK
    except Exception as error:
        ours = in_our_words(error)
        if debug:
            show_traceback(error)
        if as_json:
            print(redact(json.dumps(ours.as_json(), indent=2), os.environ))
        else:
            print(f"error: {redact(str(ours), os.environ)}", file=sys.stderr)
        return ours.exit_code if isinstance(error, PopbuildError | OSError) else FAILED


def write_nowhere(stream: TextIO) -> None:
    """From here on, discard whatever is written to a stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_our_words(error: Exception) -> PopbuildError:
    """The error for a person: one of ours as it is; what the operating system refused, and where;
    for any other, that popbuild is at fault."""
    if isinstance(error, PopbuildError):
        return error
    if isinstance(error, OSError):
        # Of a rename, the second is the name that the person knows.
        file = error.filename2 or error.filename
        values = {"found": error.strerror or shown_error(error), "file": file}
        ours = PopbuildError(
            "the disk said no",
            {key: each for key, each in values.items() if each},
            _HINTS.get(error.errno or 0, "mend that and run it again: nothing is bought twice"),
        )
    else:
        hint = "this is a mistake in popbuild; --debug shows where"
        ours = PopbuildError("popbuild failed", {"found": shown_error(error)}, hint)
    ours.__cause__ = error  # --debug shows it
    return ours


def show_traceback(error: BaseException) -> None:
    """A traceback on stderr, without keys."""
    import traceback

    print(redact("".join(traceback.format_exception(error)), os.environ), file=sys.stderr, end="")
