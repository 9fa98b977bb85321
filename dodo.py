"""doit's entry: every job is a task. `doit list`, `doit run job=<id>`, `doit info <id>:<task>`."""

from popbuild.engine.creators import DOIT_CONFIG, task_jobs

__all__ = ["DOIT_CONFIG", "task_jobs"]
