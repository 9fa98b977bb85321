"""Whether a text shows anything to a reader or a model."""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})  # controls, formats, spaces
# Marks, letters and a symbol that show nothing (Default_Ignorable_Code_Point and a blank of
# Braille): fillers of Hangul, vowels of Khmer without a shape, variation selectors.
_BLANKS = frozenset(
    {
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x2065, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x180E),
        *range(0xFE00, 0xFE10),
        *range(0xFFF0, 0xFFF9),
        *range(0xE0000, 0xE1000),
    }
)


def is_blank(text: str) -> bool:
    """Whether a text has only invisible characters."""
    return all(
        unicodedata.category(each) in _INVISIBLE or ord(each) in _BLANKS for each in set(text)
    )
