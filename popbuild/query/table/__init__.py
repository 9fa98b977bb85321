"""The table of all jobs, kept as the disk is. Open `board.py` first."""
