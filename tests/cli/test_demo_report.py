"""The demo's checks find what is wrong: they are computed, not printed."""

from __future__ import annotations

import io
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from resilient_rpc.cli.demo_calls import CREATE, PAY, PRICE, Plan, kind_of
from resilient_rpc.cli.demo_load import Side
from resilient_rpc.cli.demo_report import report
from resilient_rpc.cli.demo_tally import SLACK, Failure, Tally, percentiles, together
from resilient_rpc.errors import Interrupted, Unroutable

LIMIT = 5.0


def side(tally: Tally, **counted: int) -> Side:
    """A client that counted the same as its worker, but for `counted`."""
    completed = sum(tally.results.values())
    seen = {"total": tally.begun, "completed": completed, "failed": tally.failed, "pending": 0} | counted
    client: Any = SimpleNamespace(stats=lambda: SimpleNamespace(**seen))
    return Side(name="Client", tallies=[tally], client=client)


def printed(*sides: Side) -> tuple[bool, str]:
    out = io.StringIO()
    ok = report(Console(file=out, width=100), sides)
    return ok, out.getvalue()


@pytest.fixture
def tally() -> Tally:
    """Two calls: a result and an error, both in time."""
    tally = Tally(begun=2)
    now = time.monotonic()
    tally.result(PRICE, 1, now, PRICE.result(1), LIMIT)
    tally.error(CREATE, now, Interrupted("begun\nand lost"), LIMIT)
    return tally


def test_all_is_well(tally: Tally) -> None:
    ok, text = printed(side(tally))
    assert ok
    assert "the counts add up: 2 calls = 1 results + 1 errors\n" in text
    assert re.search(r"^Interrupted +unknown +1 +begun and lost *$", text, re.MULTILINE)
    assert text.endswith("every call ended by its deadline: 2 of 2\n")


def test_without_errors_there_is_no_table_of_them() -> None:
    tally = Tally(begun=1)
    tally.result(PRICE, 3, time.monotonic(), PRICE.result(3), LIMIT)
    ok, text = printed(side(tally))
    assert ok
    assert "certainty" not in text


def test_a_call_that_ended_late_is_found(tally: Tally) -> None:
    tally.begun += 1
    tally.error(PAY, time.monotonic() - LIMIT - SLACK - 0.1, Unroutable("x"), LIMIT)
    ok, text = printed(side(tally))
    assert not ok
    assert text.endswith("every call ended by its deadline: 2 of 3\n")


def test_a_call_that_never_ended_is_found(tally: Tally) -> None:
    tally.begun += 1
    ok, text = printed(side(tally))
    assert not ok
    assert "the counts do not add up: 3 calls != 1 results + 1 errors\n" in text
    assert text.endswith("every call ended by its deadline: 2 of 3\n")


def test_another_calls_result_is_found(tally: Tally) -> None:
    tally.begun += 1
    tally.result(PRICE, 2, time.monotonic(), PRICE.result(3), LIMIT)
    ok, text = printed(side(tally))
    assert not ok
    assert "every result is its call's own: 1 of 2\n" in text


@pytest.mark.parametrize("counted", [{"total": 3}, {"completed": 0}, {"failed": 2}, {"pending": 1}])
def test_a_client_that_counted_otherwise_is_found(tally: Tally, counted: dict[str, int]) -> None:
    ok, text = printed(side(tally, **counted))
    assert not ok
    assert "the counts do not add up" in text


def test_sides_are_added(tally: Tally) -> None:
    total = together([tally, tally])
    assert (total.begun, total.ended, total.failed, total.in_time) == (4, 4, 2, 4)
    assert total.failures == {Failure("Interrupted", "unknown"): 2}


def test_a_foreign_exception_leaves_the_outcome_unknown() -> None:
    tally = Tally(begun=1)
    tally.error(PAY, time.monotonic(), KeyError("x"), LIMIT)
    assert tally.failures == {Failure("KeyError", "unknown"): 1}


def test_percentiles_of_nothing_and_of_a_hundred() -> None:
    assert percentiles([], (0.5, 0.99)) == [0.0, 0.0]
    assert percentiles(range(100, 0, -1), (0.5, 0.95, 0.99, 1.0)) == [51, 96, 100, 100]


def test_a_plan_hands_out_so_many_numbers() -> None:
    plan = Plan(4, None)
    assert plan.take() == 1
    assert not plan.halfway.is_set()
    assert [plan.take() for _ in range(4)] == [2, 3, 4, None]
    assert plan.halfway.is_set()


def test_a_plan_ends_with_its_time_or_when_it_is_stopped() -> None:
    assert Plan(None, 0.0).take() is None
    plan = Plan(None, 60.0)
    assert plan.take() == 1
    plan.stop()
    assert plan.take() is None


def test_the_mix_has_every_method() -> None:
    assert {kind_of(number).method for number in range(10)} == {"price", "create", "ship", "pay"}
