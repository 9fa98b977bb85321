"""What a dodo.py names: see `creators.py`."""
