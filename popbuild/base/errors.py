"""The exception tree, the exit codes and the one builder of error messages.

PopbuildError
├── UsageError        the command was wrong; nothing was built
├── ConfigError       a file under pipeline-config/ is wrong; nothing was built
│   └── NotOursError  the pipeline is another program's: its results can be read, not built
├── InputError        a file that a command was given, or a job, is wrong
├── LockedError       another command builds this job, and --no-wait was given
├── GateError         a document that a person wrote or edited does not pass its gate
├── StoppedError      the build stopped with nothing lost and waits for a person
│   ├── BudgetError   the next call may go over a budget; nothing more is sent
│   ├── DrainingError the build is about to end: it waits for its calls and sends no more
│   └── FencedError   the job was given to another worker; this one writes nothing more
├── TaskError         a stage raised, returned the wrong thing or ran out of time
├── ProviderError     the model's provider refused or could not be reached
└── StoreError        the store lacks what `only` asks for, or a copy of it cannot be reached
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Self

OK = 0
REJECTED = 1  # a gate said no to an answer or a seed, or a check found something
FAILED = 2  # a crash or a provider error: the job stays in current/
NOT_STARTED = 3  # usage, configuration or a file that was given: nothing was built
STOPPED = 4  # the build waits for a person
LOCKED = 5  # another command builds this job, and --no-wait was given
BUDGET = 6  # the next call may go over a budget
INTERRUPTED = 130

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MAX_SAID = 2_000  # characters of an exception's text: it may hold a whole answer


class PopbuildError(Exception):
    """An error for the person who gets it: what, where, what next.

    `values` are printed one a line, so each should name one thing: the file, what was found,
    what is allowed. `hint` says what to do next.
    """

    exit_code = NOT_STARTED
    spent = False  # whether a provider may have been paid for nothing
    elsewhere = False  # whether another model may well answer the same request
    declined = False  # whether the provider says no to what the request says, as a gate would

    def __init__(
        self, message: str, values: Mapping[str, object] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.values = {name: printable(str(value)) for name, value in (values or {}).items()}
        self.hint = hint

    @classmethod
    def of(cls, error: PopbuildError) -> Self:
        """Another error's text as an error of this kind."""
        return cls(error.message, error.values, error.hint)

    def __str__(self) -> str:
        return describe(self.message, self.values, self.hint)

    def as_line(self, without: Iterable[str] = ("file",)) -> str:
        """The error as one line of a list: `not valid JSON at line 3, column 1: Expecting value`.

        `without` names values that the list shows by itself.
        """
        values = {name: value for name, value in self.values.items() if name not in without}
        at, found = values.pop("at", ""), values.pop("found", "")
        rest = "; ".join(f"{name}: {value}" for name, value in values.items() if value)
        text = self.message + (f" at {at}" if at else "") + (f": {found}" if found else "")
        text += (f" ({rest})" if rest else "") + (f"; {self.hint}" if self.hint else "")
        return " ".join(text.split())

    def as_json(self) -> dict[str, object]:
        """The shape of an error under `--json`."""
        return {"error": self.message, "values": self.values, "hint": self.hint}


class UsageError(PopbuildError):
    pass


class ConfigError(PopbuildError):
    pass


class NotOursError(ConfigError):
    pass


class InputError(PopbuildError):
    pass


class LockedError(PopbuildError):
    exit_code = LOCKED


class GateError(PopbuildError):
    exit_code = REJECTED


class StoppedError(PopbuildError):
    exit_code = STOPPED


class BudgetError(StoppedError):
    exit_code = BUDGET
    scope = "command"  # what the budget is for: command, job, pipeline or day


class DrainingError(StoppedError):
    pass


class FencedError(StoppedError):
    pass


class TaskError(PopbuildError):
    exit_code = FAILED


class ProviderError(PopbuildError):
    exit_code = FAILED


class StoreError(PopbuildError):
    exit_code = FAILED


def printable(text: str) -> str:
    """The text in valid UTF-8, safe for a terminal: half a surrogate pair, and characters that move
    the cursor, change colours or the direction of text, are shown by their numbers."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def shown_error(error: BaseException) -> str:
    """The type and text of a foreign exception, whose own code may fail; a long text is cut."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be had)"
    text = text if len(text) <= _MAX_SAID else text[:_MAX_SAID] + "…"
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def describe(message: str, values: Mapping[str, str], hint: str | None) -> str:
    """The text of an error: the message, one labelled value a line, the hint."""
    width = max((len(name) for name in values), default=0)
    lines = [message]
    for name, value in values.items():
        first, *rest = value.splitlines() or [""]
        lines.append(f"  {name:<{width}}  {first}")
        lines.extend(f"  {'':<{width}}  {line}" for line in rest)
    if hint:
        lines.append(f"hint: {hint}")
    return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a person most likely meant, or None."""
    by_folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def no_such(
    kind: str, name: str, known: Iterable[str], *, where: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The labelled values of a "no such …" error: what was found, what is known, the nearest."""
    known = sorted(known)
    values: dict[str, object] = {kind: name, **(where or {})}
    close = nearest(name, known)
    if close:
        values["did you mean"] = close
    shown = ", ".join(known[:20]) + (f", … ({len(known)} in all)" if len(known) > 20 else "")
    values["known"] = shown or "none"
    return values


def unknown(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    where: Mapping[str, object] | None = None,
    hint: str | None = None,
) -> UsageError:
    """The error for a name, given by a person, that means nothing here."""
    return UsageError(f"no such {kind}", no_such(kind, name, known, where=where), hint)
