"""Where models answer: the variables that litellm reads are dependencies, and no others are."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from provider import Provider, fail
from workspace import CHECKOUT, Workspace

from popbuild.base import jsonio
from popbuild.llm.endpoint import (
    ADDRESS_VARIABLES,
    ROUTES,
    USE_PROXY,
    address_of,
    normal_address,
    provider_place,
    variables_of,
)
from popbuild.llm.store import Store
from popbuild.model.letter import seal
from popbuild.model.place import NOWHERE, Place

# --- held against litellm ---

NOT_DRIVEN = {
    "chatgpt": "asks a person to log in with a browser first",
    "fal_ai": "takes pictures alone",
    "gdc": "needs Google's library",
    "github_copilot": "asks a person to log in with a browser first",
    "gradient_ai": "litellm refuses it the parameter max_retries",
    "huggingface": "asks huggingface.co about the model first",
    "sap": "asks for a token first",
}


@pytest.fixture(scope="module")
def said() -> list[dict[str, Any]]:
    """What litellm does, in a process of its own: see ask_litellm.py."""
    script = CHECKOUT / "tests/ask_litellm.py"
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    found = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.mark.thorough
def test_requests_go_where_our_table_says(said: list[dict[str, Any]]) -> None:
    """Each variable of ours leads a real request to its address, the first of several before the
    others; no other variable that litellm looks at leads one anywhere."""
    driven = [each for each in said if "model" in each]
    assert len(driven) > 100
    (by_proxy,) = (each["ours"] for each in driven if each["model"] == "gemini/by-the-proxy")
    assert by_proxy == ["LITELLM_PROXY_API_BASE", *OPENAI]
    assert [each for each in driven if each["strangers"]] == []
    missing = {each["model"].split("/")[0] for each in driven if each["ours"] != each["winners"]}
    assert missing == set(NOT_DRIVEN)
    known = {each["model"].split("/")[0] for each in driven}
    assert {name.split("/")[0] for name in ADDRESS_VARIABLES} - known == set()


@pytest.mark.thorough
def test_whose_model_it_is_without_a_provider_in_its_name(said: list[dict[str, Any]]) -> None:
    """A model of litellm's list is asked of the provider that litellm asks."""
    listed = {each["listed"]: each["provider"] for each in said if "listed" in each}
    assert len(listed) > 300
    other = {
        model: provider
        for model, provider in listed.items()
        if variables_of(model, {}, {}) != ADDRESS_VARIABLES.get(provider, ())
    }
    assert other == {}


READ = re.compile(
    r"(?:get_secret(?:_str)?|getenv|environ\.get)\(\s*[\"']([A-Z][A-Z0-9_]*)[\"']"
    r"|environ\[[\"']([A-Z][A-Z0-9_]*)[\"']\]"
)
ADDRESS = re.compile(r"(_BASE|_URL|_ENDPOINT|_HOST|_URI)$")
# Folders of litellm's source in which no chat is sent.
NO_CHATS = frozenset(
    "proxy integrations caching secret_managers observability tracing harness "  # a server's
    "images image_generation image_edit videos audio_transcription text_to_speech speech realtime "
    "realtime_api ocr embedding embeddings rerank rerank_api search vector_store vector_stores "
    "vector_store_files rag files batches batch_completion fine_tuning assistants containers "
    "skills count_tokens passthrough router_strategy experimental_mcp_client types".split()
)
NO_ADDRESS_OF_A_CHAT = {
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "a number of connections",
    "ALEPH_ALPHA_API_BASE": "of no provider any more",
    "ANYSCALE_API_BASE": "of no provider any more",
    "ARK_API_BASE": "the responses API alone",
    "AZURE_AUTHORITY_HOST": "gives the token",
    "BASETEN_API_BASE": "read only where an address is given already",
    "DEEPSEEK_ANTHROPIC_API_BASE": "the messages API alone",
    "FAL_AI_QUEUE_API_BASE": "asks for a price",
    "GIGACHAT_AUTH_URL": "gives the token",
    "GITHUB_COPILOT_ACCESS_TOKEN_URL": "gives the token",
    "GITHUB_COPILOT_API_KEY_URL": "gives the token",
    "GITHUB_COPILOT_DEVICE_CODE_URL": "gives the token",
    "LANGTRACE_API_HOST": "a log's",
    "LITELLM_ANTHROPIC_BETA_HEADERS_URL": "litellm's own lists",
    "LITELLM_AUTOROUTER_PRESETS_URL": "litellm's own lists",
    "LITELLM_BLOG_POSTS_URL": "litellm's own lists",
    "LITELLM_MODEL_COST_MAP_URL": "litellm's own lists",
    "LOGFIRE_BASE_URL": "a log's",
    "MANUS_API_BASE": "the responses API alone",
    "MISTRAL_API_BASE": "completions of text and lists of models; a chat goes elsewhere",
    "NVIDIA_RIVA_API_BASE": "speech alone",
    "OPENAI_LIKE_API_BASE": "of a provider that answers no chats",
    "OR_SITE_URL": "a header",
    "REDIS_HOST": "a cache's",
    "REDIS_URL": "a cache's",
    "REPLICATE_API_BASE": "read, and no request goes there",
    "SONIOX_API_BASE": "speech alone",
    "TENCENT_ANTHROPIC_API_BASE": "the messages API alone",
    "TOPAZ_API_BASE": "pictures alone",
    "VERCEL_SITE_URL": "a header",
    "VERTEX_API_BASE": "embeddings alone",
    "VLLM_API_BASE": "lists of models",
    "WATSONX_IAM_URL": "gives the token",
    "XAI_OAUTH_API_BASE": "after a login with a browser, by a setting",
    "XINFERENCE_API_BASE": "pictures and embeddings",
}


def test_no_variable_of_litellms_source_is_unknown() -> None:
    """Every variable whose name looks like an address, in litellm's source and its list of simple
    providers, is in our table or stands here with the reason why not."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    found = set()
    for path in package.rglob("*.py"):
        if NO_CHATS.isdisjoint(path.relative_to(package).parts):
            found.update(one or other for one, other in READ.findall(path.read_text()))
    providers = json.loads((package / "llms/openai_like/providers.json").read_text())
    found.update(each["api_base_env"] for each in providers.values() if "api_base_env" in each)
    found = {name for name in found if ADDRESS.search(name)}
    assert found - set().union(*ADDRESS_VARIABLES.values()) == set(NO_ADDRESS_OF_A_CHAT)


def test_routes_are_litellms() -> None:
    """Names that are in no list are routed by the rules of litellm's list."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "model_prices_and_context_window_backup.json"
    rules = json.loads(file.read_text())["fallback_generalizations"]["rules"]
    theirs = [
        (rule["pattern"], rule["model_info"]["litellm_provider"])
        for rule in rules
        if "litellm_provider" in rule.get("model_info", {})
    ]
    assert theirs == [(pattern.pattern, provider) for pattern, provider in ROUTES[1:]]


# --- which variable counts ---

OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


@pytest.mark.parametrize(
    ("model", "settings", "environment", "names"),
    [
        ("openai/gpt-5-nano", {}, {}, OPENAI),
        ("gpt-5-nano", {}, {}, OPENAI),
        ("ft:gpt-4o:us::1", {}, {}, OPENAI),
        ("claude-newfamily-9", {}, {}, ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")),
        ("us.anthropic.claude-new-v1:0", {}, {}, ("AWS_BEDROCK_RUNTIME_ENDPOINT",)),
        ("mistral/mistral-large-latest", {}, {}, ("MISTRAL_AZURE_API_BASE",)),
        ("replicate/meta/llama", {}, {}, ()),
        ("no-such-provider/m", {}, {}, ()),
        (
            "bedrock/claude_platform/claude-sonnet-4-5",
            {},
            {},
            ("ANTHROPIC_AWS_BASE_URL", "ANTHROPIC_AWS_API_BASE"),
        ),
        ("bedrock/m", {"aws_bedrock_runtime_endpoint": "https://x"}, {}, ()),
        ("my-model", {"custom_llm_provider": "groq"}, {}, ("GROQ_API_BASE",)),
        ("gemini/m", {}, {USE_PROXY: " True"}, ("LITELLM_PROXY_API_BASE", *OPENAI)),
        ("gemini/m", {}, {USE_PROXY: "1"}, ("GEMINI_API_BASE",)),
    ],
)
def test_the_variables_of_a_model(
    model: str, settings: dict[str, str], environment: dict[str, str], names: tuple[str, ...]
) -> None:
    assert variables_of(model, settings, environment) == names


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        ({}, {}, ("", "")),
        ({}, {"OPENAI_API_BASE": "http://b"}, ("http://b", "OPENAI_API_BASE")),
        (
            {},
            {"OPENAI_API_BASE": "http://b", "OPENAI_BASE_URL": "http://a"},
            ("http://a", "OPENAI_BASE_URL"),
        ),
        (
            {},
            {"OPENAI_API_BASE": "http://b", "OPENAI_BASE_URL": ""},
            ("http://b", "OPENAI_API_BASE"),
        ),
        ({"api_base": "http://c"}, {"OPENAI_BASE_URL": "http://a"}, ("http://c", "api_base")),
        ({"api_base": "http://c", "base_url": "http://d"}, {}, ("http://d", "base_url")),
    ],
)
def test_the_address_that_counts(
    settings: dict[str, str], environment: dict[str, str], found: tuple[str, str]
) -> None:
    """A setting before every variable, of several the first that is set to something."""
    assert address_of(settings, OPENAI, environment) == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://x.org/v1", "https://x.org/v1/", True),
        ("https://x.org", "https://x.org//", True),
        ("https://x.org/v1", "HTTPS://X.Org/v1", True),
        ("https://Me:Pw@x.org/v1", "https://Me:Pw@X.org/v1/", True),
        ("localhost:8000", "localhost:8000/", True),
        ("https://x.org/v1", "https://x.org/V1", False),
        ("https://Me:Pw@x.org/v1", "https://me:pw@x.org/v1", False),
        ("https://x.org/v1", "https://x.org:8443/v1", False),
        ("https://x.org/v1", "http://x.org/v1", False),
        ("https://x.org/v1?a=1", "https://x.org/v1?a=2", False),
        ("https://[::1/v1", "https://[::1/v2", False),
    ],
)
def test_one_address_in_two_ways(one: str, other: str, same: bool) -> None:
    """Slashes at the end, and capitals in scheme and host, make no other address. All else may."""
    assert (normal_address(one) == normal_address(other)) == same


# --- what is written down of it, now and by versions before ---

A, A_SLASH, B = (jsonio.digest(f"http://{each}") for each in ("a", "a/", "b"))
AT_A = Place(A, "OPENAI_BASE_URL", OPENAI, before=(A_SLASH,))
AT_ONE_OF_BEFORE = Place(None, "", ("MISTRAL_AZURE_API_BASE",), before=(B,))
UNSEEN_BEFORE = Place(A, "MISTRAL_AZURE_API_BASE", ("MISTRAL_AZURE_API_BASE",), before=(None,))


@pytest.mark.parametrize(
    ("place", "last", "same"),
    [
        (AT_A, f"OPENAI_BASE_URL {A}", True),
        (AT_A, f"OPENAI_API_BASE {A}", True),
        (AT_A, f"OPENAI_BASE_URL {B}", False),
        (AT_A, "default", False),
        (AT_A, A, True),
        (AT_A, A_SLASH, True),
        (AT_A, f"OPENAI_BASE_URL {A_SLASH}", False),
        (AT_A, B, False),
        (AT_A, None, False),
        (AT_ONE_OF_BEFORE, "default", True),
        (AT_ONE_OF_BEFORE, None, True),
        (AT_ONE_OF_BEFORE, B, True),
        (AT_ONE_OF_BEFORE, f"MISTRAL_API_BASE {B}", False),
        (UNSEEN_BEFORE, None, True),
        (UNSEEN_BEFORE, "default", False),
        (NOWHERE, None, True),
        (NOWHERE, "default", True),
        (NOWHERE, A, False),
    ],
)
def test_whether_a_letter_means_this_place(place: Place, last: str | None, same: bool) -> None:
    """By the address, whatever variable it stands in. What the rule of before made of today's
    configuration counts in letters of before alone."""
    assert place.is_that_of(last) == same


@pytest.mark.parametrize(
    ("place", "last", "differs", "as_built"),
    [
        (
            Place(names=OPENAI),
            f"OPENAI_API_BASE {A}",
            "built with OPENAI_API_BASE set",
            "set OPENAI_API_BASE as it was then",
        ),
        (
            Place(names=OPENAI),
            A,
            "built at another address",
            "set OPENAI_BASE_URL or OPENAI_API_BASE as it was then",
        ),
        (AT_A, "default", "OPENAI_BASE_URL was not set when it was built", "unset OPENAI_BASE_URL"),
        (AT_A, None, "OPENAI_BASE_URL was not set when it was built", "unset OPENAI_BASE_URL"),
        (
            AT_A,
            f"OPENAI_BASE_URL {B}",
            "built with another OPENAI_BASE_URL",
            "set OPENAI_BASE_URL as it was then",
        ),
        (
            AT_A,
            f"OPENAI_API_BASE {B}",
            "built with OPENAI_API_BASE set",
            "set OPENAI_API_BASE as it was then",
        ),
        (
            AT_A,
            B,
            "built with another OPENAI_BASE_URL",
            "set OPENAI_BASE_URL or OPENAI_API_BASE as it was then",
        ),
        (Place(B, "api_base", OPENAI), "default", "api_base was not set when it was built", ""),
        (Place(names=OPENAI), f"api_base {A}", "built with api_base set", ""),
        (
            Place(names=("GROQ_API_BASE",)),
            f"OPENAI_BASE_URL {A}",
            "built with OPENAI_BASE_URL set",
            "",
        ),
        (NOWHERE, A, "built at another address", ""),
    ],
)
def test_how_to_see_it_as_it_was_built(
    place: Place, last: str | None, differs: str, as_built: str
) -> None:
    """A setting of the configuration has a reason of its own, with its value."""
    assert (place.since(last), place.as_built(last)) == (differs, as_built)


@pytest.mark.parametrize(
    ("model", "settings", "environment", "before"),
    [
        ("openai/m", {}, {}, ()),
        ("openai/m", {}, {"OPENAI_BASE_URL": "http://a"}, ()),
        ("openai/m", {}, {"OPENAI_BASE_URL": "http://a/"}, ("http://a/",)),
        ("mistral/m", {}, {"MISTRAL_API_BASE": "http://b"}, ("http://b",)),
        ("mistral/m", {}, {"MISTRAL_AZURE_API_BASE": "http://a"}, (None,)),
        (
            "anthropic/m",
            {},
            {"ANTHROPIC_API_BASE": "http://a/", "ANTHROPIC_BASE_URL": "http://b"},
            ("http://a/", "http://b"),
        ),
        ("m", {"api_base": "http://a/"}, {"OPENAI_BASE_URL": "http://b"}, ("http://a/",)),
    ],
)
def test_what_versions_before_computed(
    model: str,
    settings: dict[str, str],
    environment: dict[str, str],
    before: tuple[str | None, ...],
) -> None:
    """As the address is written, and by the variables that they knew."""
    digests = tuple(each if each is None else jsonio.digest(each) for each in before)
    assert provider_place(model, settings, environment).before == digests


# --- on real roots ---


def reasons(workspace: Workspace, env: Mapping[str, str]) -> list[str]:
    (job,) = json.loads(workspace.popbuild("status", "--json", env=env).out)
    found: list[str] = job["tasks"]["research"]["reasons"]
    return found


def test_looked_at_without_the_address(workspace: Workspace, provider: Provider) -> None:
    """A job that was built with an address is stale without it, for that reason alone, and `status`
    says how to see it as it was. Another way to write the address changes nothing."""
    assert workspace.popbuild("run").code == 0
    calls = len(provider.requests)
    without = {"OPENAI_BASE_URL": ""}
    assert reasons(workspace, without) == ["endpoint removed: built with OPENAI_BASE_URL set"]
    how = "set OPENAI_BASE_URL as it was then\n"
    said = workspace.popbuild("status", "first", env=without).out
    assert f"  to see it as it was built: {how}" in said
    assert workspace.popbuild("status", env=without).err == f"to see 1 job as built: {how}"
    assert (
        f"  to see it as it was built: {how}"
        in workspace.popbuild("explain", "first", env=without).out
    )
    for env in (
        {},
        {"OPENAI_BASE_URL": f"{provider.base_url}/"},
        {"OPENAI_BASE_URL": "", "OPENAI_API_BASE": provider.base_url},
        {"OPENAI_API_BASE": "http://127.0.0.1:9/v1"},
        {"OPENAI_ENDPOINT": "http://127.0.0.1:9/v1"},
    ):
        assert workspace.popbuild("run", env=env).out == "-- first  up to date\n"
        assert workspace.popbuild("run", "-a", "--store", "only", env=env).code == 0
    assert len(provider.requests) == calls
    assert workspace.letter("first", "research")["fingerprint"]["endpoint"] == (
        f"OPENAI_BASE_URL {jsonio.digest(provider.base_url)}"
    )


def test_a_provider_whose_variable_has_another_name(
    workspace: Workspace, provider: Provider
) -> None:
    """The request goes where MISTRAL_AZURE_API_BASE says, so it is a dependency; MISTRAL_API_BASE
    leads no chat anywhere, and is none."""
    workspace.pipeline(["research", "analysis"], model="mistral/mistral-small-latest")
    env = {"MISTRAL_API_KEY": "sk-test-not-a-real-key", "OPENAI_BASE_URL": ""}
    there = env | {"MISTRAL_AZURE_API_BASE": provider.base_url}
    assert workspace.popbuild("run", env=there).code == 0
    calls = len(provider.requests)
    assert calls == 2
    lost = there | {"MISTRAL_API_BASE": "http://127.0.0.1:9/v1"}
    assert workspace.popbuild("run", env=lost).out == "-- first  up to date\n"
    (reason,) = reasons(workspace, env)
    assert reason == "endpoint removed: built with MISTRAL_AZURE_API_BASE set"
    (reason,) = reasons(workspace, there | {"MISTRAL_AZURE_API_BASE": "http://127.0.0.1:9/v1"})
    assert reason == "endpoint changed: built with another MISTRAL_AZURE_API_BASE"
    assert len(provider.requests) == calls


def as_before(workspace: Workspace, state: str, endpoint: str | None) -> None:
    """Turn what a job has into what versions before wrote: the bare digest of the address as it is
    written, in letters, in the rejection, in requests and their names in the store."""
    store = Store(workspace.root / ".popbuild/store")
    names = {}
    for path in (workspace.root / ".popbuild/store").rglob("*.json"):
        body = json.loads(path.read_bytes())
        request = body["request"] | {"endpoint": endpoint}
        digest = jsonio.digest(request)
        names[body["digestOfRequest"]] = digest
        path.unlink()
        target = store.path(digest)
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(seal(body | {"request": request, "digestOfRequest": digest})))
    for path in workspace.job("first", state).rglob("*.json"):
        if path.name in ("letter.json", "rejection.json"):
            body = json.loads(path.read_bytes())
            del body["fingerprint"]["endpoint"]
            if endpoint is not None:
                body["fingerprint"]["endpoint"] = endpoint
            for call in body["calls"]:
                call["request"] = names[call["request"]]
            path.write_text(json.dumps(seal(body) if "digest" in body else body))


BEFORE: dict[str, tuple[str, Callable[[str], dict[str, str]], Callable[[str], str | None]]] = {
    "a slash at the end": (
        "openai/gpt-4o-mini",
        lambda url: {"OPENAI_BASE_URL": f"{url}/"},
        lambda url: f"{url}/",
    ),
    "a variable that was not known": (
        "mistral/mistral-small-latest",
        lambda url: {"MISTRAL_AZURE_API_BASE": url, "MISTRAL_API_KEY": "sk-test-no-real-key"},
        lambda url: None,
    ),
    "a variable that litellm does not read": (
        "mistral/mistral-small-latest",
        lambda url: {
            "MISTRAL_AZURE_API_BASE": url,
            "MISTRAL_API_BASE": "http://127.0.0.1:9",
            "MISTRAL_API_KEY": "sk-test-no-real-key",
        },
        lambda url: "http://127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_versions_before_built(case: str, workspace: Workspace, provider: Provider) -> None:
    """It is up to date in the same environment, its answers are found under the digests that they
    were stored by, and a letter that is written now names those."""
    model, environment, written = BEFORE[case]
    env = environment(provider.base_url)
    workspace.pipeline(["research", "analysis"], model=model)
    assert workspace.popbuild("run", env=env).code == 0
    calls = len(provider.requests)
    address = written(provider.base_url)
    as_before(workspace, "complete", None if address is None else jsonio.digest(address))
    kept = [call["request"] for call in workspace.letter("first", "research")["calls"]]
    assert workspace.popbuild("run", env=env).out == "-- first  up to date\n"
    # Rebuilt from the store, as the plan says.
    asked = json.loads(workspace.popbuild("plan", "-a", "--json", env=env).out)["jobs"][0]
    assert asked["tasks"][0]["storedCalls"] == 1
    assert workspace.popbuild("run", "-a", "--store", "only", env=env).code == 0
    assert [call["request"] for call in workspace.letter("first", "research")["calls"]] == kept
    assert "altered" not in workspace.popbuild("verify", "first", env=env).out
    assert workspace.popbuild("run", env=env).out == "-- first  up to date\n"
    assert len(provider.requests) == calls


def test_a_rejection_of_before_stands(workspace: Workspace, provider: Provider) -> None:
    """What was rejected by a version before is not bought again."""
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    workspace.task("research", schema=schema)
    provider.answer = lambda request: fail(200, text="no JSON")
    env = {"OPENAI_BASE_URL": f"{provider.base_url}/"}
    assert workspace.popbuild("run", env=env).code == 1
    calls = len(provider.requests)
    as_before(workspace, "rejected", jsonio.digest(f"{provider.base_url}/"))
    assert workspace.popbuild("run", env=env).code == 1
    assert len(provider.requests) == calls
