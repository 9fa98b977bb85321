"""What most tests start from: a provider, and a root with one seed and two tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider
from workspace import Workspace


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def workspace(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """Seed `first`; `research` answers on the seed's topic, `analysis` on the research."""
    with Workspace(tmp_path, provider) as workspace:
        workspace.seed("first", {"topic": "grid batteries", "tone": "plain"})
        workspace.task("research", prompt="Research: {{ seed.data.topic }}.\n")
        workspace.task("analysis", prompt="Analysis of: {{ artifacts.research.content }}\n")
        workspace.pipeline(["research", "analysis"])
        yield workspace
