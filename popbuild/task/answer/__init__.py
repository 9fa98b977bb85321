"""The document in a model's answer. Open `document.py` first."""
