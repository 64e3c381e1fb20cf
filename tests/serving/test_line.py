"""The order of calls that wait, against the one that a plain sort gives."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.serving.line import SLACK, Line, Ranks

_numbers = itertools.count(1)


@dataclass(eq=False)
class Waiting:
    """What matters of a job to those who put it in order."""

    deadline: float = math.inf
    priority: int = 0
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def context(self) -> Any:
        return SimpleNamespace(priority=self.priority)


def filled(*deadlines: float) -> tuple[Any, list[Any]]:
    line: Any = Line()
    jobs = [Waiting(deadline) for deadline in deadlines]
    for job in jobs:
        line.extend([job])
    return line, jobs


def taken(line: Any) -> list[Any]:
    return list(iter(line.take, None))


@pytest.mark.parametrize("deadlines", [[5.0] * 4, [1.0, 2.0, 3.0], [math.inf] * 3, [5.0, 5.0 - SLACK, 5.0]])
def test_who_comes_in_order_stands_in_a_deque(deadlines: list[float]) -> None:
    line, jobs = filled(*deadlines)
    assert list(line.ready) == jobs == list(line)
    assert line.earliest == min(deadlines)
    assert taken(line) == jobs
    assert len(line) == 0


def test_a_nearer_deadline_passes_and_the_order_of_arrival_holds_among_equals() -> None:
    line, (late, near, nearer, also_near) = filled(9.0, 2.0, 1.0, 2.0)
    assert not line.ready
    assert len(line) == 4
    assert taken(line) == [nearer, near, also_near, late]


def test_once_it_is_empty_it_is_a_deque_again() -> None:
    line, _ = filled(9.0, 1.0)
    taken(line)
    job: Any = Waiting(5.0)
    line.extend([job])
    assert list(line.ready) == [job]
    assert line.earliest == 5.0


def test_a_crowd_cannot_creep_past_another_one_step_by_step() -> None:
    steps = [10.0 - n * SLACK * 0.9 for n in range(5)]
    line, jobs = filled(*steps)
    assert not line.ready
    assert taken(line) == jobs[::-1]


@pytest.mark.parametrize("deadlines", [[3.0, 5.0], [5.0, 3.0]])
def test_what_is_put_back_is_the_next_again(deadlines: list[float]) -> None:
    line, _ = filled(*deadlines)
    first = line.take()
    line.put_back(first)
    assert line.take() is first
    rest = line.take()
    line.put_back(rest)
    assert line.earliest <= rest.deadline
    assert taken(line) == [rest]


@pytest.mark.parametrize("deadlines", [[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
def test_those_whose_time_is_up_are_dropped_and_the_others_keep_their_order(deadlines: list[float]) -> None:
    line, jobs = filled(*deadlines)
    assert line.drop_late(0.9) == []
    assert [job.deadline for job in line.drop_late(1.5)] == [1.0]
    assert line.earliest == 2.0
    assert [job.deadline for job in taken(line)] == [2.0, 3.0]
    assert len(jobs) == 3


def test_the_last_is_dropped() -> None:
    line, jobs = filled(1.0, 2.0)
    assert line.drop_last() is jobs[1]
    heap, _ = filled(3.0, 1.0)
    assert heap.drop_last().deadline == 3.0
    assert taken(heap)[0].deadline == 1.0
    assert heap.drop_last() is None


DEADLINES = st.one_of(st.just(math.inf), st.floats(0, 10))
CALLS = st.builds(Waiting, DEADLINES, st.sampled_from([0, 0, 0, 5, 9]))
STEPS = st.lists(st.one_of(CALLS, st.sampled_from(["take", "back", "late", "last", "gone"])), max_size=60)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_higher_ones_go_first_and_none_is_lost_or_doubled(steps: list[Any]) -> None:
    ranks: Any = Ranks()
    inside: set[Any] = set()
    for step in steps:
        if isinstance(step, Waiting):
            job: Any = Waiting(step.deadline, step.priority)
            ranks.extend([job])
            inside.add(job)
        elif step == "late":
            late = ranks.drop_late(5.0)
            assert set(late) == {job for job in inside if job.deadline <= 5.0}
            inside -= set(late)
        elif step == "gone":
            gone: Any = min(inside, key=lambda job: job.number, default=Waiting())
            assert ranks.remove(gone) == (gone in inside)
            inside.discard(gone)
            assert not ranks.remove(gone)
        elif step == "last":
            dropped = ranks.drop_last()
            assert (dropped is None) == (not inside)
            assert dropped is None or dropped.priority == min(job.priority for job in inside)
            inside.discard(dropped)
        else:
            first = ranks.take()
            assert (first is None) == (not inside)
            if first is None:
                continue
            highest = {job for job in inside if job.priority == max(other.priority for other in inside)}
            assert first in highest
            assert first.deadline <= min(job.deadline for job in highest) + SLACK
            if step == "back":
                ranks.put_back(first)
            else:
                inside.discard(first)
        assert len(ranks) == len(inside)
        assert set(ranks) == inside
        assert bool(ranks.ready) or ranks.mixed or not inside
        assert ranks.ahead_of(5) == sum(job.priority >= 5 for job in inside)
    assert set(ranks.clear()) == inside


def test_an_empty_message_changes_nothing() -> None:
    ranks = Ranks()
    ranks.extend([])
    assert not ranks.mixed
    assert ranks.take() is None
