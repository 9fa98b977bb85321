"""What the calls of each task have used so far, from the ledger: plans learn from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_KEPT = 50  # attempts a task and model: older ones had another prompt
_PARTS = {"task", "model", "run", "job"}
_Key = tuple[str, str, str]  # pipeline, task, model
_Build = tuple[str, str, str]  # run, job, item


@dataclass
class Attempt:
    """The bought calls of one build of a task, or of one of its items: their tokens of input and of
    output. `cached`, `written` and `reasoning` are shares of them, for each call whose provider
    says so.

    `cycles` counts from 1; `first_calls` are those of the first cycle; `refined_input` is the
    longest input of a later one. `first` is the first call's input in tokens, and its messages in
    bytes, if it was bought. `cut_off` says that an answer ended at its limit. `others` are further
    models that the task's code asked.
    """

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    reasoning: list[float] = field(default_factory=list)
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
        for shares, name, whole in (
            (self.cached, "cachedTokens", asked),
            (self.written, "cacheWriteTokens", asked),
            (self.reasoning, "reasoningTokens", end["outputTokens"]),
        ):
            if whole and isinstance(end.get(name), int):
                shares.append(end[name] / whole)
        self.cut_off = self.cut_off or end.get("finishReason") == "length"


def _has_tokens(entry: Mapping[str, Any]) -> bool:
    """Whether a call's tokens are known. Old entries have zeros where they are not."""
    asked, answered = entry.get("inputTokens"), entry.get("outputTokens")
    return isinstance(asked, int) and asked > 0 and isinstance(answered, int)


class History:
    """Attempts by pipeline, task and model, the newest last. Tasks of one name in two pipelines
    have nothing to do with each other. An attempt with a call of unknown usage does not count."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        reserved: dict[str, Mapping[str, Any]] = {}
        models: dict[tuple[str, ...], set[str]] = {}
        found: dict[_Key, dict[_Build, Attempt]] = {}
        unknown: set[tuple[_Key, _Build]] = set()
        for entry in entries:
            name = str(entry.get("entry"))
            if entry.get("event") == "reserved" and entry.keys() >= _PARTS:
                reserved[name] = entry
            elif entry.get("event") == "settled" and "outputTokens" in entry:
                start = reserved.pop(name, None)
                if start is None:
                    continue
                key = start.get("pipeline", ""), start["task"], start["model"]
                build = start["run"], start["job"], start.get("item", "")
                attempt = found.setdefault(key, {}).setdefault(build, Attempt())
                models.setdefault((*key[:2], *build), set()).add(start["model"])
                if _has_tokens(entry):
                    attempt.add(start, entry)
                else:
                    unknown.add((key, build))
        for key, build in unknown:
            del found[key][build]
        for (pipeline, task, model), by_run in found.items():
            for build, attempt in by_run.items():
                attempt.others = models[pipeline, task, *build] - {model}
        self._attempts = {key: list(by_run.values())[-_KEPT:] for key, by_run in found.items()}

    def of(self, pipeline: str, task: str, model: str) -> list[Attempt]:
        """The last attempts at a pipeline's task on a model; none if there was none."""
        return self._attempts.get((pipeline, task, model), [])
