"""A job over others in archives, backups and imports: it comes back as it was, and up to date
wherever the jobs that it is over stand as they did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider
from workspace import MODEL, Workspace


@pytest.fixture
def reviews(tmp_path: Path, provider: Provider) -> Iterator[Workspace]:
    """Two reviews of a table, one of a seed file and one that was submitted, all built, and a
    summary of them."""
    with Workspace(tmp_path, provider) as workspace:
        configure(workspace)
        workspace.write("seeds/table.yaml", "rows: table.csv\nid: 'review-{{ row.id }}'\n")
        workspace.write("seeds/table.csv", "id,text\n1,good\n2,bad\n")
        workspace.seed("review-3", {"text": "fair"})
        submitted = workspace.write("seed.json", {"name": "4", "data": {"text": "odd"}})
        done(workspace, "submit", str(submitted), "--id", "review-4")
        over = {"name": "All", "pipeline": "summary", "jobs": {"reviews": "review-*"}, "data": {}}
        workspace.write("seeds/all.json", over)
        done(workspace, "run")
        assert len(provider.requests) == 5
        yield workspace
        assert len(provider.requests) == 5  # nothing that travels is bought again


def configure(workspace: Workspace) -> None:
    workspace.task("classify", prompt="Classify: {{ seed.data.text }}\n")
    workspace.pipeline(["classify"])
    folder = "pipeline-config/pipelines/summary"
    body = {"name": "summary", "version": "1", "tasks": ["combine"]}
    workspace.write(f"{folder}/pipeline.json", body | {"taskConfig": {"combine": {"model": MODEL}}})
    workspace.write(f"{folder}/tasks/index.yaml", "combine: ./combine\n")
    prompt = "All: {% for job in jobs.reviews %}{{ job.artifacts.classify.content }} {% endfor %}"
    workspace.write(f"{folder}/tasks/combine/prompt.md", prompt)


def done(workspace: Workspace, *args: str) -> str:
    result = workspace.popbuild(*args)
    assert result.code == 0, result.out + result.err
    return result.out


def state(workspace: Workspace, job: str = "all") -> str:
    return done(workspace, "list", job).split(maxsplit=1)[1].strip()


def jobs(workspace: Workspace) -> list[tuple[str, str]]:
    tree = workspace.tree("pipeline-data/complete")
    return [(place, digest) for place, digest in tree if not place.endswith("runs.jsonl")]


def is_as_before(workspace: Workspace, before: list[tuple[str, str]]) -> None:
    """The jobs are there to the byte, up to date and proven; a run has nothing to do."""
    assert jobs(workspace) == before
    assert state(workspace) == "complete"
    for command in (("run",), ("check",), ("verify",), ("validate",), ("run", "all")):
        done(workspace, *command)
    assert jobs(workspace) == before


def test_all_of_them_there_and_back(reviews: Workspace) -> None:
    before = jobs(reviews)
    done(reviews, "archive", "all", "review-*", "-o", "a.tar.zst", "--remove")
    assert reviews.states("all") == []
    done(reviews, "restore", "a.tar.zst")
    is_as_before(reviews, before)


def test_it_alone_there_and_back(reviews: Workspace) -> None:
    before = jobs(reviews)
    done(reviews, "archive", "all", "-o", "a.tar.zst", "--remove")
    done(reviews, "verify")
    done(reviews, "restore", "a.tar.zst")
    is_as_before(reviews, before)


def test_one_below_there_and_back(reviews: Workspace) -> None:
    """While it is away the summary says which one it lacks; then all is as it was."""
    before = jobs(reviews)
    done(reviews, "archive", "review-2", "review-4", "-o", "a.tar.zst", "--remove")
    assert state(reviews) == "complete, stale: combine"
    assert "review-2 is new" in done(reviews, "explain", "all")
    done(reviews, "restore", "a.tar.zst")
    is_as_before(reviews, before)


def test_in_another_root(reviews: Workspace, tmp_path: Path) -> None:
    """In a root without their sources they answer for themselves; without the others, it is
    stale, and verify finds no alteration."""
    done(reviews, "archive", "all", "review-*", "-o", "a.tar.zst")
    archive = str(reviews.root / "a.tar.zst")
    before = jobs(reviews)
    with Workspace(tmp_path / "other", reviews.provider) as other:
        configure(other)
        done(other, "restore", archive, "all")
        done(other, "verify")
        assert state(other) == "complete, stale: combine"
        done(other, "restore", archive)
        for place in ("seeds/table.yaml", "seeds/table.csv", "seeds/review-3.json"):
            other.write(place, (reviews.root / place).read_bytes())
        other.write("seeds/all.json", (reviews.root / "seeds/all.json").read_bytes())
        is_as_before(other, before)


def test_backup_and_back(reviews: Workspace, tmp_path: Path) -> None:
    done(reviews, "backup", "-o", "whole.tar.zst")
    into = tmp_path / "into"
    done(reviews, "restore", "whole.tar.zst", "--into", str(into))
    before = jobs(reviews)
    back = Workspace(tmp_path / "back", reviews.provider)
    with back:
        for path in sorted(back.root.rglob("*"), reverse=True):
            path.rmdir()
        back.root.rmdir()
        into.rename(back.root)
        is_as_before(back, before)


def test_import_into_another_root(reviews: Workspace, tmp_path: Path) -> None:
    """The jobs come with what they are up to date by, and with their seeds; not so a table."""
    before = jobs(reviews)
    with Workspace(tmp_path / "other", reviews.provider) as other:
        configure(other)
        imported = other.popbuild("import", str(reviews.root))
        assert imported.code == 1
        assert "left alone seeds/table.csv: not a seed" in imported.out
        assert "is a new job here" not in imported.out
        for place in ("seeds/table.yaml", "seeds/table.csv"):
            other.write(place, (reviews.root / place).read_bytes())
        is_as_before(other, before)
