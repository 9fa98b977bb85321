"""Asking a model: from the store if it is there, else sent once, whoever asks, and paid for once.

The order matters. Reserve in the ledger (synced), send, store the answer (synced), settle. A
crash before the answer is stored leaves unknown spend in the ledger; a crash after it costs
nothing, since the next run finds the answer.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popbuild.base import commits, locks
from popbuild.base.errors import DrainingError, PopbuildError, ProviderError, StoreError
from popbuild.base.fair_turns import away
from popbuild.base.paths import Root
from popbuild.base.stopwatch import waiting
from popbuild.base.threads import Batches
from popbuild.base.units import seconds
from popbuild.llm.admission import PATIENCE_HINT, After, Caller, Traffic
from popbuild.llm.bill import billed
from popbuild.llm.budget import Purse, Spending
from popbuild.llm.lanes import ANSWERED, DOWN, REFUSED, UNKNOWN_OUTCOME, UNSENT
from popbuild.llm.ledger import Ledger, Origin
from popbuild.llm.patience import Patience
from popbuild.llm.request import Answer, Request
from popbuild.llm.store import USE
from popbuild.llm.stored import Stored
from popbuild.model.pipeline import Limit

if TYPE_CHECKING:
    from types import ModuleType

    from popbuild.llm.failures import TransportError

_POLL_S = 0.05
_MAX_SHOWN = 200  # characters of a refusal in a warning


@dataclass(frozen=True)
class Answered:
    """A request and its answer, and the requests before it whose answers were declined: those were
    paid for as well."""

    request: Request
    answer: Answer
    declined: tuple[tuple[Request, Answer], ...] = ()


class Calls:
    """All calls of one command. Must be used inside one event loop.

    `mode` says how the store is used; see stored.py.
    """

    def __init__(
        self,
        root: Root,
        patience: Patience,
        *,
        limits: Mapping[str, Limit] | None = None,
        mode: str = USE,
        spending: Spending | None = None,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
        on_store_trouble: Callable[[str], None] = lambda text: None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.commits: Batches[Sequence[commits.DiskChange]] = Batches(
            commits.commit, commits.release
        )
        self._stored = Stored(root, mode, self.commits, on_store_trouble)
        spending = spending or Spending()
        self._ledger = Ledger(root.private / "ledger.jsonl", spending.name)
        self._purse = Purse(root, self._ledger, spending)
        self._locks = locks.Locks(root.private / "locks" / "calls")
        self.patience = patience
        self._traffic = Traffic(root, patience, limits or {}, on_wait, uniform)
        self._in_flight: dict[str, asyncio.Future[Answer]] = {}
        self._on_wait = on_wait
        self._uniform = uniform
        self._client: ModuleType | None = None

    async def ask_in_order(self, requests: Sequence[Request], origin: Origin) -> Answered:
        """The first of several requests that is answered; they differ by the model. An answer that
        declines is one that another model may give all the same. Raises what `ask` raises, of the
        first, where no model answered.

        Each is in the store by its own name: where nothing may be sent, the one that was answered
        is found.
        """
        errors: list[PopbuildError] = []
        before: list[str] = []
        declined: list[tuple[Request, Answer]] = []
        for request in requests:
            try:
                answer = await self.ask(request, origin, has_other=request is not requests[-1])
            except (ProviderError, StoreError) as error:
                errors.append(error)
                before.append(f"{request.model} could not be had ({error.message})")
                if not error.elsewhere:
                    break
                continue
            if not answer.is_declined:
                return Answered(request, _after(answer, before, request), tuple(declined))
            declined.append((request, answer))
            before.append(f"{request.model} declined ({_short(answer.refusal or answer.ended_by)})")
        if declined:
            request, answer = declined.pop()
            before.pop()
            return Answered(request, _after(answer, before, request), tuple(declined))
        first, *others = errors
        for request, other in zip(requests[1:], others, strict=False):
            first.values[f"then {request.model}"] = other.as_line(("model", "request"))
        first.spent = any(each.spent for each in errors)
        raise first

    async def ask(self, request: Request, origin: Origin, has_other: bool = False) -> Answer:
        """The answer to a request. Raises ProviderError when no try gave one, StoreError when it
        is not stored and may not be sent. `has_other` says that another model could be asked.

        Equal requests in flight are sent once: in this process they share one future, between
        processes they take turns at a lock and then find the answer in the store.
        """
        answer = await self._ask(request, origin, has_other)
        if answer.stored:
            self._stored.served(request, answer)
        return answer

    async def _ask(self, request: Request, origin: Origin, has_other: bool) -> Answer:
        digest = request.digest
        while (running := self._in_flight.get(digest)) is not None:
            try:
                async with away():
                    with waiting():
                        answer = await asyncio.shield(running)
            except _GivenUp:
                continue  # by the one job that was stopped: this one asks by itself
            except PopbuildError as error:
                # A copy: whoever shows it adds the task that it belongs to.
                raise copy.deepcopy(error) from None
            return replace(answer, stored=True)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._in_flight[digest] = future
        try:
            answer = await self._stored_or_sent(request, origin, has_other)
        except BaseException as error:
            future.set_exception(_told(error))
            future.exception()  # whether anybody else waited or not
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._in_flight[digest]

    def drain(self) -> None:
        """Send nothing more: what is under way is waited for, what is stored is still served."""
        self._traffic.drain(DrainingError("nothing more is sent: whoever builds is about to end"))

    async def close(self) -> None:
        """Close connections, if any were opened, once everything is on disk."""
        await self._stored.close()
        await self.commits.drain()
        await self._ledger.drain()
        await self._traffic.drained()
        if self._client is not None:
            await self._client.close()

    async def _stored_or_sent(self, request: Request, origin: Origin, has_other: bool) -> Answer:
        known = await self._stored.known(request)
        if known is not None:
            return known
        async with away():
            with waiting():
                # No event tells that another process gave a lock back: ask again.
                while not self._locks.acquire(request.digest):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
            try:
                # Another process may have stored it while this one waited for the lock.
                known = await self._stored.known(request)
                return known or await self._send(request, origin, has_other)
            finally:
                self._locks.release(request.digest)

    async def _send(self, request: Request, origin: Origin, has_other: bool) -> Answer:
        if self._client is None:
            # Takes seconds: only a command that really calls pays for it.
            with waiting():
                self._client = await asyncio.to_thread(_import_client)
        client = self._client
        caller = self._traffic.caller(request, client.split_model(request.model), has_other)
        sent, failed, spent = 0, 0, False
        while True:
            try:
                with waiting():
                    await self._traffic.enter(caller)
            except ProviderError as error:
                error.spent = spent
                raise
            outcome, held = UNSENT, None
            try:
                # With its turn, not before: the disk may fill up while it waits.
                held = await self._stored.make_room(request)
                entry = await self._purse.reserve(request, origin, client.maximum_cost(request))
                outcome = UNKNOWN_OUTCOME
                answer = await client.send(
                    request,
                    request.timeout_s or self.patience.timeout_s,
                    self.patience.max_answer_bytes,
                )
                answer = billed(request, answer)
            except client.failures.TransportError as error:
                failure: TransportError = error
            except BaseException:
                self._traffic.leave(caller, outcome)
                self._stored.free_room(held)
                raise
            else:
                self._traffic.leave(caller, ANSWERED, tokens=answer.used.both)
                settled = self._ledger.settlement(entry, answer)
                await self._stored.keep(request, answer, held, settled)
                return answer
            self._stored.free_room(held)
            after = await self._traffic.leave(
                caller, failure.outcome, failure.error.message, failure.retry_after_s
            )
            if not failure.spent:
                await self._ledger.release(entry, failure.error.message)
            sent, spent = sent + 1, spent or failure.spent
            failed += failure.outcome == DOWN and not after.is_down
            if self._is_last(caller, failure, failed, after):
                if sent > 1:
                    failure.error.values["tries"] = str(sent)
                failure.error.spent = spent
                raise failure.error
            if failure.outcome == DOWN and not after.is_down:
                backoff_s = self.patience.backoff_s_after(failed - 1, self._uniform)
                wait_s = max(backoff_s, failure.retry_after_s or 0.0)
                self._on_wait(failure.error.message, wait_s)
                with waiting():
                    await asyncio.sleep(wait_s)

    def _is_last(self, caller: Caller, failure: TransportError, failed: int, after: After) -> bool:
        """Whether a call that was not answered fails; if so, its error says why.

        A refusal with 429 is no failure, and neither is a provider that is down: both are waited
        for, as long as patience lasts.
        """
        if failure.outcome == ANSWERED:
            if failure.closes:
                # Not for ever: a worker of `watch` lives long, and quotas are filled again.
                self._traffic.close_model(caller, self.patience.max_retry_after_s, failure.error)
            return True
        asked_s, error = failure.retry_after_s or 0.0, failure.error
        if asked_s > self.patience.max_retry_after_s:
            error.values["retry after"] = f"{asked_s:.0f} s"
            if failure.outcome == REFUSED:
                self._traffic.close_model(caller, asked_s, error)
            return True
        if failure.outcome == DOWN:
            return failed >= self.patience.tries and not after.is_down
        waited_s = self._traffic.refused_for_s(caller)
        if waited_s + after.pause_s <= self.patience.patience_s:
            return False
        error.values["waited"] = seconds(waited_s * 1000)
        error.hint = f"{PATIENCE_HINT}; limits in pipeline.json keep calls below the provider's"
        return True


class _GivenUp(Exception):
    """Whoever sent a request that others wait for was stopped before the answer came."""


def _after(answer: Answer, before: Sequence[str], request: Request) -> Answer:
    """The answer with a warning for each model that was asked before."""
    warnings = [f"{each}: {request.model} was asked" for each in before]
    return replace(answer, warnings=(*warnings, *answer.warnings))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else line[:_MAX_SHOWN] + "…"


def _told(error: BaseException) -> Exception:
    """What those are told who wait for a call that raised this."""
    if isinstance(error, PopbuildError):
        return error
    given_up = isinstance(error, asyncio.CancelledError)
    return _GivenUp() if given_up else ProviderError("the call was stopped")


def _import_client() -> ModuleType:
    from popbuild.llm import client, preload  # noqa: F401 - warm for what its import does

    return client
