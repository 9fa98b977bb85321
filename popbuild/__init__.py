"""Make for prompts: documents built by chains of prompts, rebuilt only when something changed."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from popbuild.model.scores import Score as Score


def __getattr__(name: str) -> object:
    """`from popbuild import Score`, for scores.py: loaded where it is asked for."""
    if name == "Score":
        from popbuild.model.scores import Score

        return Score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
