"""Builds that a server starts, where the operating system does not let it."""

from __future__ import annotations

import asyncio

from patience import PATIENCE_S
from workspace import Workspace

from popbuild.base.paths import Root
from popbuild.query.table.event_ring import Hub
from popbuild.web.builds import ENDED, Build, Builds


def test_a_build_that_cannot_be_started(workspace: Workspace) -> None:
    """It ends with the reason, and holds its jobs no longer: here, its command line is too long."""

    async def ask() -> Build:
        hub = Hub()
        builds = Builds(Root(workspace.root), hub)
        build = builds.start(["x" * 1_000_000])
        async for event in hub.follow():
            if event.body.get("state") == ENDED:
                break
        assert builds.building(build.jobs[0]) is None
        return build

    build = asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    assert build.code is None
    assert build.error is not None
    assert "long" in build.error["error"] + str(build.error["values"])
