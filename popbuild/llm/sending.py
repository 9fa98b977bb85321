"""Sends one request until it is answered or has failed for good; each try is accounted for.

The order of a try matters. Hold room on the disk, reserve in the ledger (synced), send, store the
answer (synced), settle. A crash before the answer is stored leaves unknown spend in the ledger; a
crash after it costs nothing, since the next run finds the answer.

Imports litellm, which takes seconds: only a command that really calls loads this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from popbuild.base.errors import ProviderError
from popbuild.base.stopwatch import waiting
from popbuild.base.units import seconds
from popbuild.llm import client, preload  # noqa: F401 - preload is imported for what that does
from popbuild.llm.admission import PATIENCE_HINT, After, Traffic
from popbuild.llm.budget import Purse
from popbuild.llm.failures import TransportError
from popbuild.llm.lanes import ANSWERED, DOWN, REFUSED, UNKNOWN_OUTCOME, UNSENT, Caller
from popbuild.llm.ledger import Ledger, Origin
from popbuild.llm.notices import Notices, ProviderWait
from popbuild.llm.patience import Patience
from popbuild.llm.request import Answer, Request
from popbuild.llm.stored import Stored
from popbuild.llm.tokens import billed


@dataclass(frozen=True)
class _Failed:
    """A try that gave no answer, and what that led to."""

    failure: TransportError
    after: After

    @property
    def counts(self) -> bool:
        """Whether it is one of the tries that patience allows: a provider that is down is waited
        for, and so is one that refuses with 429."""
        return self.failure.outcome == DOWN and not self.after.is_down


@dataclass
class Sender:
    """What sending needs, all of it the command's. Must be used inside one event loop."""

    traffic: Traffic
    stored: Stored
    ledger: Ledger
    purse: Purse
    patience: Patience
    notices: Notices
    uniform: Callable[[float, float], float]

    async def send(self, request: Request, origin: Origin, has_other: bool) -> Answer:
        """The answer, stored and settled. Raises ProviderError when no try gave one, and what
        `Stored.make_room` and `Purse.reserve` raise."""
        names = client.split_model(request.model)
        caller = self.traffic.caller(request, names, has_other)
        tried: list[_Failed] = []
        while True:
            try:
                with waiting():
                    await self.traffic.enter(caller)
            except ProviderError as error:
                error.spent = any(each.failure.spent for each in tried)
                raise
            result = await self._try(caller, request, origin)
            if isinstance(result, Answer):
                return result
            tried.append(result)
            failure = result.failure
            times = sum(each.counts for each in tried)
            if self._is_last(caller, result, times):
                if len(tried) > 1:
                    failure.error.values["tries"] = str(len(tried))
                failure.error.spent = any(each.failure.spent for each in tried)
                raise failure.error
            if result.counts:
                backoff_s = self.patience.backoff_s_after(times - 1, self.uniform)
                wait_s = max(backoff_s, failure.retry_after_s or 0.0)
                self.notices.put_nowait(ProviderWait(failure.error.message, wait_s))
                with waiting():
                    await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Close the connections of this event loop."""
        await client.close()

    async def _try(self, caller: Caller, request: Request, origin: Origin) -> Answer | _Failed:
        """One request over the network, in its turn."""
        outcome, held = UNSENT, None
        try:
            # In its turn, not before: the disk may fill up while the call waits.
            held = await self.stored.make_room(request)
            entry = await self.purse.reserve(request, origin, client.maximum_cost(request))
            outcome = UNKNOWN_OUTCOME
            timeout_s = request.timeout_s or self.patience.timeout_s
            answer = await client.send(request, timeout_s, self.patience.max_answer_bytes)
            answer = billed(request, answer)
        except TransportError as failure:
            self.stored.free_room(held)
            reason = failure.error.message
            after = await self.traffic.leave(caller, failure.outcome, reason, failure.retry_after_s)
            if not failure.spent:
                await self.ledger.release(entry, reason)
            return _Failed(failure, after)
        except BaseException:
            self.traffic.leave(caller, outcome)
            self.stored.free_room(held)
            raise
        self.traffic.leave(caller, ANSWERED, tokens=answer.used.both)
        await self.stored.keep(request, answer, held, self.ledger.settlement(entry, answer))
        return answer

    def _is_last(self, caller: Caller, failed: _Failed, times: int) -> bool:
        """Whether a call that was not answered fails; if so, its error says why. `times` counts the
        tries that patience allows."""
        failure, error = failed.failure, failed.failure.error
        if failure.outcome == ANSWERED:
            if failure.closes:
                # Not for ever: a worker of `watch` lives long, and quotas are filled again.
                self.traffic.close_model(caller, self.patience.max_retry_after_s, error)
            return True
        asked_s = failure.retry_after_s or 0.0
        if asked_s > self.patience.max_retry_after_s:
            error.values["retry after"] = f"{asked_s:.0f} s"
            if failure.outcome == REFUSED:
                self.traffic.close_model(caller, asked_s, error)
            return True
        if failure.outcome == DOWN:
            return failed.counts and times >= self.patience.tries
        waited_s = self.traffic.refused_for_s(caller)
        if waited_s + failed.after.pause_s <= self.patience.patience_s:
            return False
        error.values["waited"] = seconds(waited_s * 1000)
        error.hint = f"{PATIENCE_HINT}; limits in pipeline.json keep calls below the provider's"
        return True
