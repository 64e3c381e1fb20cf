from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_rpc.call import IDEMPOTENT, UNSAFE, Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import ConfigurationError, DeadlineExceeded, Expired, RemoteError, RpcError
from resilient_rpc.policies import AttemptTimeout
from tests.runtimes import Bench


def ends(after: float, error: RpcError | None = None) -> Any:
    """A handler that ends after so many seconds, or earlier by its deadline."""

    async def handler(call: Call) -> Reply:
        allowed = call.remaining()
        await call.runtime.sleep(min(after, allowed))
        if after >= allowed:
            raise DeadlineExceeded("no reply", stage="reply")
        if error is not None:
            raise error
        return Reply(result=allowed)

    return handler


def test_an_attempt_in_time_is_left_alone(runtime: Bench) -> None:
    assert runtime.call(compose([AttemptTimeout(limit=5)], ends(4))).result == 5
    assert runtime.passed == 4


def test_an_attempt_that_is_too_slow_may_be_repeated(runtime: Bench) -> None:
    with pytest.raises(DeadlineExceeded, match="no reply") as info:
        runtime.call(compose([AttemptTimeout(limit=5)], ends(60)), timeout=30)
    assert runtime.passed == 5
    assert info.value.retryable
    assert info.value.stage == "reply"
    assert not DeadlineExceeded.retryable


@pytest.mark.parametrize("timeout", [5.0, 3.0])
def test_the_end_of_the_calls_own_time_may_not(runtime: Bench, timeout: float) -> None:
    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(compose([AttemptTimeout(limit=5)], ends(60)), timeout=timeout)
    assert runtime.passed == timeout
    assert not info.value.retryable


def test_nor_when_the_attempt_took_longer_than_the_call_had(runtime: Bench) -> None:
    async def overdue(call: Call) -> Reply:
        await call.runtime.sleep(40)
        error = DeadlineExceeded("much too late")
        error.retryable = True  # of an attempt further inside
        raise error

    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(compose([AttemptTimeout(limit=5)], overdue), timeout=30)
    assert not info.value.retryable


def test_an_attempt_that_the_server_found_too_late_may_be_repeated(runtime: Bench) -> None:
    with pytest.raises(Expired) as info:
        runtime.call(compose([AttemptTimeout(limit=5)], ends(2, Expired("too late"))), timeout=30)
    assert info.value.retryable


def test_other_errors_pass_unchanged(runtime: Bench) -> None:
    with pytest.raises(RemoteError, match="no") as info:
        runtime.call(compose([AttemptTimeout(limit=5)], ends(2, RemoteError("no"))), timeout=30)
    assert not info.value.retryable


def test_the_limit_begins_with_each_attempt(runtime: Bench) -> None:
    attempts: list[tuple[float, bool]] = []

    async def thrice(call: Call, proceed: Any, /) -> Reply:
        for _ in range(2):
            try:
                return await proceed(call)
            except DeadlineExceeded as error:
                attempts.append((runtime.passed, error.retryable))
        return await proceed(call)

    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(compose([thrice, AttemptTimeout(limit=4)], ends(60)), timeout=10)
    assert attempts == [(4, True), (8, True)]
    assert runtime.passed == 10
    assert not info.value.retryable


def test_the_default_is_ten_seconds() -> None:
    assert AttemptTimeout().limit == 10.0


@pytest.mark.parametrize("limit", [0, -0.5, math.nan, math.inf, False, "x", None])
def test_a_wrong_limit_is_refused_by_name(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"AttemptTimeout\.limit") as info:
        AttemptTimeout(limit=limit)
    assert repr(limit) in str(info.value)


def test_an_unsafe_call_may_keep_all_of_its_time(runtime: Bench) -> None:
    chain = compose([AttemptTimeout(limit=5, repeatable_only=True)], ends(20))
    assert runtime.call(chain, timeout=30, safety=UNSAFE).result == 30
    with pytest.raises(DeadlineExceeded):
        runtime.call(chain, timeout=30, safety=IDEMPOTENT)
    assert runtime.passed == 25
    with pytest.raises(DeadlineExceeded):
        runtime.call(compose([AttemptTimeout(limit=5)], ends(20)), timeout=30, safety=UNSAFE)
    assert runtime.passed == 30
