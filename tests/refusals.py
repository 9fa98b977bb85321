"""What every refusal has in common: one clear error, the right exit code, no key, no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from commands import Result
from workspace import Workspace

# Nothing like it stands anywhere else: wherever it is found, it leaked.
KEY = "sk-RECOGNISABLE-0123456789abcdef-XYZ"
RUNS = {"popbuild": ("popbuild", "run"), "doit": ("doit", "run")}


def refused(
    workspace: Workspace, argv: Iterable[str], code: int, phrases: Iterable[str], **options: Any
) -> Result:
    """Run a command that must fail, with KEY in its environment; gives how it ended."""
    options["env"] = {"OPENAI_API_KEY": KEY, "POPBUILD_BACKOFF_S": "0.01"} | options.get("env", {})
    result = workspace.run(*argv, **options)
    said = result.out + result.err
    assert result.code == code, said
    for phrase in phrases:
        assert phrase in said, f"{phrase!r} is not in:\n{said}"
    assert "Traceback" not in said
    assert result.err.count("error: ") <= 1, said
    nothing_leaked(workspace, said)
    return result


def nothing_leaked(workspace: Workspace, said: str) -> None:
    """No key, nor half of one, in the output or in any file below the root; all of ours is
    private."""
    assert KEY[:8] not in said
    for path in workspace.root.rglob("*"):
        ours = path.relative_to(workspace.root).parts[0] in ("pipeline-data", ".popbuild")
        if path.is_file() and not path.is_symlink():
            assert KEY[:8].encode() not in path.read_bytes(), path
        if ours and not path.is_symlink():
            mode = path.stat().st_mode & 0o777
            assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))


def rejection(workspace: Workspace, job: str = "first") -> Any:
    """The problems of a job's rejection.json, each as `pointer: message`."""
    body = json.loads((workspace.job(job, "rejected") / "rejection.json").read_bytes())
    return [f"{each['pointer']}: {each['message']}" for each in body["problems"]]
