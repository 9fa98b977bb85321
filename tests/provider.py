"""A model provider on the loopback: a real HTTP server that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from patience import PATIENCE_S

PATHS = ("/v1/chat/completions", "/chat/completions")
_A_MOMENT_S = 0.05


@dataclass
class Request:
    """One request as it came in. `answered` turns true when the whole answer is being sent, and
    `sent` is then its body."""

    number: int  # from 1, in order of arrival
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]  # empty if the body was no JSON object
    at: float  # time.monotonic()
    answered: bool = False
    sent: bytes = b""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages", []))

    def said(self, role: str) -> str:
        """The text of the last message of this role, "" if there is none."""
        texts = [message["content"] for message in self.messages if message["role"] == role]
        return str(texts[-1]) if texts else ""

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer was asked to follow."""
        form = self.body.get("response_format") or {}
        if form.get("type") != "json_schema":
            return None
        schema: dict[str, Any] = form["json_schema"]["schema"]
        return schema

    @property
    def digest(self) -> str:
        """Equal for equal bodies, whatever the order of their keys."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What to answer. Token counts left out are counted from the texts, four characters a token.

    `drop` closes the connection: without any answer, or with a `body` after the start of an
    answer that promised more. `part` closes it after this share of the answer's bytes, head and
    all. `then` is called once the client had a moment to read what was sent, before the connection
    closes. With a `status` other than 200 the text is the error's message.
    """

    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None  # reasoning included, as OpenAI counts
    reasoning_tokens: int = 0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    body: bytes | None = None  # sent as it is, in place of the JSON document
    drop: bool = False
    part: float | None = None
    then: Callable[[], object] | None = None


def fail(status: int, retry_after: float | None = None, text: str = "scripted failure") -> Reply:
    """An error as OpenAI words it, with a Retry-After header in seconds if wanted."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Reply(text=text, status=status, headers=headers)


def default_answer(request: Request) -> Reply:
    """The same answer for the same request: three sentences, or an instance of its schema."""
    words = Words(request.digest)
    if request.schema is None:
        return Reply(words.prose(3))
    return Reply(json.dumps(instance(request.schema, words)))


class Provider:
    """A context manager around the server. Every public member may be used from any thread.

    `answer` and the hooks of `at` run on the server's only thread: while they run, nothing
    else is answered. What they raise is answered with a 500 and raised again at the end.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Request], Reply] = default_answer
        self.serves_every_path = False  # other providers' forms have other paths
        self.port = 0
        # The most requests that ever waited here at the same time. One that is answered at once
        # never waits: count with `hold` or a `delay_s`.
        self.peak_in_flight = 0
        self._in_flight = 0
        self._requests: list[Request] = []
        self._script: deque[Reply] = deque()
        self._hooks: dict[int, Callable[[Request], object]] = {}
        self._barrier: _Barrier | None = None
        self._errors: list[Exception] = []
        self._arrived = threading.Condition()
        self._connections: set[_Connection] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)

    # --- life ---

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(PATIENCE_S) or not self.port:
            raise RuntimeError("the provider did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is None and self._errors:
            raise self._errors[0]

    def close(self) -> None:
        """End the server and every connection. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        await self._listen()
        self._ready.set()
        await self._closing.wait()
        await self._hang_up()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=2048
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._server.close()
        await asyncio.gather(*(connection.end() for connection in list(self._connections)))
        await self._server.wait_closed()

    # --- what a test asks and arranges ---

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def environment(self) -> dict[str, str]:
        """What a command needs to find this provider under the name `openai/…`."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": "sk-test-not-a-real-key"}

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of arrival. The list is a copy, its items are not."""
        with self._arrived:
            return list(self._requests)

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Return once `count` requests have arrived since the start. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self._requests)} of {count} requests in {timeout_s:g} s")

    def script(self, replies: Iterable[Reply | str]) -> None:
        """Answer the next requests with these, in order of arrival; then `answer` again."""
        with self._arrived:
            self._script.extend(Reply(one) if isinstance(one, str) else one for one in replies)

    def at(self, number: int, hook: Callable[[Request], object]) -> None:
        """Call `hook` when request `number`, counted from 1, arrives, before it is answered."""
        with self._arrived:
            self._hooks[number] = hook

    def kill_at(self, number: int, pid: Callable[[], int]) -> None:
        """SIGKILL a process when request `number` arrives. Its answer will not be read."""
        self.at(number, lambda _: os.kill(pid(), signal.SIGKILL))

    def hold(self, after: int = 0) -> None:
        """Let the next `after` requests pass; those that follow wait for `release`."""
        with self._arrived:
            self._barrier = _Barrier(len(self._requests) + after, asyncio.Event())

    def release(self) -> None:
        """Answer the requests that wait, and hold no more."""
        with self._arrived:
            barrier, self._barrier = self._barrier, None
        if barrier is not None:
            self._loop.call_soon_threadsafe(barrier.opened.set)

    def go_down(self) -> None:
        """Break every connection and refuse new ones, until `come_back`."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(10)

    def come_back(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def most_within(self, minute_s: float) -> int:
        """The most requests that ever arrived within so many seconds, wherever they begin."""
        times = [request.at for request in self.requests]
        return max(
            (sum(start <= at < start + minute_s for at in times) for start in times), default=0
        )

    # --- on the server's thread ---

    async def reply(self, message: _Message) -> tuple[Request, Reply]:
        """Record a request and say what to answer, once it is time to."""
        with self._arrived:
            request = Request(len(self._requests) + 1, *message, at=time.monotonic())
            self._requests.append(request)
            hook = self._hooks.pop(request.number, None)
            barrier = self._barrier
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
            self._arrived.notify_all()
        try:
            # Chosen on arrival: a held or slow request must not change who gets which answer.
            reply = self._choose(request, hook)
            if barrier is not None and request.number > barrier.free:
                await barrier.opened.wait()
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
        finally:
            with self._arrived:
                self._in_flight -= 1
        return request, reply

    def _choose(self, request: Request, hook: Callable[[Request], object] | None) -> Reply:
        try:
            if hook is not None:
                hook(request)
            known = self.serves_every_path or request.path in PATHS
            if request.method != "POST" or not known:
                return fail(404, text=f"no such endpoint: {request.method} {request.path}")
            if not request.body or request.body.get("stream"):
                return fail(400, text="a JSON object was expected, and no streaming")
            with self._arrived:
                scripted = self._script.popleft() if self._script else None
            return scripted or self.answer(request)
        except Exception as error:
            self._errors.append(error)
            return fail(500, text=f"the test's own code failed: {error!r}")


@dataclass(frozen=True)
class _Barrier:
    free: int  # the number of the last request that may pass
    opened: asyncio.Event


# method, path, headers, body
_Message = tuple[str, str, dict[str, str], dict[str, Any]]


class _Connection(asyncio.Protocol):
    """One connection, kept alive: a request is read when the one before has its answer."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._provider._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost.set()
        self._provider._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    async def end(self) -> None:
        self._transport.abort()
        await self._lost.wait()

    def _advance(self) -> None:
        if self._task is None and (message := _take(self._buffer)) is not None:
            self._task = asyncio.get_running_loop().create_task(self._handle(message))

    async def _handle(self, message: _Message) -> None:
        request, reply = await self._provider.reply(message)
        if reply.drop:
            whole, data = False, _encode(request, reply, 100) if reply.body is not None else b""
        else:
            data = _encode(request, reply)
            size = len(data) if reply.part is None else round(len(data) * reply.part)
            whole, data = size == len(data), data[:size]
        if whole:
            request.sent = data.partition(b"\r\n\r\n")[2]
            request.answered = True
        self._transport.write(data)
        if reply.then is not None:
            await asyncio.sleep(_A_MOMENT_S)
            reply.then()
        if reply.drop or reply.part is not None:
            self._transport.close()
            return
        self._task = None
        self._advance()


def _take(buffer: bytearray) -> _Message | None:
    """Cut the first complete request off the buffer. Bodies come with a Content-Length."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    first, *lines = buffer[:head_end].decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
    }
    end = head_end + 4 + int(headers.get("content-length", 0))
    if len(buffer) < end:
        return None
    raw = bytes(buffer[head_end + 4 : end])
    del buffer[:end]
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    method, path, _ = first.split(" ")
    return method, path, headers, body if isinstance(body, dict) else {}


def _encode(request: Request, reply: Reply, missing_bytes: int = 0) -> bytes:
    body = reply.body
    if body is None:
        document = _completion(request, reply) if reply.status == 200 else _error(reply)
        body = json.dumps(document).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body) + missing_bytes),
        "x-request-id": f"req_{request.number}",
        **{name.lower(): value for name, value in reply.headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Scripted\r\n{head}\r\n".encode() + body


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    asked = reply.prompt_tokens
    if asked is None:
        asked = sum(_tokens(str(message.get("content"))) for message in request.messages)
    answered = reply.completion_tokens
    if answered is None:
        answered = _tokens(reply.text) + reply.reasoning_tokens
    return {
        "id": f"chatcmpl-{request.number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "logprobs": None,
                "finish_reason": reply.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        },
    }


def _error(reply: Reply) -> dict[str, Any]:
    kind = {401: "authentication_error", 429: "requests"}.get(
        reply.status, "server_error" if reply.status >= 500 else "invalid_request_error"
    )
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(reply.status)
    return {"error": {"message": reply.text, "type": kind, "param": None, "code": code}}


def _tokens(text: str) -> int:
    return len(text) // 4 + 1


# --- words and values ---

_ADJECTIVES = (
    "quiet careful modern regional public smaller digital annual shared private stable local "
    "early direct foreign seasonal central formal rural reliable simple costly flexible "
    "practical natural visible "
).split()
_NOUNS = (
    "market supplier report battery village customer budget network forecast factory teacher "
    "pattern harvest engine policy bridge document region product survey window reader "
    "contract harbor garden method "
).split()
_VERBS = (
    "improves follows measures supports reduces explains attracts connects rewards replaces "
    "protects shapes informs extends balances "
).split()


class Words:
    """Sentences drawn from a seed. No word of a bank comes twice in three sentences."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._left: dict[int, list[str]] = {}

    def sentence(self) -> str:
        adjectives = self._draw(_ADJECTIVES, 4)
        nouns = self._draw(_NOUNS, 4)
        verbs = self._draw(_VERBS, 2)
        one, two, three, four = (f"{a} {n}" for a, n in zip(adjectives, nouns, strict=True))
        return f"The {one} {verbs[0]} a {two}, and every {three} {verbs[1]} its {four}."

    def prose(self, sentences: int) -> str:
        return " ".join(self.sentence() for _ in range(sentences))

    def _draw(self, bank: list[str], count: int) -> list[str]:
        left = self._left.get(id(bank), [])
        if len(left) < count:
            left = self._random.sample(bank, len(bank))
        self._left[id(bank)] = left[count:]
        return left[:count]


_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "email": "reader@example.org",
    "uri": "https://example.org/",
}


def instance(schema: Any, words: Words, root: Any = None) -> Any:
    """A small valid instance: the required properties, or all if none is required.

    Texts are a sentence, so that they pass gates on prose. Knows the keywords that response
    formats are made of; raises ValueError for what it cannot fill (a `pattern`, say).
    """
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return words.sentence()  # `true`: anything goes
    if "$ref" in schema:
        return instance(_resolve(root, schema["$ref"]), words, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            rest = {name: value for name, value in schema.items() if name != choice}
            return instance(rest | schema[choice][0], words, root)
    return _typed(schema, words, root)


def _resolve(root: Any, reference: str) -> Any:
    for part in reference.removeprefix("#").split("/")[1:]:
        root = root[part.replace("~1", "/").replace("~0", "~")]
    return root


def _typed(schema: dict[str, Any], words: Words, root: Any) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            names = schema.get("required", properties)
            return {name: instance(properties.get(name, {}), words, root) for name in names}
        case "array":
            count = schema.get("minItems", 1)
            return [instance(schema.get("items", {}), words, root) for _ in range(count)]
        case "string":
            return _text(schema, words)
        case "integer" | "number" as number:
            return _number(schema, whole=number == "integer")
        case "boolean":
            return True
        case "null":
            return None
    raise ValueError(f"no instance for {schema}")


def _text(schema: dict[str, Any], words: Words) -> str:
    if "pattern" in schema:
        raise ValueError(f"no text for the pattern {schema['pattern']!r}: script the answer")
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = words.sentence()
    while len(text) < schema.get("minLength", 0):
        text += " " + words.sentence()
    return text[: schema.get("maxLength")]


def _number(schema: dict[str, Any], whole: bool) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 1 if high is None or high > 1 else high - 1
    if "exclusiveMinimum" in schema and low <= schema["exclusiveMinimum"]:
        low = (low + 1) if whole or high is None else (low + high) / 2
    return math.ceil(low) if whole else float(low)
