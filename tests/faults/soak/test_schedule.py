"""The plan of a run: the same for a seed, complete, in time."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.soak.schedule import COSTS, GAP, KEYED, LINKS, RESTS, Lanes, plan


@pytest.fixture(params=[KEYED, LINKS], ids=["keyed", "links"])
def lanes(request: pytest.FixtureRequest) -> Lanes:
    found: Lanes = request.param
    return found


def test_a_seed_gives_one_plan_and_another_seed_another(lanes: Lanes) -> None:
    assert plan(1, 60.0, lanes) == plan(1, 60.0, lanes)
    assert plan(1, 60.0, lanes) != plan(2, 60.0, lanes)


def test_a_longer_run_begins_as_a_shorter_one(lanes: Lanes) -> None:
    short, long = plan(7, 20.0, lanes), plan(7, 60.0, lanes)

    for lane, faults in short.items():
        assert long[lane][: len(faults)] == faults


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_of_half_a_minute_holds_every_kind(seed: int, lanes: Lanes) -> None:
    assert {fault.kind for faults in plan(seed, 30.0, lanes).values() for fault in faults} == {
        kind for kinds in lanes.values() for kind in kinds
    }


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_a_lane_follow_each_other_with_gaps_and_end_in_time(seed: int, lanes: Lanes) -> None:
    for lane, faults in plan(seed, 30.0, lanes).items():
        for fault in faults:
            least, most = lanes[lane][fault.kind]
            assert least <= fault.seconds <= most
            assert 0.0 <= fault.draw < 1.0
            assert fault.at + fault.seconds + COSTS.get(fault.kind, 0.0) <= 30.0
        for number, (before, after) in enumerate(itertools.pairwise(faults), 1):
            peace = after.at - before.at - before.seconds - COSTS.get(before.kind, 0.0)
            least, most = RESTS.get(lane, (0.0, 0.0)) if number % len(lanes[lane]) == 0 else (0.0, 0.0)
            assert least + GAP[0] - 1e-9 <= peace <= most + GAP[1] + 1e-9


def test_no_kind_comes_again_before_all_of_its_lane_have_come(lanes: Lanes) -> None:
    for lane, faults in plan(3, 120.0, lanes).items():
        size = len(lanes[lane])
        rounds = [{fault.kind for fault in faults[at : at + size]} for at in range(0, len(faults) - size + 1, size)]
        assert len(rounds) > 1
        assert all(kinds == set(lanes[lane]) for kinds in rounds)
