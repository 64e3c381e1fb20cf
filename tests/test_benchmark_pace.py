"""A run of the benchmark keeps to its time, on a slow machine too, and says what that cost."""

from __future__ import annotations

import pytest

from benchmarks.pace import ROUNDING, Pace
from benchmarks.plan import Plan, Turn
from benchmarks.rounds import Outcome, measure


class Machine:
    """A clock, and turns that take `slow` times what was guessed, beside their runs."""

    def __init__(self, slow: float = 1.0) -> None:
        self.now, self.slow = 1000.0, slow
        self.ran: list[str] = []

    def turn(self, name: str, beside: float, run: float = 0.0, *, once: bool = False) -> Turn:
        def work(plan: Plan) -> list[tuple[None, dict[str, float]]]:
            self.now += beside * self.slow + (plan.seconds if run else 0.0)
            self.ran.append(name)
            return [(None, {"calls_per_s": 1.0})]

        return Turn(name, work, key=name, once=once, guess=beside + run, seconds=run)

    def measure(self, turns: list[Turn], budget: float) -> Outcome:
        plan = Plan(url="amqp://nowhere", rounds=3, seconds=1.0, budget=budget)
        return measure(turns, Pace(plan, lambda: self.now), lambda *_: None)


def turns(machine: Machine) -> list[Turn]:
    return [machine.turn("probe", 5.0, once=True), *(machine.turn(f"case{n}", 1.0, 1.0) for n in range(5))]


def test_what_fits_is_measured_as_it_was_asked_for() -> None:
    machine = Machine()
    found = machine.measure(turns(machine), 36.0)
    assert (found.rounds, found.notes, found.missing) == (3, [], {})
    assert machine.ran.count("probe") == 1
    assert machine.now == 1035.0


def test_a_slow_machine_has_shorter_runs_and_says_so() -> None:
    machine = Machine()
    found = machine.measure(turns(machine), 30.0)
    assert (found.rounds, found.missing) == (3, {})
    assert found.notes == ["runs of 0.67 s instead of 1 s, for want of time"]
    assert machine.now <= 1030.0 + ROUNDING


@pytest.mark.parametrize("slow", [1.5, 2.0, 3.0])
def test_a_machine_that_is_slower_than_known_is_found_out(slow: float) -> None:
    machine = Machine(slow)
    found = machine.measure(turns(machine), 36.0)
    assert machine.now <= 1036.0 + ROUNDING
    assert found.missing == {}  # every case has at least one round
    assert all(len(found.runs[f"case{n}"]) == found.rounds for n in range(5))  # a round is whole, or it is not begun
    assert any("instead of" in note for note in found.notes)
    assert found.rounds == 3 or f"{found.rounds} of 3 rounds, for want of time" in found.notes


def test_what_has_no_time_at_all_is_missing_and_said_to_be() -> None:
    machine = Machine()
    found = machine.measure([machine.turn("short", 0.1, 1.0), machine.turn("long", 60.0)], 5.0)
    assert machine.ran == ["short"] * 3
    assert found.missing == {"long": "no time was left of 5 s"}
    assert machine.now <= 1005.0


def test_the_plan_is_told() -> None:
    machine = Machine()
    pace = Pace(Plan(url="amqp://nowhere", rounds=3, seconds=1.0, budget=36.0), lambda: machine.now)
    said = pace.describe(turns(machine))
    assert said.startswith("plan: 5 turns a round, about 10 s, and 1 more once, about 5 s; 3 rounds would take 35 s")
