from __future__ import annotations

import inspect
import re
import traceback

import pytest

from resilient_rpc import errors
from resilient_rpc.errors import CODES, Certainty, DeadlineExceeded, RemoteError, RpcError, code_of, fresh

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, RpcError) and value.__module__ == errors.__name__
}


def _drawn() -> dict[str, str]:
    """Each class of the tree in the docstring, and the class it is drawn under."""
    parents: dict[str, str] = {"RpcError": ""}
    above = {0: "RpcError"}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]  )*)[├└]─ (.*)", line)
        if match is None:
            continue
        depth = len(match[1]) // 3
        names = re.findall(r"(?:^|, )([A-Z]\w+)(?=,|\s\s|$)", match[2])
        assert names, line
        for name in names:
            parents[name] = above[depth]
        above[depth + 1] = names[-1]
    return parents


def _real() -> dict[str, str]:
    return {
        name: "" if kind is RpcError else next(base.__name__ for base in kind.__bases__ if issubclass(base, RpcError))
        for name, kind in CLASSES.items()
    }


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert _drawn() == _real()


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_error_takes_a_message_and_says_what_it_knows(kind: type[RpcError]) -> None:
    error = kind("why")
    assert str(error) == "why"
    assert error.certainty in Certainty
    assert isinstance(error.retryable, bool)
    assert error.retry_after is None
    assert error.attempts == 1
    assert isinstance(kind.counted, bool)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES.values())
def test_what_is_given_is_of_one_error_alone(kind: type[RpcError]) -> None:
    error = kind("why", certainty=Certainty.EXECUTED)
    error.retryable = not kind.retryable
    assert error.certainty is Certainty.EXECUTED
    assert kind("other").retryable is not error.retryable


def test_those_that_are_builtin_errors_too() -> None:
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(errors.UsageError, RuntimeError)
    assert issubclass(errors.ConfigurationError, ValueError)


def test_a_local_refusal_has_not_been_executed_and_is_no_failure_of_the_target() -> None:
    for kind in (
        errors.CircuitOpen,
        errors.BulkheadFull,
        errors.RateLimited,
        errors.NotConnected,
        errors.BrokerBlocked,
    ):
        assert kind.certainty is Certainty.NOT_EXECUTED
        assert not kind.counted


def test_the_codes_are_those_of_the_classes() -> None:
    for code, row in CODES.items():
        if issubclass(row.error, RemoteError) and row.name != "internal_error":
            assert row.error.code == code, row
    remote = {kind for kind in CLASSES.values() if issubclass(kind, RemoteError)}
    assert remote <= {row.error for row in CODES.values()}
    names = [row.name for row in CODES.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_a_code_has_that_code(code: int) -> None:
    row = CODES[code]
    if row.name not in {"internal_error", "invalid_request"}:  # these share their class with another code
        assert code_of(row.error("x")) == code


def test_an_error_without_a_code_is_an_internal_error() -> None:
    assert code_of(DeadlineExceeded("x")) == errors.INTERNAL_ERROR


def test_a_given_code_wins() -> None:
    error = RemoteError("x", code=-1, type="odd")
    assert (code_of(error), error.type, error.message) == (-1, "odd", "x")


class Choosy(RpcError):
    def __init__(self, *, needed: int) -> None:
        super().__init__(f"needs {needed}")


class Changeling(RpcError):
    def __copy__(self) -> int:
        return 1


@pytest.mark.parametrize("kind", CLASSES.values())
def test_a_fresh_copy_says_the_same(kind: type[RpcError]) -> None:
    error = kind("why", certainty=Certainty.EXECUTED)
    error.attempts, error.retry_after, error.__cause__ = 3, 1.5, OSError()
    error.add_note("a note")
    twin = fresh(error)
    assert twin is not error
    assert type(twin) is kind
    assert isinstance(twin, RpcError)
    assert twin.args == error.args
    assert vars(twin) == vars(error)
    assert twin.__cause__ is error.__cause__


def test_a_fresh_copy_keeps_what_is_special() -> None:
    late = fresh(DeadlineExceeded("late", stage="queue"))
    assert isinstance(late, DeadlineExceeded)
    assert late.stage == "queue"


def test_a_fresh_copy_has_no_traceback_and_leaves_the_other_alone() -> None:
    error = RpcError("why")
    try:
        raise error
    except RpcError:
        twin = fresh(error)
    assert twin.__traceback__ is None
    assert twin.__context__ is None
    assert traceback.extract_tb(error.__traceback__)


@pytest.mark.parametrize("error", [Choosy(needed=1), Changeling("x")])
def test_what_cannot_be_copied_is_returned_itself(error: RpcError) -> None:
    assert fresh(error) is error
