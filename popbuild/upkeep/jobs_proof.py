"""Whether other jobs are still what a job was made from that is over them.

One of them that was built anew since, or is gone, makes the job stale. That is no alteration: each
job is proven by its own letters and seal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popbuild.base.paths import COMPLETE, Root, letter_place
from popbuild.jobs.job_records import differing
from popbuild.jobs.members import Group, Member, group_and_pointer, is_about_jobs, named_few
from popbuild.jobs.records import listed_tasks, read_letter
from popbuild.model.letter import Letter
from popbuild.model.values import value_digest
from popbuild.upkeep.proof import JobProof


def check_jobs(proof: JobProof, letter: Letter) -> None:
    """What a letter says that its task read of other jobs, against what stands there."""
    records = letter.body.get("jobs")
    groups: dict[str, Group] = {}
    for dependency, digest in letter.fingerprint.items():
        name, pointer = group_and_pointer(dependency) if is_about_jobs(dependency) else ("", "")
        record = records.get(name) if isinstance(records, dict) else None
        if not isinstance(record, dict):
            continue
        if name not in groups:
            groups[name] = _group(proof, letter, name, record)
        if not pointer:
            if value_digest(record["ids"]) != digest:
                what = f"names other jobs than {letter.task} was made from: {name}"
                proof.altered(letter_place(letter.task), what)
        elif groups[name].digest((dependency.partition(":")[0], pointer)) != digest:
            whose = differing(dependency, records, groups)
            if whose:
                proof.note(f"{letter.task} was made from other results of {whose}: {pointer}")


def _group(proof: JobProof, letter: Letter, name: str, record: Mapping[str, Any]) -> Group:
    """The jobs that a record names, as they stand in complete/."""
    root = proof.evidence.root
    found = {job: _member(root, job) for job in record["ids"]}
    gone = [job for job, each in found.items() if each is None]
    if gone:
        proof.note(f"{letter.task} was made from jobs that are not here: {named_few(gone)}")
    return Group(name, str(record["glob"]), root, [each for each in found.values() if each], {})


def _member(root: Root, job: str) -> Member | None:
    folder = root.job(COMPLETE, job)
    if not folder.path.is_dir():
        return None
    letters = {task: read_letter(folder, task) for task in listed_tasks(folder, None)}
    artifacts = {
        task: each.fingerprint["output"]
        for task, each in letters.items()
        if each is not None and "output" in each.fingerprint
    }
    return Member(job, folder, artifacts)
