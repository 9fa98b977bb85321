"""What a letter says of the other jobs that its task read: which there were, whose value was which.

It is no dependency. It says later whose value differs, and what a document was made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from popbuild.base.paths import SEED, artifact_place
from popbuild.jobs.members import (
    OF_ALL,
    Field,
    Group,
    Groups,
    fields_of,
    group_and_pointer,
    is_about_jobs,
    named_few,
)
from popbuild.model.problem import parts_of

_SHORT = 12  # digits of a digest that tell whose value differs


def record_of(group: Group, columns: Mapping[Field, Iterable[str]]) -> dict[str, Any]:
    """Which jobs a group had, which were left out, and the beginning of the digest of each value
    that was read: they say later whose differs."""
    return {
        "glob": group.glob,
        "ids": group.ids,
        "missing": dict(group.others),
        "fields": {at[1]: _short(each) for at, each in sorted(columns.items()) if at[0] == "jobs"},
    }


def groups_in(dependencies: Iterable[str]) -> list[str]:
    """The groups that dependencies are about."""
    names = (group_and_pointer(each)[0] for each in dependencies if is_about_jobs(each))
    return sorted({name for name in names if name})


def files_read(groups: Groups, dependencies: Iterable[str] | None) -> list[str]:
    """The files of other jobs that a task with these dependencies read; all that it may read, where
    they are not known."""
    found: dict[str, None] = {}
    asked = [f"jobs:{name}:{OF_ALL}" for name in groups] if dependencies is None else dependencies
    for dependency in filter(is_about_jobs, asked):
        name, pointer = group_and_pointer(dependency)
        parts = parts_of(pointer)[1:]
        for member in groups[name].members if name in groups and pointer else ():
            tasks = [parts[1]] if parts[:1] == ["artifacts"] and parts[1:] else member.artifacts
            if parts[:1] != ["artifacts"]:
                found[member.folder.at(SEED)] = None
            if parts[:1] != ["seed"]:
                names = [member.artifacts[task] for task in tasks if task in member.artifacts]
                found |= dict.fromkeys(member.folder.at(artifact_place(each)) for each in names)
    return list(found)


def jobs_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """Which jobs a letter says that its task read, and what of each, as `trace` shows it."""
    records = body.get("jobs")
    found = records.items() if isinstance(records, dict) else ()
    read = {name: {**each, "fields": sorted(each.get("fields", ()))} for name, each in found}
    return {"jobs": read} if read else {}


def records_now(dependencies: Iterable[str], groups: Groups) -> dict[str, Any]:
    """What a letter with these dependencies says of jobs, as they are today."""
    fields = fields_of(dependencies, groups)
    return {
        name: record_of(groups[name], {at: groups[name].column(at) for at in wanted})
        for name, wanted in fields.items()
    }


def _short(column: Iterable[str]) -> list[str]:
    return [each.removeprefix("sha256:")[:_SHORT] for each in column]


def differing(dependency: str, record: Any, groups: Groups) -> str:
    """Which jobs a dependency differs by, as a phrase; empty where the record does not say."""
    name, pointer = group_and_pointer(dependency)
    record = record.get(name) if isinstance(record, dict) else None
    if name not in groups or not isinstance(record, dict) or not isinstance(record["ids"], list):
        return ""
    group = groups[name]
    if not pointer:
        before, now = set(record["ids"]), set(group.ids)
        changes = {"added": sorted(now - before), "gone": sorted(before - now)}
        return ", ".join(f"{named_few(jobs)} {what}" for what, jobs in changes.items() if jobs)
    values = dict(zip(record["ids"], record["fields"].get(pointer, ()), strict=False))
    after = zip(group.ids, _short(group.column(("jobs", pointer))), strict=True)
    return named_few([job for job, each in after if values.get(job, each) != each])
