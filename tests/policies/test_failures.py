from __future__ import annotations

import pytest

from resilient_rpc import errors
from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty
from resilient_rpc.policies.failures import KEPT, Failures


def outcome(*failed: Exception) -> Exception:
    failures = Failures()
    for error in failed:
        failures.add(error)
    assert failures.last is failed[-1]
    return failures.outcome(len(failed))


def test_the_last_error_comes_out_with_those_before_it() -> None:
    first, second, third = errors.ConnectionLost("1"), errors.Overloaded("2"), errors.NotConnected("3")
    error = outcome(first, second, third)
    assert error is third
    assert (third.attempts, third.history) == (3, (first, second))
    assert third.__cause__ is None


def test_an_error_that_stays_alone_says_what_it_said() -> None:
    error = errors.ApplicationError("sold out", certainty=EXECUTED)
    assert outcome(error) is error
    assert (error.attempts, error.history, error.certainty) == (1, (), EXECUTED)


def test_a_refusal_of_a_policy_does_not_mask_what_the_target_did() -> None:
    lost, refused, again = errors.ConnectionLost(), errors.CircuitOpen(), errors.RateLimited()
    assert outcome(lost, refused, again) is lost
    assert (lost.attempts, lost.history) == (3, (refused, again))


def test_where_there_were_only_refusals_the_last_one_comes_out() -> None:
    first, last = errors.CircuitOpen(), errors.RateLimited()
    assert outcome(first, last) is last
    assert last.history == (first,)


@pytest.mark.parametrize(
    ("certainties", "expected"),
    [
        ([NOT_EXECUTED, NOT_EXECUTED], NOT_EXECUTED),
        ([UNKNOWN, NOT_EXECUTED], UNKNOWN),
        ([NOT_EXECUTED, UNKNOWN, NOT_EXECUTED], UNKNOWN),
        ([EXECUTED, UNKNOWN, NOT_EXECUTED], EXECUTED),
        ([UNKNOWN, EXECUTED], EXECUTED),
    ],
)
def test_the_call_was_executed_if_any_attempt_was(certainties: list[Certainty], expected: Certainty) -> None:
    error = outcome(*[errors.ConnectionLost(certainty=certainty) for certainty in certainties])
    assert isinstance(error, errors.RpcError)
    assert error.certainty is expected


def test_nobody_knows_what_an_error_of_another_kind_means() -> None:
    last = errors.NotConnected()
    outcome(OSError(), last)
    assert last.certainty is UNKNOWN


def test_an_error_of_another_kind_comes_out_untouched() -> None:
    error = ValueError("a bug")
    assert outcome(errors.ConnectionLost(), error) is error
    assert vars(error) == {}


def test_a_deadline_says_what_took_the_time() -> None:
    lost, late = errors.ConnectionLost(), errors.DeadlineExceeded()
    outcome(lost, late)
    assert late.__cause__ is lost
    alone = errors.DeadlineExceeded()
    outcome(alone)
    assert alone.__cause__ is None


def test_a_deadline_keeps_the_cause_that_it_has() -> None:
    own, late = OSError(), errors.DeadlineExceeded()
    late.__cause__ = own
    outcome(errors.ConnectionLost(), late)
    assert late.__cause__ is own


def test_one_object_raised_twice_is_not_its_own_history() -> None:
    error = errors.ConnectionLost()
    outcome(error, error)
    assert (error.attempts, error.history) == (2, ())


def test_the_history_is_bounded() -> None:
    failed = [errors.ConnectionLost(str(number)) for number in range(100)]
    error = outcome(*failed)
    assert isinstance(error, errors.ConnectionLost)
    assert error.attempts == 100
    assert error.history == tuple(failed[-KEPT - 1 : -1])


def test_nothing_is_held_after_clear() -> None:
    failures = Failures()
    failures.add(errors.ConnectionLost())
    failures.clear()
    assert (list(failures._errors), failures._real) == ([], None)
