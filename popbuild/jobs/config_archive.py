"""The files of the configuration that builds used, by the digests that letters have: what made a
file can be shown long after an edit. JSON is digested by value: the first such file is kept."""

from __future__ import annotations

import os
from pathlib import Path

from popbuild.base import disk
from popbuild.base.paths import Root
from popbuild.model.config.snapshot import Snapshot


class Objects:
    """Files in a folder, one for each digest: `<first two digits>/<the rest>`."""

    def __init__(self, root: Root) -> None:
        self._folder = root.private / "objects"

    def keep(self, snapshot: Snapshot) -> None:
        """Keep every file that is not kept yet. OSError where the disk refuses."""
        for path, digest in snapshot.digests.items():
            place = self._path(digest)
            if not os.path.exists(place):  # noqa: PTH110 - called for every file of every build
                disk.make_folder(place.parent)
                disk.write(place, snapshot.files[path])

    def get(self, digest: str) -> bytes | None:
        """A file as it was, or None if no build here has used it."""
        try:
            return disk.read(self._path(digest))
        except OSError:
            return None

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name[2:]
