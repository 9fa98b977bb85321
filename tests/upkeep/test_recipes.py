"""docs/ci.md: the recipes run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from patience import PATIENCE_S
from provider import Provider
from workspace import CHECKOUT, Workspace

pytestmark = pytest.mark.thorough

PAGE = CHECKOUT / "docs/ci.md"


def recipe(name: str) -> str:
    """The shell block that is marked with this name."""
    found = re.search(rf"<!-- recipe: {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run(
    workspace: Workspace, name: str, cache: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", recipe(name)],
        cwd=workspace.root,
        env=workspace.environment() | {"CACHE": cache} | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def repository(workspace: Workspace) -> Workspace:
    """A root whose job is named as in the page, with nothing built, and an empty cache."""
    (workspace.root / "seeds/first.json").unlink()
    workspace.seed("market-analysis", {"topic": "grid batteries"})
    settings = {"maxTokens": 200}
    workspace.pipeline(["research", "analysis"], {"research": settings, "analysis": settings})
    workspace.dodo()
    (workspace.root.parent / "cache").mkdir()
    return workspace


def forget(workspace: Workspace) -> None:
    """What a fresh checkout does not have."""
    for name in ("pipeline-data", ".popbuild", "built"):
        shutil.rmtree(workspace.root / name, ignore_errors=True)


def test_the_recipes_regenerate_and_prove(repository: Workspace, provider: Provider) -> None:
    """Bought once; another machine rebuilds the same document from the cache, sending nothing."""
    cache = str(repository.root.parent / "cache")
    first = run(repository, "regenerate", cache)
    assert first.returncode == 0, first.stdout + first.stderr
    assert len(provider.requests) == 2
    assert (repository.root / "reports/analysis-output.json").exists()
    forget(repository)
    proved = run(repository, "prove", cache)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    forget(repository)
    again = run(repository, "regenerate", cache)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(provider.requests) == 2


def test_the_recipe_shows_what_came_of_it(repository: Workspace, provider: Provider) -> None:
    """Also of a job that was rejected: a summary behind what stood on the page, and a report."""
    stages = "def validate_quality(context):\n    return ['bad']\n"
    repository.task("analysis", stages=stages, task_yaml={"gate": {"refinements": 0}})
    assert repository.popbuild("run").code == 1
    page = repository.write("page.md", "# Before\n")
    shown = run(repository, "show", "", GITHUB_STEP_SUMMARY=str(page))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert page.read_text().startswith("# Before\n## popbuild: 1 job, 1 with problems\n")
    assert "analysis did not pass validateQuality" in (repository.root / "report.html").read_text()
    assert len(provider.requests) == 2


def test_another_draw_is_proved_too(repository: Workspace, provider: Provider) -> None:
    """After a retry, and after a fresh draw, what the checkout has and the cache rebuild what was
    promoted; a checkout without the sample numbers builds the first draw."""
    cache = str(repository.root.parent / "cache")
    stages = "def validate_quality(context):\n    return ['bad'] * ('bad' in context.answer)\n"
    repository.task("research", stages=stages, task_yaml={"gate": {"refinements": 0}})
    provider.script(["A bad text.", "A good text.", "A report on it."])
    assert run(repository, "regenerate", cache).returncode == 1
    assert repository.popbuild("retry", "market-analysis").code == 0
    provider.script(["Another report on it."])
    assert repository.popbuild("run", "fresh=analysis").code == 0
    regenerated = run(repository, "regenerate", cache)
    assert regenerated.returncode == 0, regenerated.stdout + regenerated.stderr
    assert "Another" in (repository.root / "reports/analysis-output.json").read_text()
    assert repository.read("samples/market-analysis.json") == {"analysis": 1, "research": 1}
    for _ in range(2):
        forget(repository)
        proved = run(repository, "prove", cache)
        assert proved.returncode == 0, proved.stdout + proved.stderr
    assert len(provider.requests) == 4
    assert repository.popbuild("run").out == "-- market-analysis  up to date\n"
    shutil.rmtree(repository.root / "samples")
    assert repository.popbuild("run", "--store", "only").code == 1
    assert len(provider.requests) == 4


def test_a_prompt_changed_without_regenerating_is_found(
    repository: Workspace, provider: Provider
) -> None:
    """The pull request's check fails, names the task, and sends nothing."""
    cache = str(repository.root.parent / "cache")
    assert run(repository, "regenerate", cache).returncode == 0
    forget(repository)
    repository.task("analysis", prompt="Other: {{ artifacts.research.content }}\n")
    result = run(repository, "prove", cache)
    assert result.returncode == 2
    assert "analysis" in result.stderr
    assert len(provider.requests) == 2
