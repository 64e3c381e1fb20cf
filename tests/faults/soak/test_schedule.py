"""The plan of a run: the same for a seed, complete, in time."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.soak.schedule import COSTS, GAP, LANES, plan

KINDS = {kind for kinds in LANES.values() for kind in kinds}


def test_a_seed_gives_one_plan_and_another_seed_another() -> None:
    assert plan(1, 60.0) == plan(1, 60.0)
    assert plan(1, 60.0) != plan(2, 60.0)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = plan(7, 20.0), plan(7, 60.0)

    for lane, faults in short.items():
        assert long[lane][: len(faults)] == faults


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_of_half_a_minute_holds_every_kind(seed: int) -> None:
    assert {fault.kind for faults in plan(seed, 30.0).values() for fault in faults} == KINDS


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_a_lane_follow_each_other_with_gaps_and_end_in_time(seed: int) -> None:
    for lane, faults in plan(seed, 30.0).items():
        for fault in faults:
            least, most = LANES[lane][fault.kind]
            assert least <= fault.seconds <= most
            assert 0.0 <= fault.draw < 1.0
            assert fault.at + fault.seconds + COSTS.get(fault.kind, 0.0) <= 30.0
        for before, after in itertools.pairwise(faults):
            assert GAP[0] - 1e-9 <= after.at - before.at - before.seconds - COSTS.get(before.kind, 0.0) <= GAP[1] + 1e-9


def test_no_kind_comes_again_before_all_of_its_lane_have_come() -> None:
    for lane, faults in plan(3, 120.0).items():
        size = len(LANES[lane])
        rounds = [{fault.kind for fault in faults[at : at + size]} for at in range(0, len(faults) - size + 1, size)]
        assert len(rounds) > 1
        assert all(kinds == set(LANES[lane]) for kinds in rounds)
