"""The store: every complete answer by its request's digest, kept before anything else happens.

Also an answer that is empty, cut off or fails its gate is served again, so that a crash between
refinements buys nothing twice and a replay takes the same way. A new draw is a new sample number.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from popbuild import disk, jsonio
from popbuild.llm.request import Answer, Request
from popbuild.model.letter import seal

FORMAT_VERSION = 1


class Store:
    """Answers in a folder, one file each: `<first two digits>/<the rest>.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / f"{name[2:]}.json"

    def get(self, request: Request) -> Answer | None:
        """The stored answer, or None. A damaged entry is set aside and counts as absent."""
        path = self.path(request.digest)
        try:
            body = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            body = None
        if not _intact(body, request.digest):
            path.rename(path.with_suffix(".damaged"))
            return None
        return Answer(
            body["response"], body["cost"], body["durationMs"], tuple(body["warnings"]), stored=True
        )

    def has_room(self, request: Request) -> bool:
        """Whether the folder is there that the answer will stand in."""
        return self.path(request.digest).parent.is_dir()

    def make_room(self, request: Request) -> None:
        """Make that folder, durably."""
        disk.make_folder(self.path(request.digest).parent)
        disk.sync_folder(self._folder)

    def prepare(self, request: Request, answer: Answer) -> disk.Prepared:
        """Keep an answer: durable once this is committed. There must be room."""
        body = seal(
            {
                "formatVersion": FORMAT_VERSION,
                "digestOfRequest": request.digest,
                "request": request.as_json(),
                "response": dict(answer.response),
                "cost": answer.cost,
                "durationMs": answer.duration_ms,
                "warnings": list(answer.warnings),
            }
        )
        return disk.prepare(self.path(request.digest), jsonio.compact(body).encode())

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))  # noqa: PTH110 - called for thousands of digests


def _intact(body: Any, digest: str) -> bool:
    return (
        isinstance(body, dict)
        and body.get("formatVersion") == FORMAT_VERSION
        and body.get("digestOfRequest") == digest
        and seal(body) == body
    )
