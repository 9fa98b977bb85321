"""The table of all jobs, kept as the disk is. Open `job_table.py` first."""
