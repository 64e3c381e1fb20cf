from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.cli.workers.count import Count
from resilient_rpc.cli.workers.scaling import Load, Mood, Scaling

RULE = Scaling(count=Count(least=2, most=8), up_after=2.0, down_after=30.0, fill=0.5)
JAM: dict[str, Any] = {"backlog": 25, "busy": 20}
CALM: dict[str, Any] = {"backlog": 0, "busy": 0}


class Watch:
    """Decides once a second, with workers of ten slots that are always all there."""

    def __init__(self, wanted: int = 2) -> None:
        self.wanted, self.mood, self.now = wanted, Mood(), 0.0

    def look(self, seconds: int = 1, **load: Any) -> int:
        for _ in range(seconds):
            seen = Load(**{"workers": self.wanted, "slots": 10 * self.wanted, **load})
            self.wanted, self.mood = RULE.decide(seen, self.wanted, self.mood, self.now)
            self.now += 1.0
        return self.wanted


def test_more_come_when_the_backlog_stays_too_long() -> None:
    watch = Watch()
    assert watch.look(2, **JAM) == 2
    assert watch.look(1, **JAM) == 4, "as many as it takes, but at most twice as many"


def test_it_looks_again_before_the_next_step() -> None:
    watch = Watch()
    assert [watch.look(3, backlog=1_000, busy=80) for _ in range(3)] == [4, 8, 8]


def test_only_as_many_come_as_the_backlog_calls_for() -> None:
    watch = Watch(4)
    assert watch.look(3, backlog=10, busy=40) == 5


def test_a_backlog_that_comes_and_goes_changes_nothing() -> None:
    watch = Watch()
    for _ in range(20):
        watch.look(2, **JAM)
        watch.look(1, backlog=5, busy=20)
    assert watch.wanted == 2


def test_one_leaves_when_the_rest_have_had_little_to_do_for_long() -> None:
    watch = Watch(4)
    assert watch.look(30, **CALM) == 4
    assert watch.look(1, **CALM) == 3
    assert watch.look(30, **CALM) == 3, "each has its own time"
    assert watch.look(1, **CALM) == 2
    assert watch.look(100, **CALM) == 2, "not fewer than the least"


def test_nobody_leaves_while_the_rest_would_be_half_full() -> None:
    assert Watch(3).look(100, backlog=0, busy=11) == 3
    assert Watch(3).look(31, backlog=0, busy=10) == 2


def test_nobody_leaves_while_anything_waits() -> None:
    assert Watch(4).look(100, backlog=1, busy=0) == 4


def test_a_moment_of_work_begins_the_time_anew() -> None:
    watch = Watch(3)
    watch.look(29, **CALM)
    watch.look(1, backlog=0, busy=25)
    assert watch.look(30, **CALM) == 3


def test_nothing_changes_before_the_last_change_has_come_about() -> None:
    watch = Watch()
    assert watch.look(100, workers=1, slots=10, **JAM) == 2
    assert watch.look(100, workers=3, slots=30, **JAM) == 2, "one of them is about to leave"


def test_nothing_changes_while_the_backlog_is_not_known() -> None:
    assert Watch().look(100, backlog=None, busy=20) == 2
    assert Watch(4).look(100, backlog=None, busy=0) == 4


LOADS = st.builds(
    Load,
    backlog=st.none() | st.integers(0, 10_000),
    busy=st.integers(0, 1_000),
    slots=st.integers(0, 1_000),
    workers=st.integers(0, 9),
)


@given(st.lists(st.tuples(LOADS, st.floats(0.1, 40.0)), max_size=30))
def test_it_stays_between_the_least_and_the_most_and_never_turns_round_at_once(steps: list[tuple[Load, float]]) -> None:
    wanted, mood, now = 2, Mood(), 0.0
    up = down = -100.0
    for load, pause in steps:
        now += pause
        found, mood = RULE.decide(load, wanted, mood, now)
        assert 2 <= found <= 8
        assert found <= 2 * wanted
        assert found >= wanted - 1
        if found > wanted:
            assert now - max(up, down) >= RULE.up_after
            up = now
        if found < wanted:
            assert now - max(up, down) >= RULE.down_after
            down = now
        wanted = found
