"""JSON Schema: the drafts, our keywords, and the gate. Open `gate.py` first."""
