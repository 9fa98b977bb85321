"""The task creators of a dodo.py. Dodo files of users name this module, so it keeps its place."""

from popbuild.build.schedule import DOIT_CONFIG, task_jobs

__all__ = ["DOIT_CONFIG", "task_jobs"]
