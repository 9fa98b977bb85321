"""Proves, checks, repairs, prunes and archives what is on disk.

Imports the rooms above. Open `verify.py` first.
"""
