from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import ConfigurationError, DeadlineExceeded
from resilient_rpc.policies import AttemptTimeout, Deadline
from tests.runtimes import Bench


async def patient(call: Call) -> Reply:
    """Takes a minute, unless the deadline is nearer."""
    await call.runtime.sleep(min(60, call.remaining()))
    if call.remaining() <= 0:
        raise DeadlineExceeded("time is up")
    return Reply(result="done")


async def remaining(call: Call) -> Reply:
    return Reply(result=call.remaining())


@pytest.mark.parametrize(("asked", "expected"), [(30.0, 5.0), (5.0, 5.0), (2.0, 2.0), (0.0, 0.0), (-1.0, -1.0)])
def test_the_nearer_deadline_counts(runtime: Bench, asked: float, expected: float) -> None:
    assert runtime.call(compose([Deadline(limit=5)], remaining), timeout=asked).result == expected


def test_what_waits_inside_ends_by_the_cap(runtime: Bench) -> None:
    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(compose([Deadline(limit=5)], patient), timeout=120)
    assert runtime.passed == 5
    assert not info.value.retryable


def test_a_call_that_needs_less_is_left_alone(runtime: Bench) -> None:
    assert runtime.call(compose([Deadline(limit=90)], patient), timeout=120).result == "done"
    assert runtime.passed == 60


def test_attempts_share_the_cap(runtime: Bench) -> None:
    async def thrice(call: Call, proceed: Any, /) -> Reply:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await proceed(call)
        return await proceed(call)

    chain = Chain([Deadline(limit=5), thrice, AttemptTimeout(limit=2)], patient)
    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(chain.handler, timeout=120)
    assert runtime.passed == 5
    assert not info.value.retryable


def test_everything_else_of_the_call_passes_unchanged(runtime: Bench) -> None:
    async def look(call: Call) -> Reply:
        return Reply(result=(call.method, call.params, call.key, call.timeout, call.attempt))

    reply = runtime.call(compose([Deadline(limit=5)], look), "a.b", params=[1], key="k", attempt=2)
    assert reply.result == ("a.b", [1], "k", 30.0, 2)


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, True, "5", None])
def test_a_wrong_limit_is_refused_by_name(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Deadline\.limit") as info:
        Deadline(limit=limit)
    assert repr(limit) in str(info.value)
    assert isinstance(info.value, ValueError)


def test_cannot_be_changed_and_is_not_its_twin() -> None:
    deadline = Deadline(limit=5)
    with pytest.raises(AttributeError):
        deadline.limit = 6  # type: ignore[misc]
    assert deadline != Deadline(limit=5)
    assert len({deadline, Deadline(limit=5)}) == 2
