"""What becomes of workers, told by a clock that is a number."""

from __future__ import annotations

import logging
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.cli.workers.plan import GRACE, MARGIN, Action, Plan, Restarts, said

RULES = Restarts(most=3, first=1.0, longest=5.0, lasting=60.0)
KILLED = -signal.SIGKILL


class Desk:
    """A plan whose orders are carried out at once, but for the end of workers."""

    def __init__(self, wanted: int, *, patient: bool = False) -> None:
        self.plan, self.now = Plan(wanted, RULES, patient=patient), 0.0
        self.alive: set[int] = set()

    def step(self, seconds: float = 0.0) -> list[Action]:
        self.now += seconds
        found = self.plan.step(self.now)
        for verb, number in found:
            if verb == "start":
                assert number not in self.alive, "two in one place"
                self.alive.add(number)
            else:
                assert number in self.alive
        return found

    def serve(self, *numbers: int, grace: float = 10.0) -> None:
        for number in numbers or sorted(self.alive):
            self.plan.serving(number, grace, self.now)

    def end(self, number: int, code: int = 0) -> None:
        self.alive.discard(number)
        self.plan.ended(number, code, self.now)


def serving(wanted: int, *, patient: bool = False) -> Desk:
    desk = Desk(wanted, patient=patient)
    desk.step()
    desk.serve()
    return desk


def test_all_start_at_once_and_then_nothing_is_to_be_done() -> None:
    desk = Desk(3)
    assert desk.step() == [("start", 1), ("start", 2), ("start", 3)]
    desk.serve()
    assert desk.step(1_000) == []
    assert (desk.plan.count("serving"), desk.plan.due(), desk.plan.code) == (3, None, None)


class TestCrashes:
    def test_another_one_takes_its_place_after_a_pause(self) -> None:
        desk = serving(2)
        desk.end(2, KILLED)
        assert desk.plan.due() == desk.now + 1.0
        assert desk.step(0.9) == []
        assert desk.step(0.1) == [("start", 2)]

    def test_the_pause_grows_while_they_do_not_last(self) -> None:
        desk, pauses = serving(1), []
        for _ in range(3):
            desk.end(1, 1)
            due = desk.plan.due()
            assert due is not None
            pauses.append(due - desk.now)
            desk.step(pauses[-1])
            desk.serve()
        assert pauses == [1.0, 2.0, 4.0]
        assert RULES.pause(10) == 5.0

    def test_one_that_has_lasted_is_forgiven_what_was_before(self) -> None:
        desk = serving(1)
        for _ in range(20):
            desk.end(1, KILLED)
            assert desk.plan.due() == desk.now + 1.0
            desk.step(1.0)
            desk.serve()
            desk.step(60.0)
        assert desk.plan.code is None

    def test_one_that_came_up_late_has_not_lasted_for_that(self) -> None:
        desk = serving(1)
        desk.end(1, 1)
        desk.step(1.0)
        desk.step(100.0)
        desk.serve()
        desk.end(1, 1)
        assert desk.plan.due() == desk.now + 2.0

    def test_too_many_in_a_row_end_all_and_it_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        desk = serving(2)
        for _ in range(4):
            desk.end(2, -signal.SIGSEGV)
            desk.step(10.0)
            if 2 in desk.alive:
                desk.serve(2)
        assert desk.plan.places[1].state == "draining"
        desk.end(1, 0)
        assert desk.plan.code == 1
        [loud] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert loud.getMessage().startswith("worker 2 ended 4 times in a row, by SIGSEGV: ending the others, too")

    def test_what_cannot_be_built_is_not_tried_again(self) -> None:
        desk = Desk(2)
        desk.step()
        desk.end(1, 2)
        assert desk.step() == [("drain", 2)]
        desk.end(2, 2)
        assert desk.plan.code == 2

    def test_one_that_served_and_ends_with_that_code_is(self) -> None:
        desk = serving(1)
        desk.end(1, 2)
        assert desk.step(1.0) == [("start", 1)]

    def test_a_worker_that_somebody_stops_by_hand_is_replaced(self) -> None:
        desk = serving(1)
        desk.end(1, 0)
        assert desk.step(1.0) == [("start", 1)]


class TestDraining:
    def test_each_is_told_once_and_the_code_comes_when_all_have_ended(self) -> None:
        desk = serving(2)
        desk.plan.drain(desk.now)
        desk.plan.drain(desk.now)
        assert desk.plan.due() == 0.0
        assert desk.step() == [("drain", 1), ("drain", 2)]
        assert desk.step(5.0) == []
        desk.end(1)
        assert desk.plan.code is None
        desk.end(2)
        assert desk.plan.code == 0

    def test_those_that_are_about_to_start_do_not(self) -> None:
        desk = serving(2)
        desk.end(1, 1)
        desk.plan.drain(desk.now)
        assert desk.step(5.0) == [("drain", 2)]
        desk.end(2)
        assert desk.plan.code == 0

    def test_one_that_is_starting_is_told_too_and_may_end_by_the_signal(self) -> None:
        desk = Desk(1)
        desk.step()
        desk.plan.drain(desk.now)
        assert desk.step() == [("drain", 1)]
        desk.serve(1)
        assert desk.plan.places[1].state == "draining", "it said that it serves before it heard"
        desk.end(1, -signal.SIGTERM)
        assert desk.plan.code == 0

    @pytest.mark.parametrize(("code", "whole"), [(75, 75), (1, 1), (KILLED, 75), (-signal.SIGSEGV, 1)])
    def test_trouble_of_one_is_the_code_of_all(self, code: int, whole: int) -> None:
        desk = serving(3)
        desk.plan.drain(desk.now)
        desk.end(1, 0)
        desk.end(2, code)
        desk.end(3, 0)
        assert desk.plan.code == whole

    def test_one_that_does_not_end_is_killed_once(self) -> None:
        desk = serving(1)
        desk.plan.drain(desk.now)
        desk.step()
        assert desk.plan.due() == desk.now + 10.0 + MARGIN
        assert desk.step(10.0 + MARGIN) == [("kill", 1)]
        assert desk.step(1_000) == []
        assert desk.plan.due() is None
        desk.end(1, KILLED)
        assert desk.plan.code == 75

    def test_one_that_has_not_said_its_grace_has_the_usual_one(self) -> None:
        desk = Desk(1)
        desk.step()
        desk.plan.drain(desk.now)
        assert desk.step(GRACE + MARGIN - 0.1) == [("drain", 1)]
        assert desk.step(0.1) == [("kill", 1)]

    def test_nothing_is_wanted_any_more(self) -> None:
        desk = serving(1)
        desk.plan.drain(desk.now)
        desk.plan.want(5, desk.now)
        assert desk.step() == [("drain", 1)]


class TestMoreAndFewer:
    def test_more(self) -> None:
        desk = serving(1)
        desk.plan.want(3, desk.now)
        assert desk.step() == [("start", 2), ("start", 3)]

    def test_the_last_ones_leave_first_and_nobody_follows_them(self) -> None:
        desk = serving(3)
        desk.plan.want(1, desk.now)
        assert desk.step() == [("drain", 2), ("drain", 3)]
        desk.end(2)
        desk.end(3, 75)
        assert desk.step(100.0) == []
        assert (set(desk.plan.places), desk.plan.code) == ({1}, None)

    def test_those_that_do_not_serve_leave_before_those_that_do(self) -> None:
        desk = serving(2)
        desk.end(1, KILLED)
        desk.plan.want(1, desk.now)
        assert desk.step(100.0) == []
        assert set(desk.plan.places) == {2}

    def test_while_one_leaves_another_may_come(self) -> None:
        desk = serving(2)
        desk.plan.want(1, desk.now)
        desk.step()
        desk.plan.want(2, desk.now)
        assert desk.step() == [("start", 3)]
        desk.end(2)
        assert set(desk.plan.places) == {1, 3}


class TestReload:
    def test_each_drains_and_another_one_follows(self) -> None:
        desk = serving(2)
        desk.plan.renew(desk.now)
        assert desk.step() == [("drain", 1), ("drain", 2)]
        desk.end(2, 75)
        assert desk.step() == [("start", 2)]
        desk.plan.renew(desk.now)
        assert desk.step() == [("drain", 2)]
        desk.end(1)
        desk.end(2)
        assert desk.step() == [("start", 1), ("start", 2)]

    def test_what_cannot_be_built_waits_for_a_change(self) -> None:
        desk = Desk(1, patient=True)
        desk.step()
        desk.end(1, 2)
        assert desk.step(1_000) == []
        assert desk.plan.code is None
        desk.plan.renew(desk.now)
        assert desk.step() == [("start", 1)]

    def test_what_is_broken_does_not_keep_it_from_ending(self) -> None:
        desk = Desk(1, patient=True)
        desk.step()
        desk.end(1, 2)
        desk.plan.drain(desk.now)
        assert desk.plan.code == 0

    def test_a_drain_overrules_it(self) -> None:
        desk = serving(1, patient=True)
        desk.plan.renew(desk.now)
        desk.plan.drain(desk.now)
        assert desk.step() == [("drain", 1)]
        desk.end(1)
        assert (desk.step(), desk.plan.code) == ([], 0)


class TestRelief:
    def test_each_goes_when_the_next_one_serves(self) -> None:
        desk = serving(2)
        desk.plan.relieve(desk.now)
        assert desk.step() == [("start", 3)]
        desk.serve(3)
        assert desk.step() == [("drain", 1), ("start", 4)]
        desk.end(1)
        desk.serve(4)
        assert desk.step() == [("drain", 2)]
        desk.end(2)
        assert desk.step(100.0) == []
        assert set(desk.plan.places) == {3, 4}

    def test_one_that_cannot_serve_leaves_the_old_ones_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        desk = serving(3)
        desk.plan.relieve(desk.now)
        desk.step()
        desk.serve(4)
        assert desk.step() == [("drain", 1), ("start", 5)]
        desk.end(5, 2)
        desk.end(1)
        assert desk.step(100.0) == []
        assert (set(desk.plan.places), desk.plan.code) == ({2, 3, 4}, None)
        assert "those that are left stay as they are" in caplog.text
        desk.plan.relieve(desk.now)
        assert desk.step() == [("start", 1)], "it can be tried again"

    def test_asked_again_it_begins_anew_and_relieves_who_came_meanwhile(self) -> None:
        desk = serving(1)
        desk.plan.relieve(desk.now)
        desk.step()
        desk.plan.relieve(desk.now)
        desk.serve(2)
        assert desk.step() == [("drain", 1), ("start", 3)]
        desk.serve(3)
        assert desk.step() == [("drain", 2)]

    def test_fewer_and_more_meanwhile(self) -> None:
        desk = serving(3)
        desk.plan.relieve(desk.now)
        desk.step()
        desk.plan.want(1, desk.now)
        assert desk.step() == [("drain", 2), ("drain", 3)]
        desk.end(2)
        desk.end(3)
        desk.plan.want(2, desk.now)
        assert desk.step() == [("start", 2)]
        desk.serve(2)
        desk.serve(4)
        assert desk.step() == [("drain", 1)]
        assert desk.plan.count("serving") == 2

    def test_a_crash_meanwhile_is_mended_as_ever(self) -> None:
        desk = serving(2)
        desk.plan.relieve(desk.now)
        desk.step()
        desk.end(1, KILLED)
        assert desk.step(1.0) == [("start", 1)]
        desk.serve(3)
        assert desk.step() == [("drain", 1), ("start", 4)]

    def test_a_drain_ends_it(self) -> None:
        desk = serving(1)
        desk.plan.relieve(desk.now)
        desk.step()
        desk.plan.drain(desk.now)
        desk.plan.relieve(desk.now)
        assert desk.step() == [("drain", 1), ("drain", 2)]
        desk.end(2)
        desk.end(1)
        assert desk.plan.code == 0


HAPPENS = ("serve", "end", "crash", "relieve", "renew", "more", "fewer", "wait")


@given(st.lists(st.tuples(st.sampled_from(HAPPENS), st.integers(0, 9))))
def test_whatever_happens_as_many_serve_in_the_end_as_are_wanted(steps: list[tuple[str, int]]) -> None:
    desk = Desk(2)
    desk.plan = Plan(2, Restarts(most=10**6, first=1.0, longest=5.0))
    for what, number in steps:
        chosen = sorted(desk.alive)[number % len(desk.alive)] if desk.alive else 0
        match what:
            case "serve" if chosen:
                desk.serve(chosen)
            case "end" if chosen and desk.plan.places[chosen].state == "draining":
                desk.end(chosen)
            case "crash" if chosen:
                desk.end(chosen, KILLED)
            case "relieve":
                desk.plan.relieve(desk.now)
            case "renew":
                desk.plan.renew(desk.now)
            case "more" | "fewer":
                desk.plan.want(max(desk.plan.wanted + (1 if what == "more" else -1), 1), desk.now)
            case _:
                desk.step(1.0)
        desk.step()
    for _ in range(60):
        desk.step(6.0)
        for number in sorted(desk.alive):
            if desk.plan.places[number].state == "draining":
                desk.end(number)
            else:
                desk.serve(number)
    assert desk.plan.count("serving") == len(desk.plan.places) == len(desk.alive) == desk.plan.wanted


def test_how_it_ended_is_said_for_people() -> None:
    assert [said(0), said(75), said(-9), said(-200)] == ["with code 0", "with code 75", "by SIGKILL", "by signal 200"]
