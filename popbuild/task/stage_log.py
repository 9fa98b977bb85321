"""The log of one attempt: an entry for every stage of every cycle, and lines in between."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from popbuild.base.errors import printable
from popbuild.base.redact import redact
from popbuild.model.clock import timestamp
from popbuild.model.problem import Problem
from popbuild.model.stage_names import STAGES
from popbuild.task.attempt import RevokedError, Work

_LEVELS = {"failed": "warning", "error": "error"}


class StageLog:
    """Writes to `work.log` and `work.validation`. Knows the stage and the cycle of the moment."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.stage = STAGES[0]
        self.cycle = 0

    @property
    def where(self) -> dict[str, object]:
        """The task and the stage, for the values of an error."""
        return {"task": self._work.task.id, "stage": self.stage}

    def line(self, message: str, level: str = "info") -> None:
        """Something that happened in the present stage."""
        self._add(self.stage, message, level, {})

    def outcome(
        self,
        stage: str,
        outcome: str,
        message: str,
        took_ms: float = 0.0,
        problems: Sequence[Problem] = (),
    ) -> None:
        """How a stage ended: "done", "skipped", "failed" or "error". Each stage ends once a cycle,
        whatever happens."""
        more: dict[str, Any] = {
            "outcome": outcome,
            "durationMs": round(took_ms, 2) if took_ms else 0,
        }
        if problems:
            more["problems"] = [problem.as_json() for problem in problems]
        self._add(stage, message, _LEVELS.get(outcome, "info"), more)

    def validation(self, stage: str, problems: Sequence[Problem]) -> None:
        self._work.validation.append(
            {
                "stage": stage,
                "cycle": self.cycle,
                "problems": [problem.as_json() for problem in problems],
            }
        )

    def skip(self, reason: str, *stages: str) -> None:
        for stage in stages:
            self.outcome(stage, "skipped", reason)

    def skip_rest(self, reason: str, until: str | None = None) -> None:
        """An outcome for each stage that has none in this cycle, up to the next one that runs."""
        seen = {each["stage"] for each in self._work.log if self._is_outcome(each)}
        before = STAGES[: STAGES.index(until)] if until else STAGES
        self.skip(reason, *(stage for stage in before if stage not in seen))

    def take_back(self, *stages: str) -> None:
        """Drop the outcomes of these stages in this cycle: they run after all."""
        self._work.log[:] = [
            each
            for each in self._work.log
            if not (self._is_outcome(each) and each["stage"] in stages)
        ]

    def _is_outcome(self, entry: dict[str, Any]) -> bool:
        return entry["cycle"] == self.cycle and "outcome" in entry

    def _add(self, stage: str, message: str, level: str, more: dict[str, Any]) -> None:
        self._work.log.append(
            {
                "timestamp": timestamp(),
                "level": level,
                "stage": stage,
                "cycle": self.cycle,
                "message": printable(redact(message, self._work.config.environment)),
                **more,
            }
        )


def logger_of(work: Work, log: StageLog) -> logging.Logger:
    """What `context.log` is. It stands outside of Python's hierarchy of loggers, so that its lines
    go to execution-logs.json alone."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if work.files.is_revoked:
                raise RevokedError("the task outlived its timeout")
            level = record.levelname.lower().replace("critical", "error")
            log.line(record.getMessage(), level)

    logger = logging.Logger(f"popbuild.{work.task.id}", logging.DEBUG)
    logger.addHandler(Handler())
    return logger
