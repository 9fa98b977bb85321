"""The messages that a task would send now, for `popbuild prompt`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from popbuild.base.errors import ConfigError, TaskError, UsageError
from popbuild.jobs.extraction import looks_at_files
from popbuild.jobs.lookup import Job
from popbuild.jobs.seed_files import BadSeed
from popbuild.query.describe import pipeline_with, seed_error
from popbuild.query.preview import render_preview, templates_of
from popbuild.query.reached import would_skip


def prompt_now(job: Job, task_name: str) -> list[dict[str, Any]]:
    """The messages that a task's first try would send, rendered now. Makes no call."""
    task = pipeline_with(job, task_name).task(task_name)
    assert job.exam is not None
    inputs = job.exam.inputs(task)
    missing = [name for name in task.needs if name not in {*inputs.artifacts, *inputs.skipped}]
    if missing:
        raise UsageError(
            "the prompt needs artifacts that are not there yet",
            {"job": job.id, "task": task_name, "missing": ", ".join(missing)},
            hint=f"doit run {job.id}:{missing[0]}",
        )
    exam, settings = job.exam, job.exam.around.config
    try:
        if looks_at_files(settings, exam.pipeline):
            exam = replace(exam, files=exam.around.inputs.extract(exam.files))
        templates = templates_of(settings)
        skipped = would_skip(exam, task, templates)
        if skipped is not None:
            where = {"job": job.id, "task": task_name, "skipped": skipped}
            raise UsageError("the task is skipped, and asks nothing", where)
        return render_preview(exam, task, templates)
    except BadSeed as bad:
        raise seed_error(bad) from None
    except TaskError as error:
        # No task failed and nothing was built: its files cannot be rendered.
        raise ConfigError.of(error) from None
