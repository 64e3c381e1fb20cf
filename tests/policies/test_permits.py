from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from resilient_rpc.policies.permits import Permits, Turn


def line_up(permits: Permits, priority: int = 0, places: int = 10) -> Turn:
    turn = permits.line_up(priority, places)
    assert turn is not None
    return turn


def test_no_more_than_the_limit_are_out() -> None:
    permits = Permits(2)
    assert [permits.take() for _ in range(3)] == [True, True, False]
    assert (permits.out, permits.limit, permits.busy()) == (2, 2, True)
    permits.give_back()
    assert permits.take()


def test_is_not_busy_when_all_came_back() -> None:
    permits = Permits(1)
    assert not permits.busy()
    permits.take()
    permits.give_back()
    assert not permits.busy()


def test_a_permit_that_comes_back_goes_to_the_first_in_line_and_to_nobody_else() -> None:
    permits = Permits(1)
    permits.take()
    first, second = line_up(permits), line_up(permits)
    permits.give_back()
    assert (first.done(), second.done()) == (True, False)
    assert not permits.take()
    assert permits.claim(first)
    permits.give_back()
    assert permits.claim(second)


def test_the_higher_class_is_served_first() -> None:
    permits = Permits(1)
    permits.take()
    low, high, high_too = line_up(permits, 0), line_up(permits, 5), line_up(permits, 5)
    order = []
    for _ in range(3):
        permits.give_back()
        order += [turn for turn in (low, high, high_too) if turn.done() and turn not in order]
    assert order == [high, high_too, low]


def test_there_is_no_place_beyond_those_there_are() -> None:
    permits = Permits(1)
    permits.take()
    assert permits.line_up(0, 0) is None
    line_up(permits, places=1)
    assert permits.line_up(0, 1) is None
    assert permits.waiting == 1


def test_in_a_full_line_the_last_one_of_the_lowest_class_makes_room_for_a_higher_one() -> None:
    permits = Permits(1)
    permits.take()
    middle, low, lowest = line_up(permits, 1), line_up(permits, 0), line_up(permits, 0)
    high = line_up(permits, 2, places=3)
    assert (lowest.done(), low.done(), middle.done(), high.done()) == (True, False, False, False)
    assert not permits.claim(lowest)
    assert permits.waiting == 3


def test_who_gives_up_is_passed_over() -> None:
    permits = Permits(1)
    permits.take()
    first, second = line_up(permits), line_up(permits)
    assert not permits.claim(first)
    assert not permits.claim(first)
    assert permits.waiting == 1
    permits.give_back()
    assert permits.claim(second)


def test_who_gave_up_a_moment_before_it_was_served_does_not_keep_the_permit() -> None:
    permits = Permits(1)
    permits.take()
    first, second = line_up(permits), line_up(permits)
    first.set(False)  # as `claim` does, but it has not yet left the line
    permits.give_back()
    assert second.done()
    permits._remove(first)
    assert permits.claim(second)
    assert (permits.out, permits.waiting) == (1, 0)


def test_a_place_is_served_at_once_when_a_permit_came_back_meanwhile() -> None:
    permits = Permits(1)
    assert permits.claim(line_up(permits))
    assert permits.out == 1


def test_a_raised_limit_serves_those_who_wait() -> None:
    permits = Permits(1)
    permits.take()
    turns = [line_up(permits) for _ in range(3)]
    permits.resize(3)
    assert [turn.done() for turn in turns] == [True, True, False]


def test_a_lowered_limit_is_kept_as_permits_come_back() -> None:
    permits = Permits(3)
    for _ in range(3):
        permits.take()
    turn = line_up(permits)
    permits.resize(1)
    permits.give_back()
    permits.give_back()
    assert not turn.done()
    permits.give_back()
    assert permits.claim(turn)


def test_a_call_that_is_collected_while_this_thread_decides_does_not_block_it() -> None:
    permits = Permits(1)
    permits.take()
    with permits._lock:
        permits.give_back()
    assert permits.out == 0


class PermitsMachine(RuleBasedStateMachine):
    """Against a model: who is out, and who stands in line, in the order in which they must be served."""

    holders = Bundle("holders")
    turns = Bundle("turns")

    def __init__(self) -> None:
        super().__init__()
        self.limit = 2
        self.permits = Permits(self.limit)
        self.out = 0
        self.line: list[tuple[int, Turn]] = []
        self.refused: set[Turn] = set()

    def serve(self) -> None:
        while self.out < self.limit and self.line:
            best = max(priority for priority, _ in self.line)
            self.line.remove(next(one for one in self.line if one[0] == best))
            self.out += 1

    @rule(target=holders)
    def take(self) -> object:
        free = self.out < self.limit and not self.line
        assert self.permits.take() is free
        self.out += free
        return "permit" if free else multiple()

    @rule(target=turns, priority=st.integers(-2, 2), places=st.integers(0, 5))
    def line_up(self, priority: int, places: int) -> object:
        turn = self.permits.line_up(priority, places)
        if len(self.line) >= places:
            lowest = min((one[0] for one in self.line), default=priority)
            if lowest >= priority:
                assert turn is None
                return multiple()
            pushed = [one for one in self.line if one[0] == lowest][-1]
            self.line.remove(pushed)
            self.refused.add(pushed[1])
        assert turn is not None
        self.line.append((priority, turn))
        self.serve()
        return turn

    @rule(target=holders, turn=consumes(turns))
    def stop_waiting(self, turn: Turn) -> object:
        waiting = [one for one in self.line if one[1] is turn]
        granted = not waiting and turn not in self.refused
        assert self.permits.claim(turn) is granted
        if waiting:
            self.line.remove(waiting[0])
        return "permit" if granted else multiple()

    @rule(held=consumes(holders))
    def give_back(self, held: str) -> None:
        self.permits.give_back()
        self.out -= 1
        self.serve()

    @rule(turn=consumes(turns), held=consumes(holders))
    def give_up_in_the_moment_of_being_served(self, turn: Turn, held: str) -> None:
        stood_in_line = any(one[1] is turn for one in self.line)
        given_up = turn.set(False)  # the first half of `claim`
        assert given_up is stood_in_line
        self.line = [one for one in self.line if one[1] is not turn]
        self.permits.give_back()
        self.out -= 1
        self.serve()
        if given_up:
            self.permits._remove(turn)  # and its other half
        elif self.permits.claim(turn):
            assert turn not in self.refused
            self.permits.give_back()
            self.out -= 1
            self.serve()

    @rule(limit=st.integers(1, 5))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.permits.resize(limit)
        self.serve()

    @precondition(lambda self: self.line)
    @invariant()
    def nobody_waits_while_there_is_a_permit(self) -> None:
        assert self.out >= self.limit
        assert not any(turn.done() for _, turn in self.line)

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        assert (self.permits.out, self.permits.waiting) == (self.out, len(self.line))
        assert self.permits.busy() is (self.out > 0 or bool(self.line))


TestPermitsMachine = PermitsMachine.TestCase


@contextmanager
def many_switches() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@pytest.mark.parametrize("limit", [1, 3])
def test_threads_that_give_up_at_any_moment_lose_no_permit(limit: int) -> None:
    permits = Permits(limit)
    inside: list[int] = []
    most: list[int] = []
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(300):
                if not permits.take():
                    turn = permits.line_up(number % 3, 4)
                    if turn is None:
                        continue
                    for _ in range((seed + number) % 5):
                        turn.done()
                    if not permits.claim(turn):
                        continue
                inside.append(seed)
                most.append(len(inside))
                inside.pop()
                permits.give_back()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    with many_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not errors
    assert max(most) <= limit
    assert (permits.out, permits.waiting, permits._lines) == (0, 0, {})
