from __future__ import annotations

import gc
import math
import sys
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import RetryBudget
from resilient_rpc.policies.budget import PARTS, Ledger, common_budget

TARGET = "orders"
STATE_BYTES = 8192


def granted(budget: RetryBudget, asked: int, now: float, target: str = TARGET) -> int:
    return sum(budget.withdraw(target, now) for _ in range(asked))


def deposit(budget: RetryBudget, count: int, now: float, target: str = TARGET) -> None:
    for _ in range(count):
        budget.deposit(target, now)


def test_a_fifth_of_the_first_attempts_and_one_a_second_may_be_repeated() -> None:
    budget = RetryBudget()
    deposit(budget, 1000, 50.0)
    assert budget.balance(TARGET, 50.0) == 210
    assert granted(budget, 1000, 50.0) == 210
    assert budget.balance(TARGET, 50.0) == 0


def test_without_traffic_the_floor_is_all() -> None:
    assert granted(RetryBudget(floor=2, window=5), 100, 0.0) == 10
    assert granted(RetryBudget(floor=0), 100, 0.0) == 0


def test_a_repeat_takes_a_whole_token_and_fractions_add_up_exactly() -> None:
    budget = RetryBudget(ratio=0.1, floor=0)
    deposit(budget, 9, 0.0)
    assert not budget.withdraw(TARGET, 0.0)
    deposit(budget, 1, 0.0)
    assert granted(budget, 5, 0.0) == 1


def test_first_attempts_and_repeats_leave_the_window() -> None:
    budget = RetryBudget(floor=0)
    deposit(budget, 100, 1000.5)
    assert budget.balance(TARGET, 1010.9) == 20
    assert granted(budget, 5, 1010.9) == 5
    assert budget.balance(TARGET, 1011.0) == 0
    deposit(budget, 100, 1011.0)
    assert budget.balance(TARGET, 1011.0) == 15
    assert budget.balance(TARGET, 1020.99) == 15


def test_each_target_has_a_bucket_of_its_own() -> None:
    budget = RetryBudget()
    deposit(budget, 100, 0.0)
    assert (budget.balance(TARGET, 0.0), budget.balance("stock", 0.0)) == (30, 10)


@pytest.mark.parametrize("now", [-1e6, 0.0, 989.0, 1e9])
def test_another_clock_begins_the_window_anew(now: float) -> None:
    budget = RetryBudget()
    deposit(budget, 100, 1000.0)
    assert granted(budget, 30, 1000.0) == 30
    assert budget.balance(TARGET, now) == 10
    deposit(budget, 5, now)
    assert granted(budget, 30, now) == 11


@pytest.mark.parametrize("now", [999.9, 995.0, 991.0])
def test_a_thread_that_comes_late_loses_nothing_and_wins_nothing(now: float) -> None:
    budget = RetryBudget()
    deposit(budget, 100, 1000.0)
    assert granted(budget, 4, 1000.0) == 4
    deposit(budget, 5, now)
    assert budget.withdraw(TARGET, now)
    assert budget.balance(TARGET, now) == budget.balance(TARGET, 1000.0) == 26


def test_a_gap_of_a_part_of_the_window_empties_that_part_alone() -> None:
    budget = RetryBudget(floor=0)
    for second in range(10):
        deposit(budget, 10, 1000.0 + second)
    assert budget.balance(TARGET, 1009.5) == 20
    assert budget.balance(TARGET, 1013.5) == 14
    assert budget.balance(TARGET, 1019.5) == 2
    assert budget.balance(TARGET, 1020.0) == 0


def test_unlimited_grants_everything() -> None:
    budget = RetryBudget.unlimited()
    assert granted(budget, 10_000, 0.0) == 10_000
    assert budget.balance(TARGET, 0.0) == math.inf


def test_the_common_budget_is_one_and_is_full_in_each_test() -> None:
    assert common_budget() is common_budget()
    assert common_budget().balance(TARGET, 5.0) == 10
    granted(common_budget(), 10, 5.0)
    common_budget().clear()
    assert common_budget().balance(TARGET, 5.0) == 10


def test_a_successor_goes_on_with_the_counts_under_its_own_settings() -> None:
    old, new = RetryBudget(), RetryBudget(ratio=0.1, floor=0)
    deposit(old, 100, 0.0)
    assert granted(old, 4, 0.0) == 4
    new.adopt(old)
    assert new.balance(TARGET, 0.0) == 6
    stricter = RetryBudget(ratio=0, floor=0)
    stricter.adopt(new)
    assert stricter.balance(TARGET, 0.0) == 0
    assert not stricter.withdraw(TARGET, 0.0)


@pytest.mark.parametrize("new", [RetryBudget(name="other"), RetryBudget(window=20, floor=0.5)])
def test_a_budget_of_another_name_or_window_begins_anew(new: RetryBudget) -> None:
    old = RetryBudget()
    deposit(old, 100, 0.0)
    new.adopt(old)
    assert new.balance(TARGET, 0.0) == 10


def test_threads_together_are_granted_no_more_than_the_budget() -> None:
    budget, barrier, won = RetryBudget(), threading.Barrier(8), []

    def work() -> None:
        barrier.wait(10)
        deposit(budget, 500, 7.0)
        barrier.wait(10)
        won.append(granted(budget, 500, 7.0))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(interval)
    assert sum(won) == 8 * 500 // 5 + 10


def test_a_target_takes_little_memory() -> None:
    def size(thing: Any, seen: set[int]) -> int:
        if id(thing) in seen:
            return 0
        seen.add(id(thing))
        inner: Iterable[Any] = thing if isinstance(thing, list) else [getattr(thing, n, None) for n in Ledger.__slots__]
        return sys.getsizeof(thing) + sum(size(item, seen) for item in inner if isinstance(item, list | int))

    ledger = Ledger()
    for number in range(100_000):
        ledger.deposit(number // 5000)
    assert size(ledger, set()) < STATE_BYTES // 4


def test_targets_are_bounded() -> None:
    budget = RetryBudget()
    for number in range(3000):
        budget.deposit(f"target-{number}", 0.0)
    gc.collect()
    assert sum(isinstance(thing, Ledger) for thing in budget._ledgers.snapshot().values()) == 1000


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("ratio", [-0.1, 1.1, 20, math.nan, True, "0.2", None]),
        ("window", [0, -1, math.inf, math.nan, False, "10", None]),
        ("floor", [-1, -math.inf, math.nan, True, "1", None]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(setting: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"RetryBudget\.{setting}") as info:
            RetryBudget(**{setting: value})
        assert repr(value) in str(info.value)


def test_prints_its_settings_and_cannot_be_changed() -> None:
    budget = RetryBudget(ratio=0.1)
    assert repr(budget) == "RetryBudget(ratio=0.1, window=10.0, floor=1.0, name='')"
    with pytest.raises(AttributeError):
        budget.ratio = 0.5  # type: ignore[misc]


class BudgetMachine(RuleBasedStateMachine):
    """The budget against a list of all that happened. What is remembered may be a bucket longer than the window."""

    @initialize(ratio=st.sampled_from([0.0, 0.1, 0.2, 1.0]), window=st.sampled_from([1.0, 10.0]), floor=st.floats(0, 3))
    def begin(self, ratio: float, window: float, floor: float) -> None:
        self.budget = RetryBudget(ratio=ratio, window=window, floor=floor)
        self.now = 100.0
        self.firsts: list[float] = []
        self.repeats: list[float] = []

    def recent(self, events: list[float], windows: float = 1.0) -> int:
        return sum(at > self.now - windows * self.budget.window for at in events)

    def allowed(self, windows: float = 1.0) -> float:
        budget = self.budget
        return budget.ratio * self.recent(self.firsts, windows) + budget.floor * budget.window

    @rule(windows=st.one_of(st.floats(0, 0.3), st.floats(0.8, 2.5)))
    def time_passes(self, windows: float) -> None:
        self.now += windows * self.budget.window

    @rule(count=st.integers(1, 60))
    def first_attempts(self, count: int) -> None:
        deposit(self.budget, count, self.now)
        self.firsts.extend([self.now] * count)

    @rule(count=st.integers(1, 40))
    def repeats_are_asked_for(self, count: int) -> None:
        left = self.budget.balance(TARGET, self.now)
        taken = granted(self.budget, count, self.now)
        assert taken == min(count, math.floor(left))
        self.repeats.extend([self.now] * taken)
        if taken:
            assert self.recent(self.repeats) <= self.allowed(LONGER) + 1e-6, "more than is allowed in a window"
        if taken < count:
            assert self.recent(self.repeats, LONGER) > self.allowed() - 1 - 1e-6, "refused, and not spent"

    @invariant()
    def what_is_left_is_never_negative(self) -> None:
        assert self.budget.balance(TARGET, self.now) >= 0


LONGER = (PARTS + 1) / PARTS
TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
