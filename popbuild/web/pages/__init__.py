"""What pages and reports show, and their HTML. Open `view.py` first."""
