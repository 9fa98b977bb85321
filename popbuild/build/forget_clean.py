"""`forget` and `clean`: remove things on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from popbuild.base import disk, tree
from popbuild.base.errors import UsageError
from popbuild.base.paths import COMPLETE, CURRENT, REJECTED, Root
from popbuild.jobs import lifecycle, records, run_history, run_log, seals
from popbuild.jobs.selection import check_not_frozen, check_tasks, select
from popbuild.jobs.surroundings import Surroundings
from popbuild.model.clock import name_stamp
from popbuild.model.config import config


def forget(root: Root, job: str | None, names: Iterable[str]) -> Iterator[str]:
    """Set letters aside under .popbuild/forgotten/. Gives a line for each. Those of frozen tasks
    stay, and it is an error to name one: without its letter it would be built."""
    selection = select(root, job, names)
    around = Surroundings(config.load(root))
    check_tasks(selection, around)
    check_not_frozen("forget", selection, around)
    for each, tasks in selection.items():
        frozen = records.read_frozen(root, each)
        with lifecycle.job_lock(root, each):
            for folder in (root.job(state, each) for state in (COMPLETE, CURRENT, REJECTED)):
                for letter in sorted(folder.path.glob("tasks/*/letter.json")):
                    task = letter.parent.name
                    if tasks is not None and task not in tasks:
                        continue
                    if task in frozen:
                        yield f"keeping {each}:{task}: frozen"
                        continue
                    shelf = root.own / "forgotten" / each
                    disk.make_folder(shelf)
                    with seals.moving(folder, letter):
                        tree.rename_new(letter, shelf / f"{task}-{name_stamp()}.json")
                    yield f"forgetting {each}:{task}"


def clean(
    root: Root, job: str | None, names: Iterable[str], *, complete: bool, dry_run: bool
) -> Iterator[str]:
    """Remove jobs from current/, and with `complete` from complete/; a line for each. That a
    complete job goes on purpose is written down first, so that `verify` does not miss it."""
    missing = run_history.Runs(root).missing(run_log.complete_jobs(root))[0] if complete else []
    selection = select(root, job, names, missing)
    for each, tasks in selection.items():
        if tasks is not None:
            raise UsageError(
                "clean removes whole jobs",
                {"found": f"{each}:{tasks[0]}"},
                hint=f"doit clean {each}; doit forget {each}:{tasks[0]} has the task built again",
            )
    for each in selection:
        with lifecycle.job_lock(root, each):
            for state in (CURRENT, COMPLETE) if complete else (CURRENT,):
                folder = root.job(state, each)
                there = folder.path.is_dir()
                missed = state == COMPLETE and each in missing
                if not dry_run and state == COMPLETE and (there or missed):
                    run_log.removed(root, each)
                if there:
                    if not dry_run:
                        tree.remove(folder.path)
                    yield f"{'would remove' if dry_run else 'removing'} {root.show(folder.path)}"
                elif missed:
                    yield f"{root.show(folder.path)} is gone already: verify no longer misses it"
            good = root.job(COMPLETE, each)
            if not complete and good.path.is_dir():
                yield f"keeping {root.show(good.path)}: --complete removes complete jobs too"
