import asyncio

import pytest

from resilient_rpc import errors
from resilient_rpc.call import DEDUP, IDEMPOTENT, READ_ONLY, UNSAFE, Safety
from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty, ConnectionLost
from resilient_rpc.policies.outcome import health, safe_to_repeat
from tests.runtimes import Bench


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (None, True),
        (errors.ApplicationError("no such order"), True),
        (errors.InvalidParams(), True),
        (errors.MethodNotFound(), True),
        (errors.InProgress(), True),
        (errors.Overloaded(), False),
        (errors.DependencyUnavailable(), False),
        (errors.Interrupted(), False),
        (errors.Expired(), False),
        (errors.DeadlineExceeded(), False),
        (errors.Unroutable(), False),
        (errors.PublishRejected(), False),
        (errors.Draining(), None),
        (errors.NotConnected(), None),
        (errors.ConnectionLost(), None),
        (errors.BrokerBlocked(), None),
        (errors.CircuitOpen(), None),
        (errors.BulkheadFull(), None),
        (errors.RateLimited(), None),
        (errors.TooLarge(), None),
        (errors.ConfigurationError(), None),
        (asyncio.CancelledError(), None),
        (KeyboardInterrupt(), None),
        (ValueError(), None),
    ],
)
def test_what_an_error_says_about_its_target(error: BaseException | None, answered: bool | None) -> None:
    assert health(error) is answered


@pytest.mark.parametrize("safety", list(Safety))
@pytest.mark.parametrize("certainty", [NOT_EXECUTED, UNKNOWN, EXECUTED])
def test_only_what_cannot_take_effect_twice_is_repeated(runtime: Bench, safety: Safety, certainty: Certainty) -> None:
    async def look() -> bool:
        return safe_to_repeat(ConnectionLost(certainty=certainty), runtime.make(safety=safety))

    expected = certainty is NOT_EXECUTED or (certainty is UNKNOWN and safety in {READ_ONLY, IDEMPOTENT, DEDUP})
    assert runtime.run(look) is expected
    assert UNSAFE.repeatable is False


def test_an_error_of_another_kind_is_not_repeated(runtime: Bench) -> None:
    async def look() -> bool:
        return safe_to_repeat(ValueError(), runtime.make(safety=READ_ONLY))

    assert runtime.run(look) is False
