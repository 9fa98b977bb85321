"""Files, locks, JSON, paths, errors and threads. Knows no job and no pipeline.

Imports no other room. Open `errors.py` first, then `paths.py`, then `disk.py`. Only this room
writes files.
"""
