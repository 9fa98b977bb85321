"""Frozen data, without I/O: pipeline, letter, status, problems, times and IDs."""
