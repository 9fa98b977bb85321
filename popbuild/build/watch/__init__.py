"""The orchestrator of `popbuild watch`. Open `loop.py` first."""
