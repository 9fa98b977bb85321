"""Make for prompts: documents built by chains of prompts, rebuilt only when something changed."""

__version__ = "0.1.0"
