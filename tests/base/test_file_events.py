"""Hearing of files that change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from popbuild.base.file_events import watch_files

_LONG_S = 30.0


def test_hears_on_after_a_name_that_is_none(tmp_path: Path) -> None:
    """One that is not UTF-8 is told as something, whatever it was, and the next as what it is."""

    none, good = tmp_path / "\udcff", tmp_path / "good"

    async def hear() -> list[set[str]]:
        heard = watch_files([tmp_path], below=False)
        first = asyncio.create_task(anext(heard))
        await asyncio.sleep(0)  # it listens from here on
        none.touch()
        found = [await first]
        second = asyncio.create_task(anext(heard))
        await asyncio.sleep(0)
        good.touch()
        return [*found, await second]

    found = asyncio.run(asyncio.wait_for(hear(), _LONG_S))
    assert found == [set(), {str(good)}]
