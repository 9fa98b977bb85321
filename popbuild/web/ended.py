"""How a build ended, in words: what an exit code of `popbuild run` means to a reader."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from signal import SIGINT, Signals

from popbuild.base import errors
from popbuild.model import status as states


@dataclass(frozen=True)
class Ending:
    """`standing` is the word and the mark that it is shown with, `says` explains it."""

    standing: str
    says: str


_DONE = "done"
_ENDINGS: Mapping[int, Ending] = {
    errors.OK: Ending(_DONE, "all was built, or up to date"),
    errors.REJECTED: Ending(states.REJECTED, "a gate rejected it"),
    errors.FAILED: Ending(states.FAILED, "a crash or a provider error"),
    errors.NOT_STARTED: Ending(states.FAILED, "nothing could be built"),
    errors.STOPPED: Ending(states.STOPPED, "it needs a decision, or was asked to stop"),
    errors.LOCKED: Ending(states.STOPPED, "another command is building it"),
    errors.BUDGET: Ending(states.STOPPED, "the budget is used up"),
    errors.INTERRUPTED: Ending(states.STOPPED, "it was asked to stop"),
    -SIGINT: Ending(states.STOPPED, "it was asked to stop"),
}
_WAITS = Ending(states.WAITING, "it needs a decision")
_TAKEN_BACK = Ending(states.STOPPED, "cancelled before it began")
_NOT_STARTED = Ending(states.FAILED, "it could not be started")


def ending_of(code: int | None, outcomes: Collection[object], *, started: bool) -> Ending:
    """How a build ended, by its exit code, None where it had no process, and its jobs' outcomes."""
    if code is None:
        return _TAKEN_BACK if started else _NOT_STARTED
    if code == errors.STOPPED and "waiting" in outcomes:
        return _WAITS
    if code < 0 and code not in _ENDINGS:
        name = Signals(-code).name if -code in list(Signals) else f"signal {-code}"
        return Ending(states.FAILED, f"the process was ended by {name}")
    return _ENDINGS.get(code, Ending(states.FAILED, "it ended unexpectedly"))
