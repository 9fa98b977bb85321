"""The text of a document, in a process of its own, which prints it as JSON.

The one importer of kreuzberg: `python -m popbuild.jobs.extract_child PATH MEDIA_TYPE`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from popbuild.base.limited_process import limit_memory

LIBRARY = "kreuzberg"
MAX_MEMORY_BYTES = 2 << 30  # of address space: kreuzberg starts in less than 0.8 GiB
MAX_CPU_S = 120
_PDF, _HTML = "application/pdf", "text/html"
_HEAD = re.compile(rb"<head\b.*?</head\s*>", re.IGNORECASE | re.DOTALL)


def texts_of(data: bytes, media_type: str) -> dict[str, Any]:
    """The pages of a document, as Markdown, and its title; PDFs as plain text, since columns and
    tables are guessed in Markdown. Raises KreuzbergError."""
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        output_format="plain" if media_type == _PDF else "markdown",
        pages=kreuzberg.PageConfig(extract_pages=True),
        use_cache=False,
    )
    found = kreuzberg.extract_bytes_sync(data, media_type, config=config)
    title = found.metadata.get("title")
    if media_type == _HTML:  # else the head comes back as front matter
        body = _HEAD.sub(b"", data)
        found = kreuzberg.extract_bytes_sync(body, media_type, config=config)
    paged = found.pages if media_type == _PDF else None
    pages = [each["content"] for each in paged] if paged else [found.content]
    return {"title": title, "pages": pages, "version": kreuzberg.__version__}


def _main(path: str, media_type: str) -> None:
    """Print what was extracted, or why not."""
    limit_memory(MAX_MEMORY_BYTES, MAX_CPU_S)
    try:
        found = texts_of(Path(path).read_bytes(), media_type)
    except Exception as error:  # its library raises whatever its parsers raise
        found = {"error": str(error) or type(error).__name__}
    sys.stdout.buffer.write(json.dumps(found, ensure_ascii=True).encode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
