"""Prompts: rendered, bounded, and read without rendering. Open `render.py` first."""
