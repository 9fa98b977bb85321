"""Variants beside each other: what each job came to in each, and what follows from it."""
