"""Jobs, or a whole root, in one file and back. Open `write.py` first."""
