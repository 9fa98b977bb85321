"""The table of all jobs, kept as the disk is, and what happens to them told as it happens."""
