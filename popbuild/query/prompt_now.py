"""The messages that a task of a job would send now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from popbuild.base.errors import ConfigError, TaskError, UsageError
from popbuild.jobs.extraction import looks_at_files
from popbuild.jobs.lookup import Job
from popbuild.jobs.seed_files import BadSeed
from popbuild.query.describe import pipeline_with, seed_error
from popbuild.query.item_list import list_items, require_items
from popbuild.query.preview import render_preview, templates_of
from popbuild.query.reached import would_skip


def prompt_now(job: Job, task_name: str, key: str | None = None) -> list[dict[str, Any]]:
    """The messages of the first try, rendered now; of a task with items about the one with this
    key, else about the first that is not left out. Makes no call."""
    task = pipeline_with(job, task_name).task(task_name)
    assert job.exam is not None
    if key is not None:
        require_items(task)
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
        templates, item = templates_of(settings), None
        skipped = would_skip(exam, task, templates)
        if task.foreach and skipped is None:
            found = list_items(exam, task, templates)
            items = found.distinct if key is None else [found.item(key, task)]
            if not items:
                where = {"job": job.id, "task": task_name, "foreach": task.foreach}
                raise UsageError("the task has no item now", where)
            for item in items:
                skipped = would_skip(exam, task, templates, item=item)
                if skipped is None:
                    break
        if skipped is not None:
            where = {"job": job.id, "task": task_name, "skipped": skipped}
            raise UsageError("the task is skipped, and asks nothing", where)
        return render_preview(exam, task, templates, item)
    except BadSeed as bad:
        raise seed_error(bad) from None
    except TaskError as error:
        # No task failed and nothing was built: its files cannot be rendered.
        raise ConfigError.of(error) from None
