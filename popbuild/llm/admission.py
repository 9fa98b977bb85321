"""Admission: when a call may be sent, and what its end says about the provider.

What is known of each provider stands in one file for all processes of a machine that work on the
root. Each reads and writes it in turns, two a call, of a tenth of a millisecond each. One timer
serves all that wait; calls of a model are sent in the order in which they came.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from popbuild.base import locks
from popbuild.base.errors import PopbuildError, ProviderError
from popbuild.base.paths import Root
from popbuild.base.units import seconds
from popbuild.llm.board import Board
from popbuild.llm.lanes import ARRIVED_S, REFUSED, UNSENT, Caller, End, caller_of
from popbuild.llm.notices import Notices, ProviderNews
from popbuild.llm.patience import Patience
from popbuild.llm.request import Request
from popbuild.model.pipeline import Limit

PATIENCE_HINT = (
    "run it again later: nothing is bought twice; POPBUILD_PATIENCE_S says how long a call waits"
)
_TURN_S = 0.002  # until another process has surely ended its turn
_POLL_S = 0.05  # no event tells what other processes did
_LEAST_PAUSE_S = 0.05  # for a provider that is down


@dataclass(frozen=True)
class After:
    """What the end of a call led to: whether its provider is down, and for how many seconds
    nothing more is sent to its model."""

    is_down: bool
    pause_s: float


_Ended = tuple[Caller, End, "asyncio.Future[After]"]


class Traffic:
    """Lets calls pass as their limits allow. Must be used inside one event loop."""

    def __init__(
        self,
        root: Root,
        patience: Patience,
        limits: Mapping[str, Limit],
        notices: Notices,
        uniform: Callable[[float, float], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = locks.SharedText(root.private / "limits" / locks.machine())
        self._patience = patience
        self._limits = limits
        self._news = ProviderNews(notices)
        self._uniform = uniform
        self._clock = clock
        self._numbers = itertools.count(1)
        self._times_opened = 0
        self._known: tuple[bytes, Board] | None = None  # the board, and its text as it was written
        self._waiting: dict[str, list[Caller]] = {}  # heaps, by the model's lane
        self._sent: deque[Caller] = deque()  # which the minute may not have yet
        self._ended: list[_Ended] = []
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._closed: dict[str, tuple[float, ProviderError]] = {}  # by the model's lane
        self._drained_by: PopbuildError | None = None

    def caller(self, request: Request, names: tuple[str, str], has_other: bool) -> Caller:
        """A request that wants to be sent; see `caller_of`."""
        number = next(self._numbers)
        return caller_of(request, names, self._limits, number, has_other, self._clock())

    async def enter(self, caller: Caller) -> None:
        """Returns when the call may be sent. Raises ProviderError when that takes too long."""
        caller.turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(caller.lanes[1], []), caller)
        self._advance_soon()
        try:
            await caller.turn
        except asyncio.CancelledError:
            if not caller.turn.cancelled() and not caller.turn.exception():
                self.leave(caller, UNSENT)  # its turn came in the same moment
            raise

    def leave(
        self,
        caller: Caller,
        outcome: str,
        reason: str = "",
        retry_after_s: float | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> asyncio.Future[After]:
        """The call has ended, by `reason`, or with so many tokens of input and output. The future
        is done as soon as other processes can know."""
        backoff_s = self._patience.backoff_s_after(0, self._uniform)
        if outcome != REFUSED:
            backoff_s = max(_LEAST_PAUSE_S, 2 * backoff_s)
        elif (retry_after_s or 0.0) > self._patience.max_retry_after_s:
            retry_after_s = None  # it concerns this command alone: the next one may ask again
        done: asyncio.Future[After] = asyncio.get_running_loop().create_future()
        end = End(outcome, reason, retry_after_s or 0.0, tokens, backoff_s)
        self._ended.append((caller, end, done))
        self._in_flight -= 1
        self._advance_soon()
        return done

    def drain(self, error: PopbuildError) -> None:
        """Let nothing pass any more: calls that wait, or come, fail with this."""
        self._drained_by = error
        self._advance_soon()

    async def drained(self) -> None:
        """Returns when other processes can know of everything that has ended."""
        await asyncio.gather(*(done for _, _, done in self._ended))

    def refused_for_s(self, caller: Caller) -> float:
        """For how many seconds the provider has refused a call with 429; 0 the first time."""
        now = self._clock()
        if caller.refused_at is None:
            caller.refused_at = now
        return now - caller.refused_at

    def close_model(self, caller: Caller, for_s: float, error: ProviderError) -> None:
        """Fail what this command would send to the model: no call waits that long."""
        self._closed[caller.lanes[1]] = self._clock() + for_s, error

    def _advance_soon(self) -> None:
        """Something has changed. Everything in one iteration of the event loop shares a turn."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        """Report the calls that have ended, and admit those that may be sent. Never waits."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        results: list[tuple[asyncio.Future[After], After]] = []
        try:
            text = self._shared.take()
            if text is None:
                wake_at: float | None = self._clock() + _TURN_S
            else:
                new = None
                try:
                    board = self._board(text)
                    results = [
                        (done, self._end(board, caller, end)) for caller, end, done in self._ended
                    ]
                    self._ended.clear()
                    wake_at = self._admit(board)
                    new = board.text()
                    self._known = new, board
                finally:
                    self._shared.give(new)
        except OSError as error:
            self._fail_all(error)
            return
        for done, after in results:
            if not done.done():
                done.set_result(after)
        if wake_at is not None:
            # A moment later: what is due then is due for certain.
            delay_s = max(wake_at - self._clock(), 0.0) + 0.0005
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._advance)

    def _board(self, text: bytes) -> Board:
        shared, now, (known, last) = self._shared, self._clock(), self._known or (None, None)
        self._known = None
        if last is not None and known == text and last.seat == str(shared.seat):
            board = last  # no other process wrote meanwhile
            board.now = now
        else:
            board = Board.from_text(text, now, self._patience.minute_s, shared.seat)
        if self._times_opened != shared.times_opened:
            self._times_opened = shared.times_opened
            board.bury(board.seat)  # the process that had the seat before is dead
        while self._sent and board.has_arrived(self._sent[0]):
            self._sent.popleft()
        return board

    def _end(self, board: Board, caller: Caller, end: End) -> After:
        provider, model = board.of(caller)
        cut_at = model.window.cut_at
        pause_s = board.end(caller, end)
        self._news.breaker(caller.lanes[0], provider.breaker, board.now)
        until = model.window.paused_until
        if model.window.cut_at != cut_at:  # once for all that were refused together
            self._news.pause(caller.lanes[1], end.reason, until, board.now)
        elif end.outcome == REFUSED:
            self._news.extended(caller.lanes[1], until)
        return After(provider.breaker.is_open, pause_s)

    # Which calls may be sent.

    def _admit(self, board: Board) -> float | None:
        """Admit the calls that may be sent. Gives when to look again; None for when a call of this
        process ends, or another one comes."""
        wake_at: list[float] = []
        for name, queue in list(self._waiting.items()):
            while queue:
                caller = queue[0]
                if caller.turn.done():  # its job was stopped
                    heapq.heappop(queue)
                    continue
                error = self._too_late(board, caller)
                if error is not None:
                    heapq.heappop(queue)
                    caller.turn.set_exception(error)
                    continue
                if self._in_flight >= self._patience.in_flight:
                    break
                until = self._wait_until(board, caller)
                if until is None or until > board.now:
                    wake_at.extend(self._looks(board, caller, until))
                    break
                heapq.heappop(queue)
                board.send(caller)
                self._in_flight += 1
                self._sent.append(caller)
                caller.turn.set_result(None)
            if not queue:
                del self._waiting[name]
        return min(wake_at, default=None)

    def _wait_until(self, board: Board, caller: Caller) -> float | None:
        start = max(self._patience.together, self._patience.in_flight)
        until = board.wait_until(caller, start)
        if until is None:
            # Perhaps for a process that is dead.
            board.bury_dead(self._shared.is_taken)
            until = board.wait_until(caller, start)
        provider, model = board.of(caller)
        self._news.breaker(caller.lanes[0], provider.breaker, board.now)
        reason = f"{caller.model}: the provider's rate limit is reached"  # by another process
        self._news.pause(caller.lanes[1], reason, model.window.paused_until, board.now)
        return until

    def _looks(self, board: Board, caller: Caller, until: float | None) -> Iterator[float]:
        provider, model = board.of(caller)
        if until is not None:
            yield until
        elif self._sent:
            yield self._sent[0].sent_at + ARRIVED_S
        others = provider.seats.keys() | model.seats.keys()
        if provider.breaker.is_open or (until is None and others - {board.seat}):
            yield board.now + _POLL_S

    def _too_late(self, board: Board, caller: Caller) -> PopbuildError | None:
        """Why a call must not wait any longer; None where it may."""
        if self._drained_by is not None:
            return copy.deepcopy(self._drained_by)
        now, (provider, model) = board.now, caller.lanes
        closed_until, error = self._closed.get(model, (0.0, None))
        if error is not None and now < closed_until:
            return copy.deepcopy(error)
        breaker = board.of(caller)[0].breaker
        if not breaker.is_open or (now >= breaker.open_until and not breaker.probe):
            return None  # it may be the one that tries
        down_since = self._news.down_since(provider, now)
        since = down_since if caller.has_other else max(down_since, caller.first_at)
        if now - since < self._patience.patience_s:
            return None
        waited = seconds((now - since) * 1000)
        values = {"model": caller.model, "found": breaker.reason, "waited": waited}
        problem = ProviderError("the provider is down", values, PATIENCE_HINT)
        problem.elsewhere = True
        return problem

    def _fail_all(self, error: OSError) -> None:
        """A full disk: the calls fail with it, as their entries in the ledger would."""
        for _, _, done in self._ended:
            if not done.done():
                done.set_result(After(is_down=False, pause_s=0.0))
        self._ended.clear()
        for caller in itertools.chain.from_iterable(self._waiting.values()):
            if not caller.turn.done():
                caller.turn.set_exception(error)
        self._waiting.clear()
