"""Runs a command to its end: every error is told in our words, and gives its exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from typing import TextIO

from popbuild.base.errors import FAILED, INTERRUPTED, OK, PopbuildError, shown_error
from popbuild.base.redact import redact

_ROOM = "make room there and run it again: nothing is bought twice"
_ACCESS = "popbuild must be able to read and write there; then run it again"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: _ACCESS,
}


def guarded(
    command: Callable[[], int],
    *,
    debug: bool,
    as_json: bool = False,
    passed: tuple[type[Exception], ...] = (),
) -> int:
    """The exit code of a command. A traceback is shown only with `debug`, and never holds a key.

    Exceptions of the types `passed` are left to the caller.
    """
    try:
        return command()
    except passed:
        raise
    except PopbuildError as error:
        return _tell(error, error, debug, as_json)
    except KeyboardInterrupt:
        print("interrupted: what was paid for is kept; run it again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`popbuild list | head`): nothing is wrong.
        nobody_reads(sys.stdout)
        return OK
    except OSError as error:
        return _tell(in_our_words(error), error, debug, as_json)
    except Exception as error:
        _tell(in_our_words(error), error, debug, as_json)
        return FAILED


def nobody_reads(stream: TextIO) -> None:
    """From here on, let what is written to a stream go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_our_words(error: Exception) -> PopbuildError:
    """What the operating system refused, and where; or that popbuild itself is at fault."""
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


def _tell(error: PopbuildError, cause: Exception, debug: bool, as_json: bool) -> int:
    if debug:
        show_traceback(cause)
    if as_json:
        print(redact(json.dumps(error.as_json(), indent=2), os.environ))
    else:
        print(f"error: {redact(str(error), os.environ)}", file=sys.stderr)
    return error.exit_code
