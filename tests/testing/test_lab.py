"""The lab that check_policy works in: what happens to its callers."""

from __future__ import annotations

import pytest

from resilient_rpc.testing import VirtualClock
from resilient_rpc.testing.lab import Broken, Lab, expect, number_of


@pytest.fixture(params=["blocking", "asyncio"])
def lab(request: pytest.FixtureRequest, virtual_clock: VirtualClock) -> Lab:
    return Lab(make=dict, clock=virtual_clock, fields={}, blocking=request.param == "blocking", crowd=2)  # type: ignore[arg-type]


def test_callers_run_at_the_same_time_and_their_results_stand_in_order(lab: Lab) -> None:
    async def one() -> int:
        await lab.port().sleep(2.0)
        return 1

    async def two() -> int:
        await lab.port().sleep(1.0)
        raise KeyError("two")

    began = lab.clock.now()
    first, second = lab.together(one, two)
    assert (first, repr(second), lab.clock.now() - began) == (1, "KeyError('two')", 2.0)


def test_the_error_of_a_lone_caller_is_raised(lab: Lab) -> None:
    async def fails() -> None:
        raise KeyError("alone")

    with pytest.raises(KeyError, match="alone"):
        lab.alone(fails)


def test_a_broken_rule_is_raised_from_anywhere(lab: Lab) -> None:
    async def breaks() -> None:
        expect(False, "seen in the middle")

    async def keeps() -> None:
        expect(True, "never seen")

    with pytest.raises(Broken, match="seen in the middle"):
        lab.together(keeps, breaks)


def test_what_ends_a_process_ends_the_check(lab: Lab) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        lab.alone(leaves)


def test_a_call_may_have_arguments_without_a_number(lab: Lab) -> None:
    assert number_of(lab.call(7)) == 7
    assert number_of(lab.call(params=["A1"])) is None
