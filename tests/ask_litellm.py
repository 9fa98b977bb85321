"""Asks litellm itself where it sends a request: a script, since it changes its own process.

For each of its providers that answers chats, one line of JSON, and one for each model that its list
of prices has without a provider:

    {"model": …, "ours": […], "winners": […], "strangers": […]}
    {"listed": …, "provider": …}

`ours` are the variables of popbuild's table. `winners` are those of them whose address got the
request: of all, then of all but the first winner, and so on. `strangers` are other variables that
litellm looked at, and that led the request away with none of ours set. Every address is on the
loopback, and no other host can be reached from here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from popbuild.llm import client
from popbuild.llm.endpoint import USE_PROXY, variables_of

litellm: Any = client.litellm
registry: Any = __import__("litellm.llms.openai_like.json_loader", fromlist=["x"])
vertex: Any = __import__("litellm.llms.vertex_ai.vertex_llm_base", fromlist=["x"])

ADDRESS = re.compile(r"(_BASE|_URL|_ENDPOINT|_HOST|_URI)$")
SECRET = re.compile(r"(_KEY|_TOKEN|_API_Key)$")
# What a provider wants before it sends anything.
WANTED = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_REGION_NAME": "us-east-1",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AZURE_API_VERSION": "2024-06-01",
    "ANTHROPIC_AWS_WORKSPACE_ID": "w",
    "CLOUDFLARE_ACCOUNT_ID": "account",
    "PREDIBASE_TENANT_ID": "tenant",
    "SNOWFLAKE_ACCOUNT_ID": "account",
    "VERTEXAI_LOCATION": "us-central1",
    "VERTEXAI_PROJECT": "project",
    "WATSONX_PROJECT_ID": "project",
}
# Models by which a provider is asked, where any name will not do; and further routes of it.
MODELS = {
    "ai21": ["ai21/jamba-1.5-mini"],
    "azure": ["azure/m", "azure/o1-mini", "azure/command-r-plus"],
    "azure_ai": ["azure_ai/m", "azure_ai/claude-3-5-haiku", "azure_ai/agents/m"],
    "bedrock": [
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        "bedrock/converse/amazon.nova-lite-v1:0",
        "bedrock/claude_platform/claude-sonnet-4-5",
    ],
    "ragflow": ["ragflow/chat/c/m"],
    "vertex_ai": ["vertex_ai/gemini-1.5-pro", "vertex_ai/claude-3-5-sonnet@20240620"],
    "watsonx": ["watsonx/ibm/m"],
}

arrived: list[str] = []
looked_at: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    """Notes which address was asked, and refuses: one request, and no other try."""

    def do_POST(self) -> None:
        arrived.append(self.path.split("/")[1])
        self.send_response(400)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, *_args: Any) -> None:
        pass


def watch_environment() -> None:
    """Note every variable that is looked at. Whatever is a key is there."""
    environment: Any = type(os.environ)
    plain = environment.__getitem__

    def look(self: Any, name: Any) -> Any:
        text = name if isinstance(name, str) else name.decode()
        looked_at.add(text)
        if SECRET.search(text) and "OIDC" not in text and not text.startswith("AWS_"):
            return "sk-test" if isinstance(name, str) else b"sk-test"
        return plain(self, name)

    environment.__getitem__ = look


def stay_on_the_loopback() -> None:
    """No other host has an address here."""
    plain = socket.getaddrinfo

    def find(host: Any, *args: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, "not in a test")
        return plain(host, *args, **more)

    socket.getaddrinfo = find


def without_google() -> None:
    """Vertex asks Google's own library for a token, which is not installed."""

    async def token(*_args: Any, **_more: Any) -> tuple[str, str]:
        return "token", "project"

    vertex.VertexBase._ensure_access_token_async = token
    for name in ("_ensure_access_token", "get_access_token"):
        setattr(vertex.VertexBase, name, lambda *_args, **_more: ("token", "project"))


def models() -> Iterator[str]:
    named = [getattr(each, "value", each) for each in litellm.provider_list]
    for provider in dict.fromkeys([*named, *registry.JSONProviderRegistry.list_providers()]):
        if provider != "local":
            yield from MODELS.get(provider, [f"{provider}/m"])


async def ask(model: str, names: set[str], port: int) -> str:
    """Ask with these variables set, each to an address of its own. Gives litellm's error."""
    looked_at.clear()
    arrived.clear()
    given = {name: f"http://127.0.0.1:{port}/{name}/v1" for name in names}
    os.environ.update(given)
    try:
        messages = [{"role": "user", "content": "hi"}]
        more = {"max_retries": 0, "num_retries": 0, "timeout": 5}
        await asyncio.wait_for(litellm.acompletion(model=model, messages=messages, **more), 5)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        for name in given:
            del os.environ[name]
    return ""


async def line_of(model: str, port: int) -> dict[str, Any] | None:
    ours = variables_of(model, {}, os.environ)
    left, winners = set(ours), []
    seen: set[str] = set()
    while left:
        error = await ask(model, left, port)
        if "Unmapped LLM provider" in error:
            return None  # it answers no chats
        seen |= looked_at
        if not arrived or arrived[0] not in left:
            break
        winners.append(arrived[0])
        left.remove(arrived[0])
    strangers: set[str] = set()
    while True:
        error = await ask(model, strangers, port)
        if "Unmapped LLM provider" in error:
            return None
        more = {name for name in seen | looked_at if ADDRESS.search(name)} - {*ours, *strangers}
        if not more:
            break
        strangers |= more
    led_away = sorted(strangers.intersection(arrived))
    return {"model": model, "ours": ours, "winners": winners, "strangers": led_away}


def listed() -> Iterator[dict[str, str]]:
    """The models without a provider in their names, and who answers for each."""
    for model, info in litellm.model_cost.items():
        if "/" not in model and info.get("mode") in ("chat", "completion", "responses"):
            try:
                provider = litellm.get_llm_provider(model)[1]
            except litellm.exceptions.BadRequestError:
                continue  # listed, and yet refused
            yield {"listed": model, "provider": provider}


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    for model in models():
        found = await line_of(model, port)
        if found is not None:
            sys.stdout.write(json.dumps(found) + "\n")
    os.environ[USE_PROXY] = "true"
    sys.stdout.write(json.dumps(await line_of("gemini/by-the-proxy", port)) + "\n")
    del os.environ[USE_PROXY]
    for found in listed():
        sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # connections that are open still would be complained about


logging.disable(logging.CRITICAL)
os.environ.update(WANTED)
watch_environment()
stay_on_the_loopback()
without_google()
asyncio.run(main())
