"""ScriptedPeer: the other side of a call, which does what a test says."""

from __future__ import annotations

import math
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import msgspec

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import UNKNOWN, ConfigurationError, ConnectionLost, DeadlineExceeded, fresh
from resilient_rpc.policies.settings import check_seconds


@dataclass(frozen=True)
class Step:
    """What the peer does with one call; made by `answer`, `fail`, `hang` and `drop`."""

    outcome: Any
    """A result, a function from the call to a result, a `Reply`, or the error to raise."""
    after: float = 0.0
    """Seconds before it; `math.inf`: never."""

    def __post_init__(self) -> None:
        check_seconds("after", self.after, zero=True, endless=True)

    async def play(self, call: Call) -> Reply:
        """Do it, at the call's deadline at the latest, as everything that carries a call out ends."""
        if self.after > 0:
            remaining = call.remaining()
            await call.runtime.sleep(max(min(self.after, remaining), 0.0))
            if self.after >= remaining:
                raise DeadlineExceeded("the scripted peer did not answer in time", stage="reply", certainty=UNKNOWN)
        outcome = self.outcome(call) if callable(self.outcome) else self.outcome
        if isinstance(outcome, BaseException):
            raise fresh(outcome)  # policies write on errors, and this one may be raised again
        if isinstance(outcome, Reply):
            return msgspec.structs.replace(outcome)
        return Reply(result=outcome, attempts=call.attempt)


def answer(result: Any = None, *, after: float = 0.0) -> Step:
    """Answer with `result` (a value, a function from the call to one, or a whole `Reply`), `after` so many seconds."""
    return Step(result, after)


def fail(error: BaseException, *, after: float = 0.0) -> Step:
    """Fail with a copy of `error`, `after` so many seconds."""
    if not isinstance(error, BaseException):
        raise ConfigurationError(f"fail() takes an error, not {error!r}")
    return Step(error, after)


def hang() -> Step:
    """Never answer: the call ends at its deadline, with `DeadlineExceeded`."""
    return Step(None, math.inf)


def drop(*, after: float = 0.0) -> Step:
    """Lose the connection while the call is under way: `ConnectionLost`, and nobody knows whether it was executed."""
    return Step(ConnectionLost("the scripted peer dropped the connection"), after)


class ScriptedPeer:
    """Does one step of its script for each call, and the last one for all that follow.

    A handler for tests of policies and chains, in virtual time or not, and with `serving` a service for tests of
    clients. Any number of threads and loops may call it::

        peer = ScriptedPeer(NotConnected("nobody there"), drop(), answer({"price": 9.5}, after=0.2))
        assert bench.call(compose([Retry()], peer)).result == {"price": 9.5}
        assert [call.attempt for call in peer.calls] == [1, 2, 3]

    Args:
        steps: What `answer`, `fail`, `hang` and `drop` make; an error stands for `fail`, any other value for `answer`.
            None at all: it answers None.
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = tuple(_step(step) for step in steps or (None,))
        self.calls: list[Call] = []
        """Those that came, in order."""
        self._lock = threading.Lock()

    async def __call__(self, call: Call) -> Reply:
        """Handle one call."""
        return await self.next_step(call).play(call)

    def next_step(self, call: Call) -> Step:
        """Note a call, and what is to be done with it."""
        with self._lock:
            step = self.steps[min(len(self.calls), len(self.steps) - 1)]
            self.calls.append(call)
        return step

    def serving(self, url: str, *methods: str) -> AbstractContextManager[ScriptedPeer]:
        """Serve these methods (``orders.price``) at a ``memory://`` URL, for tests of a client; in real time.

        Only what crosses the wire can be scripted: results, `RemoteError` and its subclasses, `hang` and `drop`, which
        breaks the connections of all clients of the URL.
        """
        from resilient_rpc.testing.service import serving  # noqa: PLC0415 - a test of a policy needs no server

        return serving(self, url, methods)


def _step(value: Any) -> Step:
    return value if isinstance(value, Step) else Step(value)
