"""Makes stale jobs up to date: doit, the orchestrator, Dask.

Imports the rooms above. Open `session.py` first: it selects jobs. `builder.py` takes their
locks, `job.py` builds one, `task.py` one task.
"""
