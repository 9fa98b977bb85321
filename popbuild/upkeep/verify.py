"""Whether complete jobs are what their letters and seals say: every digest computed anew, offline.

Reads only, and trusts no configuration. It proves where a job came from and that nothing was
altered since, not that the job is up to date.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popbuild.base import disk, tree
from popbuild.base.errors import UsageError, no_such
from popbuild.base.paths import COMPLETE, JobFolder, Root
from popbuild.jobs.records import is_foreign, read_frozen, read_json
from popbuild.jobs.run_log import complete_jobs
from popbuild.upkeep.evidence import Evidence, bytes_of
from popbuild.upkeep.letter_proof import check_letters, read_letters, sum_up
from popbuild.upkeep.proof import JobProof, ProofFinding

_MAX_TRIES = 3
_MAX_NAMED = 10  # jobs in one note


@dataclass(frozen=True)
class Verification:
    """The proofs of jobs, and what was found in complete/ beside them."""

    proofs: tuple[JobProof, ...]
    beside: tuple[ProofFinding, ...]

    @property
    def proven(self) -> bool:
        findings = [*self.beside, *(each for proof in self.proofs for each in proof.findings)]
        return not any(finding.altered for finding in findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "proven": self.proven,
            "jobs": [proof.as_json() for proof in self.proofs],
            "findings": [asdict(finding) for finding in self.beside],
        }

    def lines(self) -> Iterator[str]:
        """As a person reads it: a line for each alteration, and one for each job."""
        for proof in self.proofs:
            yield from (f"{finding.file}: {finding.what}" for finding in proof.alterations)
            yield f"{proof.folder.id}: {proof.summary}"
            yield from (f"  {finding.what}" for finding in proof.notes)
        yield from (f"{finding.file}: {finding.what}" for finding in self.beside)


def verify(root: Root, names: Iterable[str] = ()) -> Verification:
    """Prove the complete jobs that names and globs match, or all of them and whatever else is in
    complete/. UsageError for a name without a job."""
    evidence = Evidence(root)
    missing, elsewhere = evidence.runs.missing(complete_jobs(root))
    known = sorted({*complete_jobs(root), *missing})
    names = list(names)
    selected = matching_jobs(known, names, "complete") if names else known
    proofs = [_prove_steadily(evidence, job, alone=bool(names)) for job in selected]
    beside = () if names else (*_strays(root), *_beside(evidence, elsewhere))
    return Verification(tuple(filter(None, proofs)), tuple(beside))


def matching_jobs(known: Sequence[str], names: Iterable[str], kind: str) -> list[str]:
    """The known jobs that names and globs match; UsageError for a name that matches none."""
    exact = set(known)
    selected: dict[str, None] = {}
    for name in names:
        found = [name] if name in exact else fnmatch.filter(known, name)
        if not found:
            raise UsageError(
                f"no such {kind} job",
                no_such("job", name, known),
                hint="popbuild list shows the jobs and their states",
            )
        selected.update(dict.fromkeys(found))
    return list(selected)


def _prove_steadily(evidence: Evidence, job: str, *, alone: bool) -> JobProof | None:
    """Prove a job, again if a rebuild replaced it meanwhile: then what was read is of two results,
    or of one whose line was not written yet. None for a job that was removed meanwhile."""
    folder = evidence.root.job(COMPLETE, job)
    link = tree.first_link(str(folder.path))
    if link is not None:
        what = "is a symbolic link: nothing of the job was read"
        proof = JobProof(evidence, folder)
        proof.add(ProofFinding(evidence.root.show(Path(link)), what))
        return proof
    for _ in range(_MAX_TRIES):
        before = bytes_of(folder.seal)
        proof = _prove(evidence, folder, alone=alone)
        fresh = bytes_of(folder.seal) == before
        if fresh and (not proof.alterations or not evidence.renew()):
            break
    return proof if proof.findings or disk.stands(folder.path) else None


def _prove(evidence: Evidence, folder: JobFolder, *, alone: bool) -> JobProof:
    """Prove one job; `alone` includes the flaws of its lines in runs.jsonl, which are otherwise
    reported for the whole file."""
    proof = JobProof(evidence, folder)
    flaws = list(_flaws(evidence, folder.id)) if alone else []
    if not folder.path.is_dir():
        if proof.check_missing():
            proof.add(*flaws)
        return proof
    status = read_json(folder.status)
    status = status if isinstance(status, dict) else {}
    differing = proof.check_seal(proof.check_result(status.get("pipelineId")))
    letters = read_letters(proof, status)
    for task in read_frozen(evidence.root, folder.id):
        proof.note(f"{task} is frozen: not built again whatever changes")
    check_letters(proof, letters)
    # A letter says more about a file than the seal does: the seal adds the other files.
    for name, what in differing or ():
        if name not in proof.reported:
            proof.altered(name, what)
    proof.check_empty_folders()
    proof.add(*flaws)
    sum_up(proof)
    proof.sealed, proof.foreign = differing is not None, is_foreign(folder)
    return proof


def _flaws(evidence: Evidence, job: str | None = None) -> Iterator[ProofFinding]:
    """What is wrong with runs.jsonl, or with the lines of one job in it."""
    where = evidence.root.show(evidence.root.runs)
    for flaw in evidence.runs.flaws(job):
        yield ProofFinding(where, flaw.what, flaw.altered)


def _beside(evidence: Evidence, elsewhere: list[str]) -> Iterator[ProofFinding]:
    """What is wrong with runs.jsonl, and the jobs in it that are not here."""
    yield from _flaws(evidence)
    if elsewhere:
        # Only .popbuild/ knows whether that was meant: it was not copied along, or is another's.
        names = ", ".join(elsewhere[:_MAX_NAMED]) + (", …" if elsewhere[_MAX_NAMED:] else "")
        what = f"not here, whether or not that was meant: {names}"
        yield ProofFinding(evidence.root.show(evidence.root.runs), what, altered=False)


def _strays(root: Root) -> Iterator[ProofFinding]:
    """What is in complete/ and is neither a job nor runs.jsonl."""
    folder = root.data / COMPLETE
    known = {root.runs.name, *complete_jobs(root)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known:
            altered = not tree.is_temporary(path.name)
            what = "does not belong here" if altered else "was left by a command that was killed"
            yield ProofFinding(root.show(path), what, altered)
