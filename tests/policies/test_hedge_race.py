"""How a race is judged, without a loop: attempts end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.errors import (
    EXECUTED,
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    Certainty,
    CircuitOpen,
    ConnectionLost,
    InProgress,
    InvalidParams,
    NotConnected,
)
from resilient_rpc.pending import Pending, Started
from resilient_rpc.policies.hedge_race import Race


class Still:
    """A runtime that starts nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.started: list[Started[Any]] = []

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a race never waits")

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        raise AssertionError("a race never waits")

    def start(self, work: Any) -> Started[Any]:
        started: Started[Any] = Started(self._loop)
        self.started.append(started)
        return started


async def _never(_: Call) -> Reply:
    raise AssertionError("nothing is started")


def race(*outcomes: Any) -> Race:
    """One with so many attempts, which have ended so; None: it still runs."""
    loop = asyncio.new_event_loop()
    loop.close()
    runtime = Still(loop)
    call = Call(method="orders.price", params={}, runtime=runtime, deadline=1.0, safety=Safety.READ_ONLY)
    made = Race(call, _never)
    for outcome in outcomes:
        made.start()
        if isinstance(outcome, BaseException):
            runtime.started[-1].fail(outcome)
        elif outcome is not None:
            runtime.started[-1].set(Reply(result=outcome))
    return made


def test_a_success_counts_before_an_error_that_came_at_the_same_moment() -> None:
    both = race(ApplicationError("no"), "yes")
    winner = both.take()
    assert winner is not None
    assert (winner[0], winner[1].result) == (1, "yes")


def test_of_two_successes_the_attempt_that_was_begun_first_counts() -> None:
    winner = race("first", "second").take()
    assert winner is not None
    assert winner[1].result == "first"


def test_nothing_is_taken_while_all_run() -> None:
    running = race(None, None)
    assert running.take() is None
    assert len(running.running) == 2
    assert not running.answered()
    assert running.may_repeat()
    assert not running.pushed_back()


@pytest.mark.parametrize(
    ("outcomes", "answered", "may_repeat", "pushed_back"),
    [
        ([NotConnected("")], False, True, False),
        ([ApplicationError("")], True, False, False),
        ([CircuitOpen("", retry_after=1.0)], False, True, True),
        ([InProgress("", retry_after=1.0), None], False, True, True),
        ([NotConnected(""), KeyError("")], False, False, False),
    ],
)
def test_what_the_errors_say(outcomes: list[Any], answered: bool, may_repeat: bool, pushed_back: bool) -> None:
    ended = race(*outcomes)
    assert ended.take() is None
    assert (ended.answered(), ended.may_repeat(), ended.pushed_back()) == (answered, may_repeat, pushed_back)


@pytest.mark.parametrize(
    ("outcomes", "kind", "certainty"),
    [
        ([NotConnected("")], NotConnected, NOT_EXECUTED),
        ([NotConnected(""), None], NotConnected, UNKNOWN),
        ([CircuitOpen(""), NotConnected("")], NotConnected, NOT_EXECUTED),
        ([NotConnected(""), ConnectionLost("")], ConnectionLost, UNKNOWN),
        ([InProgress(""), ConnectionLost("")], InProgress, UNKNOWN),
        ([ConnectionLost(""), InvalidParams("")], InvalidParams, UNKNOWN),
        ([ConnectionLost(""), ApplicationError(""), None], ApplicationError, EXECUTED),
        ([asyncio.CancelledError()], ConnectionLost, UNKNOWN),
    ],
)
def test_the_verdict_is_the_error_that_says_most(
    outcomes: list[Any], kind: type[Exception], certainty: Certainty
) -> None:
    ended = race(*outcomes)
    ended.take()
    verdict = ended.verdict()
    assert type(verdict) is kind
    assert (verdict.certainty, verdict.attempts) == (certainty, len(outcomes))


def test_an_error_of_another_kind_is_left_as_it_is() -> None:
    ended = race(KeyError("bug"))
    ended.take()
    assert vars(ended.verdict()) == {}
