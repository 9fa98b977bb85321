"""The command line. Imports the rooms above. Open `main.py` first."""
