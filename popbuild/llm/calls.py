"""Asking a model: from the store if the answer is there, else sent once, and paid for once,
however many tasks and commands ask the same.

In this order: `ask_in_order` (the model, then its fallbacks), the store, the request's lock,
the store again, and `Sender.send` for what is in neither.
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
from popbuild.llm.admission import Traffic
from popbuild.llm.budget import Purse, Spending
from popbuild.llm.ledger import Ledger, Origin
from popbuild.llm.notices import Notices
from popbuild.llm.patience import Patience
from popbuild.llm.request import Answer, Request
from popbuild.llm.store import USE
from popbuild.llm.stored import Stored
from popbuild.model.pipeline import Limit

if TYPE_CHECKING:
    from popbuild.llm.sending import Sender

_POLL_S = 0.05
_MAX_SHOWN = 200  # characters of a refusal in a warning


@dataclass(frozen=True)
class Answered:
    """A request and its answer, and the requests before it whose answers declined: they were paid
    for as well."""

    request: Request
    answer: Answer
    declined: tuple[tuple[Request, Answer], ...] = ()


class Calls:
    """All calls of one command. Must be used inside one event loop. `mode` says how the store is
    used; see stored.py. `notices` is what a person should hear meanwhile; `close` ends it."""

    def __init__(
        self,
        root: Root,
        patience: Patience,
        *,
        limits: Mapping[str, Limit] | None = None,
        mode: str = USE,
        spending: Spending | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.commits: Batches[Sequence[commits.DiskChange]] = Batches(
            commits.commit, commits.release
        )
        self.notices = Notices()
        self._stored = Stored(root, mode, self.commits, self.notices)
        spending = spending or Spending()
        self._ledger = Ledger(root.private / "ledger.jsonl", spending.name, root.variant.apart)
        self._purse = Purse(root, self._ledger, spending)
        self._locks = locks.locks_of(root.private / "locks" / "calls")
        self.patience = patience
        self._traffic = Traffic(root, patience, limits or {}, self.notices, uniform)
        self._in_flight: dict[str, asyncio.Future[Answer]] = {}
        self._uniform = uniform
        self._sender: Sender | None = None

    async def ask_in_order(self, requests: Sequence[Request], origin: Origin) -> Answered:
        """The first of several requests that is answered; they differ by the model. Where one
        declines, the next is asked. Raises what was raised for the first, where none answered. The
        store has each by its own digest: where nothing may be sent, the one that was answered is
        found."""
        errors: list[PopbuildError] = []
        before: list[tuple[Request, str]] = []  # why another model was asked
        answered: list[tuple[Request, Answer]] = []
        for request in requests:
            try:
                answer = await self._ask(request, origin, request is not requests[-1])
            except (ProviderError, StoreError) as error:
                errors.append(error)
                before.append((request, f"{request.model} could not be had ({error.message})"))
                if not error.elsewhere:
                    break
                continue
            if answer.stored:
                self._stored.served(request, answer)
            answered.append((request, answer))
            if not answer.is_declined:
                break
            words = " ".join((answer.refusal or answer.ended_by).split())
            short = words if len(words) <= _MAX_SHOWN else words[:_MAX_SHOWN] + "…"
            before.append((request, f"{request.model} declined ({short})"))
        if answered:
            *declined, (request, answer) = answered
            why = [text for asked, text in before if asked is not request]
            warnings = (f"{text}: {request.model} was asked" for text in why)
            answer = replace(answer, warnings=(*warnings, *answer.warnings))
            return Answered(request, answer, tuple(declined))
        first, *others = errors
        for request, other in zip(requests[1:], others, strict=False):
            first.values[f"then {request.model}"] = other.as_line(("model", "request"))
        first.spent = any(each.spent for each in errors)
        raise first

    async def _ask(self, request: Request, origin: Origin, has_other: bool) -> Answer:
        """The answer to a request. Raises ProviderError when no try gave one, StoreError when it is
        not stored and may not be sent. `has_other` says that another model could be asked. Equal
        requests in flight are sent once: in this process they share one future, between processes
        they take turns at a lock and then find the answer in the store."""
        digest = request.digest
        while (running := self._in_flight.get(digest)) is not None:
            try:
                async with away():
                    with waiting():
                        answer = await asyncio.shield(running)
            except _GivenUp:
                continue  # the job that asked was stopped: this one asks by itself
            except PopbuildError as error:
                # A copy: each task adds its own name to it.
                raise copy.deepcopy(error) from None
            return replace(answer, stored=True)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._in_flight[digest] = future
        try:
            answer = await self._stored_or_sent(request, origin, has_other)
        except BaseException as error:
            future.set_exception(_shared(error))
            future.exception()  # looked at, even if no other task waits for it
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._in_flight[digest]

    def drain(self) -> None:
        """Send nothing more: what is under way is waited for, what is stored is still served."""
        self._traffic.drain(DrainingError("nothing more is sent: the build is about to end"))

    async def close(self) -> None:
        """Close connections, if any were opened, once everything is on disk."""
        try:
            await self._stored.close()
            await self.commits.drain()
            await self._ledger.drain()
            await self._traffic.drained()
            if self._sender is not None:
                await self._sender.close()
        finally:
            self.notices.put_nowait(None)

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
                if known is not None:
                    return known
                return await (await self._sending()).send(request, origin, has_other)
            finally:
                self._locks.release(request.digest)

    async def _sending(self) -> Sender:
        if self._sender is None:
            with waiting():  # loading it takes seconds
                sender_class = await asyncio.to_thread(_import_sender)
            self._sender = sender_class(
                self._traffic,
                self._stored,
                self._ledger,
                self._purse,
                self.patience,
                self.notices,
                self._uniform,
            )
        return self._sender


class _GivenUp(Exception):
    """The job that sent a request was stopped before the answer came: others wait for it."""


def _shared(error: BaseException) -> Exception:
    """The error of a call for the other tasks that wait for it."""
    if isinstance(error, PopbuildError):
        return error
    given_up = isinstance(error, asyncio.CancelledError)
    return _GivenUp() if given_up else ProviderError("the call was stopped")


def _import_sender() -> type[Sender]:
    from popbuild.llm.sending import Sender

    return Sender
