"""Limits as decisions: minutes, windows, breakers and lanes, on a clock of the test's own."""

from __future__ import annotations

import json
import random

import pytest

from popbuild.llm.board import Board
from popbuild.llm.lanes import (
    ANSWERED,
    ARRIVED_S,
    DOWN,
    REFUSED,
    UNKNOWN_OUTCOME,
    UNSENT,
    Caller,
    End,
    Lane,
)
from popbuild.llm.limits import Breaker, Minute, Window, limits_of, strictest
from popbuild.model.pipeline import Limit, Pipeline

NOTHING = Limit()
START = 8


def call(number: int = 1, provider: Limit = NOTHING, model: Limit = NOTHING) -> Caller:
    return Caller(f"digest-{number}", number, ("openai", "openai/small"), (provider, model))


class Machine:
    """A board that goes from turn to turn through its text, as it does between processes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.text = b""

    def turn(self, seat: int = 0) -> Board:
        if self.text:
            self.text = self.board.text()
        self.board = Board.from_text(self.text, self.now, 60.0, seat)
        self.text = self.board.text()
        return self.board

    def sends(self, each: Caller, seat: int = 0) -> bool:
        """Send a call if it may be."""
        board = self.turn(seat)
        until = board.wait_until(each, START)
        if until is None or until > self.now:
            return False
        board.send(each)
        return True

    def must_send(self, each: Caller, seat: int = 0) -> Caller:
        assert self.sends(each, seat)
        return each

    def ends(self, each: Caller, outcome: str = ANSWERED, seat: int = 0, **more: object) -> float:
        return self.turn(seat).end(each, End(outcome, **more))  # type: ignore[arg-type] # by name

    def fill(self, first: int = 1, seat: int = 0, **limits: Limit) -> list[Caller]:
        """Send as many calls as may be."""
        sent: list[Caller] = []
        while self.sends(one := call(first + len(sent), **limits), seat):
            sent.append(one)
        return sent


# --- what is configured ---


def test_of_several_pipelines_the_strictest_wins() -> None:
    """Number by number: what one pipeline leaves open, another may set."""
    one = Pipeline("a", "a", (), limits={"openai": Limit(8, 100, None), "x": Limit(1)})
    two = Pipeline("b", "b", (), limits={"openai": Limit(20, 50, 9000)})
    assert strictest([one, two]) == {"openai": Limit(8, 50, 9000), "x": Limit(1)}
    assert strictest([two, one]) == strictest([one, two])


def test_a_model_has_the_limits_of_all_its_names() -> None:
    """`gpt-5-nano` and `openai/gpt-5-nano` are the same; a provider's limit is no model's."""
    limits = {"gpt-5-nano": Limit(5), "openai/gpt-5-nano": Limit(None, 10), "openai": Limit(1)}
    assert limits_of("gpt-5-nano", "gpt-5-nano", "openai", limits) == Limit(5, 10)
    assert limits_of("openai/gpt-5-nano", "gpt-5-nano", "openai", limits) == Limit(5, 10)
    assert limits_of("openai/other", "other", "openai", limits) == NOTHING


# --- the minute ---


def test_no_minute_ever_has_more_than_the_limit() -> None:
    """Sent as early as allowed, at random moments: every 60 seconds hold at most ten, and the
    limit is nearly used up."""
    draw = random.Random(5)
    minute, now, sent = Minute(), 1000.0, []
    while now < 2000:
        free_at = minute.free_at(1, 10, now, 60)
        if free_at <= now:
            sent.append(now)
            minute = minute.with_more(now, 1, now, 60)
            now += draw.choice([0.0, 0.0, 0.5, 3.0])
        else:
            now = free_at
    most = max(sum(start <= each < start + 60 for each in sent) for start in sent)
    assert most == 10
    assert len(sent) > 0.9 * 10 * 1000 / 60
    assert len(minute.slices) <= 31


def test_what_is_more_than_a_minute_has_fits_into_an_empty_one() -> None:
    minute = Minute().with_more(1000, 5, 1000, 60)
    assert Minute().free_at(99, 10, 1000, 60) == 1000
    assert 1060 <= minute.free_at(99, 10, 1000, 60) <= 1062


# --- the window ---


def test_a_model_starts_modestly_and_grows_while_it_is_asked_for_all_of_it() -> None:
    machine = Machine()
    sent = machine.fill()
    assert len(sent) == START
    for each in sent:
        machine.ends(each)
    assert len(machine.fill(100)) > START


def test_an_idle_window_does_not_grow() -> None:
    machine = Machine()
    for number in range(50):
        one = call(number)
        assert machine.sends(one)
        machine.ends(one)
    assert len(machine.fill(100)) == START


def test_a_burst_of_refusals_halves_once() -> None:
    """All that were under way are refused: they tell of one limit. The next burst halves again."""
    machine = Machine()
    for expected in (4, 2, 1, 1):
        sent = machine.fill()
        machine.now += 1
        for each in sent:
            machine.ends(each, REFUSED, backoff_s=1.0)
        assert machine.fill() == []
        machine.now += 100
        assert machine.board.of(sent[0])[1].window.room == expected


def test_after_a_cut_it_grows_by_one_a_round() -> None:
    window = Window(8.0, cut_at=5.0)
    for _ in range(8):
        window = window.answered(in_flight=9)
    assert 8.9 < window.size < 9.0


def test_nothing_is_sent_before_retry_after_is_over() -> None:
    """To that model, by whatever process; another model of the provider is not meant."""
    machine = Machine()
    (one, *_) = machine.fill()
    machine.now += 1
    assert machine.ends(one, REFUSED, retry_after_s=20.0) == 20.0
    other = Caller("o", 99, ("openai", "openai/large"), (NOTHING, NOTHING))
    assert machine.sends(other, seat=1)
    machine.now += 19.9
    assert not machine.sends(call(50), seat=1)
    assert machine.turn().wait_until(call(50), START) == pytest.approx(1021.0)


def test_refusals_in_a_row_wait_longer_and_an_answer_ends_the_row() -> None:
    machine = Machine()
    pauses = []
    for number in range(8):
        one = machine.must_send(call(number))
        machine.now += 0.1
        pauses.append(machine.ends(one, REFUSED, backoff_s=1.0))
        machine.now += pauses[-1]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    one = machine.must_send(call(20))
    machine.ends(one)
    one = machine.must_send(call(21))
    machine.now += 0.1
    assert machine.ends(one, REFUSED, backoff_s=1.0) == pytest.approx(1.0)


def test_a_limit_is_where_a_window_starts_and_ends() -> None:
    """A model's: it starts there and never grows above. A provider's, for all of its models."""
    machine = Machine()
    for each in machine.fill(model=Limit(20)):
        machine.ends(each)
    assert len(machine.fill(100, model=Limit(20))) == 20
    machine = Machine()
    assert len(machine.fill(provider=Limit(30))) == 30
    other = Caller("o", 99, ("openai", "openai/large"), (Limit(30), NOTHING))
    assert not machine.sends(other)


# --- lanes ---


def test_processes_share_a_limit() -> None:
    machine = Machine()
    mine = machine.fill(seat=0, provider=Limit(3))
    assert len(mine) == 3
    assert not machine.sends(call(9, Limit(3)), seat=1)
    machine.ends(mine[0], seat=0)
    assert machine.sends(call(9, Limit(3)), seat=1)


def test_the_calls_of_a_dead_process_are_free_but_the_provider_had_them() -> None:
    machine = Machine()
    limit = Limit(3, 4)
    assert len(machine.fill(seat=0, provider=limit)) == 3
    assert machine.turn(1).wait_until(call(9, limit), START) is None
    machine.turn(1).bury_dead(lambda seat: seat != 0)
    assert machine.sends(call(9, limit), seat=1)
    # Four were sent within the minute, by whichever process.
    assert not machine.sends(call(10, limit), seat=1)
    machine.now += 62
    assert machine.sends(call(10, limit), seat=1)


def test_a_call_counts_from_its_answer_on_or_when_it_has_surely_arrived() -> None:
    """One whose answer takes ten minutes does not count for eleven."""
    machine = Machine()
    limit = Limit(None, 1)
    one = machine.must_send(call(1, limit))
    machine.now += 4
    assert machine.turn().wait_until(call(2, limit), START) is None
    machine.now += ARRIVED_S
    assert machine.turn().has_arrived(one)
    until = machine.turn().wait_until(call(2, limit), START)
    assert until is not None
    assert 1065 <= until <= 1067
    machine.now = 1070
    assert machine.sends(call(2, limit))
    machine.ends(one)
    assert machine.turn().wait_until(call(3, limit), START) is None


def test_a_call_that_was_not_sent_counts_for_nothing() -> None:
    """One that was stopped while it was under way may have arrived."""
    machine = Machine()
    limit = Limit(None, 1, 1000)
    one = machine.must_send(call(1, limit))
    machine.ends(one, UNSENT)
    one = machine.must_send(call(2, limit))
    machine.ends(one, UNKNOWN_OUTCOME)
    assert not machine.sends(call(3, limit))


def test_tokens_count_at_their_most_until_the_answer_tells() -> None:
    machine = Machine()
    limit = Limit(None, None, 1000)
    calls = [call(number, limit) for number in range(1, 9)]
    for each in calls:
        each.max_tokens = 400
    assert machine.sends(calls[0])
    assert machine.sends(calls[1])
    assert not machine.sends(calls[2])
    machine.ends(calls[0], tokens=(100, 50))
    assert machine.sends(calls[2])
    machine.ends(calls[1], REFUSED)
    machine.ends(calls[2], tokens=(100, 750))
    assert not machine.sends(calls[3])
    machine.now += 62
    assert machine.sends(calls[3])


def test_what_a_late_answer_corrects_leaves_the_minute_with_it() -> None:
    machine = Machine()
    limit = Limit(None, None, 1000)
    one = call(1, limit)
    one.max_tokens = 900
    assert machine.sends(one)
    machine.now += 30
    assert machine.turn().has_arrived(one)
    machine.ends(one, tokens=(50, 50))
    assert machine.board.of(one)[0].tokens.free_at(900, 1000, machine.now, 60) == machine.now
    machine.now += 60
    assert sum(amount for _, amount in machine.turn().of(one)[0].tokens.slices) == 100
    assert machine.turn().of(one)[0].tokens.free_at(1000, 1000, machine.now, 60) == machine.now


def test_tokens_are_learned_from_answers() -> None:
    """Of input for a byte, and of output where no limit is set."""
    lane, one = Lane(), call(1)
    one.size_bytes = 1000
    for _ in range(100):
        lane.learn(1000, 200, 50)
    assert lane.estimate(one) == pytest.approx(250, abs=2)
    one.max_tokens = 77
    assert lane.estimate(one) == pytest.approx(277, abs=2)


# --- the breaker ---


def test_different_calls_that_fail_in_a_row_open_it() -> None:
    """One that fails again and again may itself be the reason; an answer in between ends the
    row."""
    machine = Machine()
    for _ in range(20):
        one = machine.must_send(call(1))
        machine.ends(one, DOWN)
    for number in range(2, 5):
        one = machine.must_send(call(number))
        machine.ends(one, DOWN)
    one = machine.must_send(call(5))
    machine.ends(one, ANSWERED)
    for number in range(10, 15):
        one = machine.must_send(call(number))
        machine.ends(one, DOWN, reason="gone", backoff_s=2.0)
    assert machine.turn().wait_until(call(20), START) == 1002.0


def test_one_tries_and_the_pause_grows_until_an_answer() -> None:
    breaker = Breaker(())
    for number in range(5):
        breaker = breaker.failed_again(str(number), "", "gone", 1000, 2)
    machine = Machine()
    machine.turn().of(call(1))[0].breaker = breaker
    pauses = []
    for number in range(1, 9):
        machine.now = machine.turn().of(call(1))[0].breaker.open_until
        one = machine.must_send(call(number))
        assert machine.turn().wait_until(call(99), START) is None
        machine.ends(one, DOWN)
        pauses.append(machine.board.of(one)[0].breaker.pause_s)
    assert pauses == [4, 8, 16, 32, 60, 60, 60, 60]
    machine.now += 60
    one = machine.must_send(call(10))
    machine.ends(one, REFUSED)
    assert not machine.board.of(one)[0].breaker.is_open


def test_what_was_sent_before_it_opened() -> None:
    """Failures of those calls change nothing; an answer to one closes it."""
    machine = Machine()
    sent = machine.fill()
    for each in sent[:5]:
        machine.ends(each, DOWN)
    opened = machine.board.of(sent[0])[0].breaker
    machine.ends(sent[5], DOWN)
    assert machine.board.of(sent[0])[0].breaker == opened
    machine.ends(sent[6], ANSWERED)
    assert machine.sends(call(50))


def test_another_tries_when_the_one_that_tried_is_dead_or_was_stopped() -> None:
    machine = Machine()
    sent = machine.fill()
    for each in sent[:5]:
        machine.ends(each, DOWN, backoff_s=2.0)
    machine.now += 2
    assert machine.sends(call(50), seat=3)
    assert machine.turn(1).wait_until(call(60), START) is None
    machine.turn(1).bury_dead(lambda seat: seat != 3)
    one = machine.must_send(call(60), seat=1)
    machine.ends(one, UNSENT, seat=1)
    assert machine.sends(call(70), seat=1)


# --- the file ---


def test_what_is_written_is_read() -> None:
    machine = Machine()
    for each in machine.fill(provider=Limit(None, 50, 9000))[:6]:
        machine.ends(each, DOWN, reason="gone")
    board = machine.turn()
    assert Board.from_text(board.text(), 1000.0, 60.0, 0) == board
    assert board.lanes


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"version":1}',
        b'{"version":0,"at":1,"lanes":{}}',
        b'{"version":1,"at":"x","lanes":{}}',
        b'{"version":1,"at":1,"lanes":{"a":[]}}',
        b'{"version":1,"at":1,"lanes":{"a":[{"x":[0,0,0]},[],[],[1,1,1,1],[[],"",0,0,""],[1,1]]}}',
        b'{"version":1,"at":1,"lanes":{"a":[{},[],[],["8",1,1,1],[[],"",0,0,""],[1,1]]}}',
        b'{"version":1,"at":1e9,"lanes":{"a":[{},[],[],[1,1,1,1],[[],"",0,0,""],[1,1]]}}',
    ],
)
def test_a_file_that_says_nothing_is_a_modest_start(text: bytes) -> None:
    """Torn, foreign, of another version, or of a time that has not come yet."""
    assert Board.from_text(text, 1000.0, 60.0, 0).lanes == {}


def test_every_cut_of_a_text_says_nothing() -> None:
    machine = Machine()
    machine.fill()
    text = machine.turn().text()
    assert json.loads(text)["lanes"]
    for size in range(len(text)):
        assert Board.from_text(text[:size], 1000.0, 60.0, 0).lanes == {}
