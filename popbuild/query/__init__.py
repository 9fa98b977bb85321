"""Answers about jobs: plan, explain, diff, provenance. Writes nothing.

Imports the rooms above. Open `describe.py` first.
"""
