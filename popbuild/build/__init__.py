"""Makes stale jobs up to date: doit, the orchestrator, Dask.

Imports the rooms above. Open `session.py` first: it selects jobs; `job.py` builds one.
"""
