"""What a task's calls came to so far, from the ledger: what a plan learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_KEPT = 50  # attempts a task and model: the prompt of long ago was another one
_PARTS = {"task", "model", "run", "job"}
_Key = tuple[str, str, str]  # pipeline, task, model


@dataclass
class Attempt:
    """One build of a task, as far as it was bought: the tokens of each call, in and out.

    `cycles` counts from 1, `first_calls` are those of the first cycle, `refined_input` the most
    tokens that a call of a later one had. `first` are the tokens of the first call's input, and
    the bytes of its messages, where it was bought. `cut_off` says that an answer ended at its
    limit. `others` are further models that the task's code asked.
    """

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    cycles: int = 1
    first_calls: int = 0
    refined_input: int = 0
    first: tuple[int, int] | None = None
    cut_off: bool = False
    others: set[str] = field(default_factory=set)

    @property
    def growth(self) -> int | None:
        """Tokens by which a refinement's input was longer than the first; None without one."""
        if self.first is None or not self.refined_input:
            return None
        return max(0, self.refined_input - self.first[0])

    def add(self, start: Mapping[str, Any], end: Mapping[str, Any]) -> None:
        """A call, as it was reserved and settled."""
        asked, cycle = end["inputTokens"], start.get("cycle", 0)
        if not cycle:
            self.first_calls += 1
            if self.first is None and start.get("inputBytes"):
                self.first = asked, start["inputBytes"]
        else:
            self.refined_input = max(self.refined_input, asked)
        self.cycles = max(self.cycles, cycle + 1)
        self.inputs.append(asked)
        self.outputs.append(end["outputTokens"])
        self.cut_off = self.cut_off or end.get("finishReason") == "length"


class History:
    """Attempts by pipeline, task and model, the newest last. Two pipelines may each have a task of
    one name: what one took says nothing of the other."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        reserved: dict[str, Mapping[str, Any]] = {}
        models: dict[tuple[str, ...], set[str]] = {}
        found: dict[_Key, dict[tuple[str, str], Attempt]] = {}
        for entry in entries:
            name = str(entry.get("entry"))
            if entry.get("event") == "reserved" and entry.keys() >= _PARTS:
                reserved[name] = entry
            elif entry.get("event") == "settled" and "outputTokens" in entry:
                start = reserved.pop(name, None)
                if start is None:
                    continue
                key = start.get("pipeline", ""), start["task"], start["model"]
                build = start["run"], start["job"]
                found.setdefault(key, {}).setdefault(build, Attempt()).add(start, entry)
                models.setdefault((*key[:2], *build), set()).add(start["model"])
        for (pipeline, task, model), by_run in found.items():
            for build, attempt in by_run.items():
                attempt.others = models[pipeline, task, *build] - {model}
        self._attempts = {key: list(by_run.values())[-_KEPT:] for key, by_run in found.items()}

    def of(self, pipeline: str, task: str, model: str) -> list[Attempt]:
        """The last attempts at a pipeline's task on a model; none if there was none."""
        return self._attempts.get((pipeline, task, model), [])
