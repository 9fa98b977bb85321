"""How a task's folder says that its output is measured, read with located errors; and which of its
files only scores.py needs, so that the task does not depend on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from popbuild.base.errors import ConfigError, no_such
from popbuild.model.config.documents import ConfigDocuments
from popbuild.model.config.python_imports import imported_files
from popbuild.model.config.rules import TASK_FILE
from popbuild.model.scoring import SCORES_FILE, THRESHOLDS, Scoring, Threshold

_HINT = "a score takes three values: def name(output, seed, expected)"


def scoring_of(documents: ConfigDocuments, folder: str, own: Mapping[str, Any]) -> Scoring | None:
    """What the folder of a task says; None where nothing is measured. `own` is its task.yaml."""
    path = f"{folder}/{SCORES_FILE}"
    code = path if path in documents.snapshot.files else None
    functions = () if code is None else _functions(documents, code)
    rules: Mapping[str, Any] = own.get("scores", {})
    where = f"pipeline-config/{folder}/{TASK_FILE}"
    for name in rules:
        if name in functions:
            raise ConfigError(
                "two scores have the same name",
                {"file": where, "at": f"/scores/{name}", "other": f"pipeline-config/{path}"},
            )
    files = {} if code is None else _files(documents, code)
    gate = _gate(own.get("gate", {}).get("scores", {}), {*functions, *rules}, where)
    found = Scoring(code, functions, files, rules, gate)
    return found if found.names else None


def _functions(documents: ConfigDocuments, path: str) -> tuple[str, ...]:
    found, where = documents.scores_in(path), documents.snapshot.where(path)
    if "problem" in found:
        values = {"file": where, "found": found["problem"][0]}
        raise ConfigError("scores.py is not valid Python", values)
    if found["unfit"]:
        place, _, text = found["unfit"][0].partition(": ")
        values = {"file": where, "at": place, "found": text}
        raise ConfigError(
            "a score takes the wrong parameters",
            values,
            f"{_HINT}; begin a helper's name with _",
        )
    return tuple(found["fit"])


def _files(documents: ConfigDocuments, path: str) -> dict[str, str]:
    digests = documents.snapshot.digests
    return {each: digests[each] for each in sorted(_imported(documents, path))}


def _imported(documents: ConfigDocuments, path: str) -> set[str]:
    return imported_files(path, documents.snapshot.files, documents.names_in)


def _gate(given: Mapping[str, str], known: Collection[str], where: str) -> dict[str, Threshold]:
    found = {}
    for name, text in given.items():
        place = {"file": where, "at": f"/gate/scores/{name}"}
        if name not in known:
            values = no_such("score", name, known, where=place)
            hint = f"a score is a function of {SCORES_FILE}, or stands under `scores`"
            raise ConfigError("a gate asks for a score that the task does not have", values, hint)
        threshold = Threshold.of(text)
        if threshold is None:
            raise ConfigError(
                "not a threshold that a score can be held against",
                {**place, "found": text, "allowed": THRESHOLDS},
            )
        found[name] = threshold
    return found


def without_code(
    documents: ConfigDocuments,
    scoring: Scoring | None,
    files: Mapping[str, str],
    command: Collection[str],
) -> dict[str, str]:
    """The files of a task's folder without scores.py and what only that imports. A file that any
    other one imports or names may decide about an answer, and stays."""
    if scoring is None or scoring.code is None:
        return dict(files)
    own = files.keys() & scoring.files.keys()
    rest = files.keys() - own
    used = {each for path in rest if path.endswith(".py") for each in _imported(documents, path)}
    texts = [*(documents.snapshot.files[path] for path in rest), *map(str.encode, command)]

    def is_named(path: str) -> bool:
        name = path.rpartition("/")[2].encode()
        return any(name in text for text in texts)

    left_out = {
        path for path in own if path not in used and (path == scoring.code or not is_named(path))
    }
    return {path: digest for path, digest in files.items() if path not in left_out}
