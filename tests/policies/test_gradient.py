from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest

from resilient_rpc.policies.gradient import PATIENCE, Change, Gradient


@dataclass(frozen=True, kw_only=True)
class Settings:
    min: int = 1
    max: int = 200
    window: float = 1.0
    samples: int = 50
    tolerance: float = 1.2


SETTINGS = Settings()


class Simulation:
    """A server with `capacity` places and a line before them; as many callers as the limit lets in, or `callers`."""

    def __init__(self, *, capacity: int, initial: int = 20, callers: int = 1000, settings: Settings = SETTINGS) -> None:
        self.capacity, self.callers, self.settings = capacity, callers, settings
        self.gradient = Gradient(initial)
        self.now = 0.0
        self.done = 0
        self.seconds: Callable[[], float] = lambda: 0.1
        self._random = random.Random(1)
        self._under_way = self._served = 0
        self._line: deque[float] = deque()
        self._ends: list[tuple[float, int, float]] = []
        self._number = count()

    def run(self, seconds: float) -> list[int]:
        """The limit after each second."""
        limits: list[int] = []
        end, done = self.now + seconds, self.done
        while self.now < end:
            self._begin()
            self.now, _, began = heapq.heappop(self._ends)
            self._served -= 1
            self.done += 1
            self.gradient.answered(began, self.now, self._under_way, self.settings)
            self._under_way -= 1
            limits += [self.gradient.limit] * (int(self.now - end + seconds) - len(limits))
        self.throughput = (self.done - done) / seconds
        return limits

    def _begin(self) -> None:
        while self._under_way < min(self.gradient.limit, self.callers):
            self._line.append(self.now)
            self._under_way += 1
        while self._line and self._served < self.capacity:
            seconds = self.seconds() * self._random.gammavariate(9, 1 / 9)
            heapq.heappush(self._ends, (self.now + seconds, next(self._number), self._line.popleft()))
            self._served += 1


def median(limits: list[int]) -> int:
    return sorted(limits)[len(limits) // 2]


@pytest.mark.parametrize("capacity", [5, 10, 40, 100])
@pytest.mark.parametrize("initial", [1, 20, 200])
def test_the_limit_comes_near_what_the_server_takes(capacity: int, initial: int) -> None:
    simulation = Simulation(capacity=capacity, initial=initial)
    simulation.run(60 + 1000 / capacity)
    limits = simulation.run(50)
    assert capacity <= median(limits) <= 1.25 * capacity + 2 * capacity**0.5 + 2
    assert simulation.throughput > 0.93 * capacity / 0.1


def test_it_does_not_creep_up_with_a_line_that_never_empties() -> None:
    simulation = Simulation(capacity=10)
    simulation.run(100)
    early = median(simulation.run(100))
    simulation.run(1000)
    assert median(simulation.run(100)) == pytest.approx(early, abs=3)


def test_it_comes_back_after_a_slow_down() -> None:
    simulation = Simulation(capacity=40)
    simulation.run(100)
    before = median(simulation.run(50))
    simulation.seconds = lambda: 0.4
    slow = simulation.run(100)
    assert min(slow) < before / 2
    simulation.seconds = lambda: 0.1
    simulation.run(100)
    assert median(simulation.run(50)) == pytest.approx(before, rel=0.2)
    assert simulation.throughput > 0.95 * 40 / 0.1


def test_it_gets_used_to_a_server_that_stays_slow() -> None:
    simulation = Simulation(capacity=40)
    simulation.run(100)
    before = median(simulation.run(50))
    simulation.seconds = lambda: 0.3
    simulation.run(200)
    assert median(simulation.run(50)) == pytest.approx(before, rel=0.2)
    assert simulation.throughput > 0.95 * 40 / 0.3


def test_it_does_not_grow_while_less_than_half_of_it_is_in_use() -> None:
    simulation = Simulation(capacity=40, callers=9)
    assert set(simulation.run(60)) == {20}


def test_a_server_that_is_slow_for_other_reasons_costs_nothing_while_it_is_little_used() -> None:
    simulation = Simulation(capacity=40, callers=9)
    simulation.run(30)
    simulation.seconds = lambda: 0.3
    assert set(simulation.run(30)) == {20}
    assert simulation.gradient.baseline > 0.3


def fill(
    gradient: Gradient, begin: float, *, seconds: float = 0.1, refused: int = 0, settings: Settings = SETTINGS
) -> list[Change]:
    """One window from `begin`, in which the limit is in full use; what changed."""
    changes = []
    for number in range(settings.samples):
        learn = gradient.refused if number < refused else gradient.answered
        last = number == settings.samples - 1
        now = begin + settings.window + seconds if last else begin + seconds
        changes.append(learn(now - seconds, now, gradient.limit, settings))
    return [change for change in changes if change is not None]


def test_a_window_without_a_queue_raises_it_by_the_square_root() -> None:
    gradient = Gradient(100)
    assert fill(gradient, 10.0) == [Change(100, 110, "gradient")]


def test_a_window_twice_as_slow_lowers_it_by_the_gradient() -> None:
    gradient = Gradient(100)
    fill(gradient, 10.0)
    assert fill(gradient, 20.0, seconds=0.2) == [Change(110, 76, "gradient")]  # 110 * 1.2 / 2 + sqrt(110)


def test_no_window_lowers_it_below_half() -> None:
    gradient = Gradient(100)
    fill(gradient, 10.0)
    assert fill(gradient, 20.0, seconds=9.0) == [Change(110, 65, "gradient")]


@pytest.mark.parametrize(("refused", "limit"), [(1, 99), (10, 90), (25, 75), (50, 50)])
def test_calls_that_were_refused_lower_it_by_half_of_their_share(refused: int, limit: int) -> None:
    gradient = Gradient(100)
    assert fill(gradient, 10.0, refused=refused) == [Change(100, limit, "overloaded")]


def test_one_refused_call_in_a_hundred_is_tolerated() -> None:
    settings = Settings(samples=100)
    gradient = Gradient(100)
    assert fill(gradient, 10.0, refused=1, settings=settings) == [Change(100, 110, "gradient")]


def test_a_refused_call_has_used_the_limit_too() -> None:
    settings = Settings(samples=100)
    gradient = Gradient(100)
    gradient.refused(10.0, 10.1, 100, settings)
    changes = [gradient.answered(10.0 + n / 10, 11.0 + n / 10, 10, settings) for n in range(99)]
    assert changes[-1] == Change(100, 110, "gradient")


def test_calls_that_began_before_the_window_are_not_counted() -> None:
    gradient = Gradient(100)
    fill(gradient, 10.0)
    for _ in range(1000):
        assert gradient.answered(10.5, 100.0, 110, SETTINGS) is None
        assert gradient.refused(10.5, 100.0, 110, SETTINGS) is None
    assert fill(gradient, 20.0) == [Change(110, 120, "gradient")]


def test_nothing_is_decided_before_the_window_is_full() -> None:
    gradient = Gradient(100)
    assert all(gradient.answered(10.0, 10.1, 100, SETTINGS) is None for _ in range(1000))  # too short
    gradient = Gradient(100)
    assert all(gradient.refused(10.0, 10.1, 100, SETTINGS) is None for _ in range(1000))
    assert gradient.refused(10.0, 11.0, 100, SETTINGS) == Change(100, 50, "overloaded")
    gradient = Gradient(100)
    assert all(gradient.answered(10.0 + n, 12.0 + n, 100, SETTINGS) is None for n in range(49))  # too few
    assert gradient.answered(60.0, 60.1, 100, SETTINGS) == Change(100, 110, "gradient")


def test_it_stays_within_its_bounds() -> None:
    settings = Settings(min=90, max=105)
    gradient = Gradient(100)
    assert fill(gradient, 10.0, settings=settings) == [Change(100, 105, "gradient")]
    assert fill(gradient, 20.0, settings=settings) == []
    assert fill(gradient, 30.0, refused=50, settings=settings) == [Change(105, 90, "overloaded")]


def test_changed_bounds_hold_at_once() -> None:
    gradient = Gradient(100)
    gradient.clamp(Settings(max=50))
    assert gradient.limit == 50
    gradient.clamp(Settings(min=80))
    assert gradient.limit == 80


def test_a_limit_in_full_use_is_tested_at_half_of_it() -> None:
    settings = Settings(max=100)
    gradient = Gradient(100)
    begins = [10.0 + 10 * number for number in range(PATIENCE * 2)]
    changes = [
        (number, change) for number, begin in enumerate(begins) for change in fill(gradient, begin, settings=settings)
    ]
    assert changes == [
        (4, Change(100, 50, "probe")),
        (5, Change(50, 100, "probe")),
        (25, Change(100, 50, "probe")),
        (26, Change(50, 100, "probe")),
    ]


def test_a_test_that_finds_no_queue_sets_the_baseline() -> None:
    settings = Settings(max=100)
    gradient = Gradient(100)
    for number in range(5):
        fill(gradient, 10.0 + 10 * number, seconds=0.4, settings=settings)
    assert gradient.limit == 50
    fill(gradient, 100.0, seconds=0.1, settings=settings)
    assert gradient.baseline == pytest.approx(0.1)


def test_a_test_that_is_slower_raises_the_baseline_half_of_the_way() -> None:
    settings = Settings(max=100)
    gradient = Gradient(100)
    for number in range(5):
        fill(gradient, 10.0 + 10 * number, seconds=0.1, settings=settings)
    fill(gradient, 100.0, seconds=0.3, settings=settings)
    assert gradient.baseline == pytest.approx(0.2)


def test_a_call_without_an_answer_counts_if_it_was_slow_already() -> None:
    gradient = Gradient(100)
    for number in range(100):
        assert gradient.timed_out(1.0 + number, 2.0 + number, 100, SETTINGS) is None  # nothing is known yet
    fill(gradient, 200.0)
    for number in range(100):
        assert gradient.timed_out(300.0 + number, 300.11 + number, 110, SETTINGS) is None  # a hasty caller
    changes = [gradient.timed_out(400.0 + number, 401.0 + number, 110, SETTINGS) for number in range(50)]
    assert changes[-1] == Change(110, 65, "gradient")


def test_durations_of_nothing_do_no_harm() -> None:
    gradient = Gradient(100)
    for _ in range(49):
        gradient.answered(10.0, 10.0, 100, SETTINGS)
    assert gradient.answered(12.0, 12.0, 100, SETTINGS) == Change(100, 110, "gradient")


def test_a_hundred_thousand_calls_in_a_window_take_no_more_memory() -> None:
    gradient = Gradient(100)
    for number in range(100_000):
        gradient.answered(10.0, 10.1 if number < 99_000 else 10.2, 100, SETTINGS)
    gradient.answered(12.0, 12.2, 100, SETTINGS)
    assert gradient.baseline == pytest.approx(0.2)  # the last 256 count
    assert len(gradient._durations) == 256
