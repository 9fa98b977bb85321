"""A job's directory: what is stale in it, who holds it, and how it moves.

Imports base, model and llm. Open `lookup.py` first, then `staleness.py`.
"""
