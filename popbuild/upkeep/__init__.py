"""Proves, checks, mends, drops and archives what stands on disk.

Imports the rooms above. Open `verify.py` first.
"""
