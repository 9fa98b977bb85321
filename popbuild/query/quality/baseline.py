"""`scores/<variant>.json`: what results were when a person was content with them. It is under
version control, and a later test compares with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import UsageError
from popbuild.base.paths import Root
from popbuild.model.config.documents import parse_and_validate
from popbuild.query.quality.judged import Baseline

_VERSION = 1


def baseline_place(variant: str) -> str:
    return f"scores/{variant}.json"


def baseline_document(variant: str, values: Baseline) -> dict[str, Any]:
    """The document of a baseline. It says nothing of when, so that the same results are the same
    file."""
    jobs = {job: dict(each) for job, each in values.items()}
    return {"formatVersion": _VERSION, "variant": variant, "jobs": jobs}


def read_baseline(root: Root, variant: str) -> Baseline:
    """The values of a baseline. UsageError where there is none, ConfigError for one that cannot be
    used: a merge may have torn it."""
    place = baseline_place(variant)
    try:
        data = disk.read(root.path / place, max_bytes=jsonio.MAX_OWN_BYTES)
    except FileNotFoundError:
        hint = "popbuild test --save writes it from what stands"
        raise UsageError("there is no baseline", {"file": place}, hint) from None
    body: Mapping[str, Any] = parse_and_validate(data, place, "baseline")
    jobs: Baseline = body["jobs"]
    return jobs
