"""One task: templates, eleven stages, the gate, and refinement.

Imports base, model, llm and jobs. Open `cycle.py` first, then `attempt.py`.
"""
