from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_rpc import errors
from resilient_rpc.call import DEDUP, IDEMPOTENT, READ_ONLY, UNSAFE, Call, Safety
from resilient_rpc.errors import NOT_EXECUTED, UNKNOWN, ConfigurationError
from resilient_rpc.policies.repeatable import Listed, free, refusal
from resilient_rpc.runtime import BLOCKING


def call(safety: Safety) -> Call:
    return Call(method="orders.create", params={}, runtime=BLOCKING, deadline=0.0, safety=safety)


def reason(error: Exception, safety: Safety, *, asked_for: bool = False) -> str | None:
    found = refusal(error, call(safety), asked_for=asked_for)
    return found.reason if found is not None else None


@pytest.mark.parametrize("safety", list(Safety))
@pytest.mark.parametrize(
    "error",
    [
        errors.NotConnected(),
        errors.Unroutable(),
        errors.BrokerBlocked(),
        errors.ConnectionLost(certainty=NOT_EXECUTED),
        errors.Overloaded(),
        errors.DependencyUnavailable(),
        errors.Draining(),
        errors.RateLimited(),
        errors.CircuitOpen(retry_after=1.0),
    ],
)
def test_what_was_not_executed_is_repeated_for_all(error: Exception, safety: Safety) -> None:
    assert reason(error, safety) is None


@pytest.mark.parametrize(
    "error", [errors.ConnectionLost(), errors.PublishRejected(), errors.Interrupted(), errors.InProgress()]
)
def test_what_may_have_been_executed_is_repeated_where_that_does_no_harm(error: Exception) -> None:
    assert [reason(error, safety) for safety in (READ_ONLY, IDEMPOTENT, DEDUP)] == [None] * 3
    assert reason(error, UNSAFE) == "unsafe"


@pytest.mark.parametrize("safety", list(Safety))
@pytest.mark.parametrize(
    "error",
    [
        errors.ApplicationError("sold out"),
        errors.InvalidParams(),
        errors.MethodNotFound(),
        errors.KeyReused(),
        errors.Refused(),
        errors.BulkheadFull(),
        errors.DeadlineExceeded(),
        errors.Expired(),
        errors.TooLarge(),
        errors.UsageError(),
        ValueError(),
    ],
)
def test_what_another_try_cannot_help_is_not_repeated(error: Exception, safety: Safety) -> None:
    assert reason(error, safety) == "not_retryable"


@pytest.mark.parametrize("error", [errors.ApplicationError("sold out"), ValueError(), errors.DeadlineExceeded()])
def test_what_was_asked_for_is_repeated_where_that_does_no_harm(error: Exception) -> None:
    assert [reason(error, safety, asked_for=True) for safety in (READ_ONLY, IDEMPOTENT, DEDUP)] == [None] * 3
    assert reason(error, UNSAFE, asked_for=True) == "unsafe"


def test_what_was_asked_for_and_was_not_executed_is_repeated_for_all() -> None:
    assert reason(errors.BulkheadFull(), UNSAFE, asked_for=True) is None


@pytest.mark.parametrize("asked", [-1.0, -0.001, math.nan])
def test_a_server_may_ask_for_no_further_attempt(asked: float) -> None:
    assert reason(errors.Overloaded(retry_after=asked), READ_ONLY) == "pushback"


def test_a_circuit_that_is_held_open_is_not_tried() -> None:
    assert reason(errors.CircuitOpen(), READ_ONLY) == "circuit"
    assert reason(errors.RateLimited(), READ_ONLY) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.NotConnected(), True),
        (errors.Unroutable(), True),
        (errors.BrokerBlocked(), True),
        (errors.ConnectionLost(certainty=NOT_EXECUTED), True),
        (errors.CircuitOpen(), True),
        (errors.RateLimited(), True),
        (errors.ConnectionLost(), False),
        (errors.PublishRejected(certainty=NOT_EXECUTED), False),
        (errors.PublishRejected(), False),
        (errors.Overloaded(), False),
        (errors.Draining(), False),
        (errors.DeadlineExceeded(certainty=NOT_EXECUTED), False),
        (errors.Rejected(certainty=UNKNOWN), False),
        (ValueError(), False),
    ],
)
def test_only_what_never_reached_the_target_is_free(error: Exception, expected: bool) -> None:
    assert free(error) is expected


def test_errors_are_listed_by_class_and_by_name() -> None:
    class OutOfStock(errors.ApplicationError):
        type = "out_of_stock"

    listed = Listed("X.retry_on", [OSError, errors.Expired, "busy"])
    assert ConnectionResetError() in listed
    assert errors.Expired() in listed
    assert errors.ApplicationError(type="busy") in listed
    assert errors.RemoteError(type="busy") in listed
    assert errors.ApplicationError(type="other") not in listed
    assert OutOfStock() not in listed
    assert OutOfStock() in Listed("X.retry_on", {"out_of_stock"})
    assert errors.ApplicationError() not in Listed("X.retry_on", ())


@pytest.mark.parametrize(
    "wrong",
    ["busy", None, 3, OSError, [3], [""], [OSError()], [KeyboardInterrupt], [BaseException], [int], [None]],
)
def test_a_wrong_list_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"X\.retry_on") as info:
        Listed("X.retry_on", wrong)
    assert repr(wrong[0] if isinstance(wrong, list) else wrong) in str(info.value)
