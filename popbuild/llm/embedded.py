"""The embedded model: llama.cpp in this process, through xllamacpp's server object."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popbuild.base.errors import ProviderError
from popbuild.llm.endpoint import EMBEDDED_MODEL, weights_path

CONTEXT_TOKENS = 4096

# What litellm may pass on. Others would silently change what a request means.
_PARAMETERS = frozenset(
    "temperature max_tokens top_p seed stop response_format presence_penalty frequency_penalty "
    "min_p top_k repeat_penalty repeat_last_n logit_bias".split()
)
# Without these a small model repeats itself and loses its thread. A warm prompt cache can change
# an answer, so it stays cold.
_DEFAULTS = {
    "min_p": 0.05,
    "repeat_penalty": 1.05,
    "repeat_last_n": 64,
    "cache_prompt": False,
}

# One server a file of weights for all of the process, so that each is loaded once.
_lock = threading.Lock()
_servers: dict[Path, Any] = {}


def complete(
    messages: list[dict[str, Any]],
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """A chat completion in OpenAI's shape. Blocks; loads the model at the first call. Raises
    ProviderError when the package is missing or llama.cpp reports an error."""
    payload = {
        **_DEFAULTS,
        **{key: value for key, value in parameters.items() if key in _PARAMETERS},
        "messages": messages,
    }
    path = weights_path(environment)
    with _lock:
        if path not in _servers:
            _servers[path] = _load(path)
    try:
        result = _servers[path].handle_chat_completions(payload)
    except ValueError as error:  # for example a schema that it cannot compile
        found = {"model": EMBEDDED_MODEL, "found": error}
        raise ProviderError("the embedded model cannot take this request", found) from None
    if isinstance(result, str):
        result = json.loads(result)
    if "error" in result:
        said = result["error"]
        message = said.get("message", said) if isinstance(said, dict) else said
        found = {"model": EMBEDDED_MODEL, "found": message}
        raise ProviderError("the embedded model reports an error", found)
    # llama.cpp gives the path of the weights as the model's name; jobs hold no paths.
    return {**result, "model": EMBEDDED_MODEL}


def _load(path: Path) -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise ProviderError(
            "the embedded model cannot run",
            {"model": EMBEDDED_MODEL, "missing": "the package xllamacpp"},
            hint="pip install 'popbuild[local]'; or use another model: "
            "set POPBUILD_MODEL=gpt-5-nano and OPENAI_API_KEY",
        ) from None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.verbosity = 0
    # llama.cpp would keep the state of past prompts, up to 8 GiB (1 GB after a thousand calls),
    # which is useless while the prompt cache stays cold.
    parameters.cache_ram_mib = 0
    parameters.cache_prompt = False
    parameters.cache_idle_slots = False
    # One thread: llama.cpp's threads wait for each other by spinning. On two busy cores the same
    # answer took 2.2 s with one thread and 36 s with its default; on quiet ones 1.4 s and 0.7 s.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.model_alias = {EMBEDDED_MODEL}
    # The server object always opens a loopback port: other programs must not use it.
    parameters.api_keys = [secrets.token_hex(16)]
    parameters.ui = False
    return xllamacpp.Server(parameters)
