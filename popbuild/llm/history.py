"""What a task's calls came to so far, from the ledger: what a plan learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_KEPT = 50  # attempts a task and model: the prompt of long ago was another one
_Key = tuple[str, str, str]  # pipeline, task, model


@dataclass
class Attempt:
    """One build of a task, as far as it was bought: tokens over all its calls, and those that the
    first call's input had for each byte of its messages."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_input_tokens: int = 0
    first_input_bytes: int = 0


class History:
    """Attempts by pipeline, task and model, the newest last. Two pipelines may each have a task of
    one name: what one took says nothing of the other."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        reserved: dict[str, Mapping[str, Any]] = {}
        found: dict[_Key, dict[tuple[str, str], Attempt]] = {}
        for entry in entries:
            if entry.get("event") == "reserved":
                reserved[entry["entry"]] = entry
            elif entry.get("event") == "settled" and "outputTokens" in entry:
                start = reserved.pop(entry["entry"], None)
                if start is None:
                    continue
                key = start.get("pipeline", ""), start["task"], start["model"]
                by_run = found.setdefault(key, {})
                attempt = by_run.setdefault((start["run"], start["job"]), Attempt())
                if not attempt.calls:
                    attempt.first_input_tokens = entry["inputTokens"]
                    attempt.first_input_bytes = start.get("inputBytes", 0)
                attempt.calls += 1
                attempt.input_tokens += entry["inputTokens"]
                attempt.output_tokens += entry["outputTokens"]
        self._attempts = {key: list(by_run.values())[-_KEPT:] for key, by_run in found.items()}

    def of(self, pipeline: str, task: str, model: str) -> list[Attempt]:
        """The last attempts at a pipeline's task on a model; none if there was none."""
        return self._attempts.get((pipeline, task, model), [])
