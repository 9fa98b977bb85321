"""Asking a model: from the store if it is there, else sent once, whoever asks, and paid for once.

The order matters. Reserve in the ledger (synced), send, store the answer (synced), settle. A
crash before the answer is stored leaves unknown spend in the ledger; a crash after it costs
nothing, since the next run finds the answer.
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popbuild import disk
from popbuild.errors import PopbuildError, ProviderError, UsageError
from popbuild.layout import Root
from popbuild.llm.budget import Purse, Spending
from popbuild.llm.ledger import Ledger, Origin
from popbuild.llm.request import Answer, Request
from popbuild.llm.store import USE
from popbuild.llm.stored import Stored
from popbuild.threads import Batches

if TYPE_CHECKING:
    from types import ModuleType

_POLL_S = 0.05


@dataclass(frozen=True)
class Limits:
    """How patient calls are. Times in seconds."""

    in_flight: int = 8
    tries: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    max_retry_after_s: float = 300.0
    timeout_s: float = 600.0

    @staticmethod
    def from_environment(environment: Mapping[str, str], in_flight: int | None) -> Limits:
        """The defaults, with POPBUILD_TRIES, POPBUILD_BACKOFF_S and POPBUILD_TIMEOUT_S.

        Raises UsageError for a value that is no such number.
        """
        default = Limits()
        return Limits(
            in_flight=in_flight or default.in_flight,
            tries=round(_number(environment, "POPBUILD_TRIES", default.tries, 1)),
            backoff_s=_number(environment, "POPBUILD_BACKOFF_S", default.backoff_s, 0),
            timeout_s=_number(environment, "POPBUILD_TIMEOUT_S", default.timeout_s, 0.001),
        )


def _number(environment: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise UsageError(
            "not a number that this variable can have",
            {name: text, "allowed": f"at least {least:g}, by default {default:g}"},
        )
    return value


class Calls:
    """All calls of one command. Must be used inside one event loop.

    `mode` says how the store is used; see stored.py.
    """

    def __init__(
        self,
        root: Root,
        limits: Limits,
        *,
        mode: str = USE,
        spending: Spending | None = None,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
        on_store_trouble: Callable[[str], None] = lambda text: None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.commits: Batches[disk.Prepared] = Batches(disk.commit)
        self._stored = Stored(root, mode, self.commits, on_store_trouble)
        self._ledger = Ledger(root.private / "ledger.jsonl")
        self._purse = Purse(root, self._ledger, spending or Spending())
        self._locks = disk.Locks(root.private / "locks" / "calls")
        self.limits = limits
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._in_flight: dict[str, asyncio.Future[Answer]] = {}
        self._on_wait = on_wait
        self._uniform = uniform
        self._client: ModuleType | None = None

    async def ask(self, request: Request, origin: Origin) -> Answer:
        """The answer to a request. Raises ProviderError when no try gave one, StoreError when it
        is not stored and may not be sent.

        Equal requests in flight are sent once: in this process they share one future, between
        processes they take turns at a lock and then find the answer in the store.
        """
        answer = await self._ask(request, origin)
        if answer.stored:
            self._stored.served(request, answer)
        return answer

    async def _ask(self, request: Request, origin: Origin) -> Answer:
        digest = request.digest
        running = self._in_flight.get(digest)
        if running is not None:
            try:
                answer = await asyncio.shield(running)
            except PopbuildError as error:
                # A copy: whoever shows it adds the task that it belongs to.
                raise copy.deepcopy(error) from None
            return replace(answer, stored=True)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._in_flight[digest] = future
        try:
            answer = await self._stored_or_sent(request, origin)
        except BaseException as error:
            future.set_exception(
                error if isinstance(error, PopbuildError) else ProviderError("the call was stopped")
            )
            future.exception()  # whether anybody else waited or not
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._in_flight[digest]

    async def close(self) -> None:
        """Close connections, if any were opened, once everything is on disk."""
        await self.commits.drain()
        await self._ledger.drain()
        await self._stored.close()
        if self._client is not None:
            await self._client.close()

    async def _stored_or_sent(self, request: Request, origin: Origin) -> Answer:
        known = await self._stored.known(request)
        if known is not None:
            return known
        # No event tells that another process gave a lock back: ask again.
        while not self._locks.acquire(request.digest):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        try:
            # Another process may have stored it while this one waited for the lock.
            return await self._stored.known(request) or await self._send(request, origin)
        finally:
            self._locks.release(request.digest)

    async def _send(self, request: Request, origin: Origin) -> Answer:
        if self._client is None:
            # Takes seconds: only a command that really calls pays for it.
            self._client = await asyncio.to_thread(_import_client)
        client = self._client
        has_room = await self._stored.make_room(request)
        spent = False
        for number in range(1, self.limits.tries + 1):
            async with self._slots:
                entry = await self._purse.reserve(request, origin, client.maximum_cost(request))
                try:
                    answer: Answer = await client.send(
                        request, request.timeout_s or self.limits.timeout_s
                    )
                except client.TransportError as failure:
                    if not failure.spent:
                        await self._ledger.release(entry, failure.error.message)
                    last, spent = failure, spent or failure.spent
                else:
                    await self._stored.keep(request, answer, has_room)
                    await self._ledger.settle(entry, answer)
                    return answer
            if not last.retryable or number == self.limits.tries:
                break
            wait_s = self._wait_s(number, last.retry_after_s)
            if wait_s is None:
                last.error.values["retry after"] = f"{last.retry_after_s:.0f} s"
                break
            self._on_wait(last.error.message, wait_s)
            await asyncio.sleep(wait_s)
        if number > 1:
            last.error.values["tries"] = str(number)
        last.error.spent = spent
        raise last.error

    def _wait_s(self, tries: int, retry_after_s: float | None) -> float | None:
        """Exponential backoff with jitter, at least what the provider asks; None for too long."""
        if retry_after_s is not None and retry_after_s > self.limits.max_retry_after_s:
            return None
        backoff_s = min(self.limits.max_backoff_s, self.limits.backoff_s * 2 ** (tries - 1))
        return max(self._uniform(backoff_s / 2, backoff_s), retry_after_s or 0.0)


def _import_client() -> ModuleType:
    from popbuild.llm import client

    return client
