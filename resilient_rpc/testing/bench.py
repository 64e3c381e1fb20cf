"""Bench: both kinds of callers behind one face, in virtual time, so that one test holds for both."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from resilient_rpc.call import Call, Reply
from resilient_rpc.policies.settings import check_seconds
from resilient_rpc.policy import Handler, Runtime
from resilient_rpc.runtime import drive, running_runtime
from resilient_rpc.testing.clock import VirtualClock, without_errors

T = TypeVar("T")
Make = Callable[[], Coroutine[Any, Any, T]]


class Bench(ABC):
    """One kind of callers, with a clock of its own. The fixture `rpc_bench` gives a test one after the other.

    ::

        def test_a_slow_answer_is_given_up(rpc_bench: Bench) -> None:
            chain = compose([MyPolicy(limit=5)], ScriptedPeer(hang()))
            with pytest.raises(DeadlineExceeded):
                rpc_bench.call(chain, timeout=30)  # builds a Call, sends it through the chain, returns the Reply
            assert rpc_bench.passed == 5  # virtual seconds since the test began

    `name` is the colour: ``blocking`` or ``asyncio``.
    """

    name: str

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._began = clock.now()

    @property
    def passed(self) -> float:
        """Virtual seconds since the test began."""
        return self.clock.now() - self._began

    @property
    @abstractmethod
    def port(self) -> Runtime:
        """The runtime of whoever asks: for a coroutine that waits before it calls."""

    @abstractmethod
    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        """Run several callers at the same time: their results in order, or the first error.

        Each function makes a coroutine, which runs in a thread of its own or as a task of the one loop:
        ``bench.together(lambda: chain(bench.make()), ...)``. With `return_errors` errors stand in their places.
        """

    def run(self, maker: Make[T]) -> T:
        """Run one coroutine."""
        result: T = self.together(maker)[0]
        return result

    def make(self, method: str = "orders.create", *, timeout: float = 30.0, **fields: Any) -> Call:
        """A call whose time begins now; made where it is waited for."""
        now = self.clock.now()
        fields.setdefault("params", {})
        return Call(method=method, runtime=self.port, deadline=now + timeout, timeout=timeout, **fields)

    def call(self, handler: Handler, method: str = "orders.create", *, timeout: float = 30.0, **fields: Any) -> Reply:
        """Send one call through `handler`."""
        return self.run(lambda: handler(self.make(method, timeout=timeout, **fields)))

    @abstractmethod
    def advance(self, seconds: float) -> None:
        """Let time pass between calls, with all that falls due in it: background refreshes, hedges."""


class BlockingBench(Bench):
    """Each caller is a thread."""

    name = "blocking"

    @property
    def port(self) -> Runtime:
        """See `Bench`."""
        return self.clock.blocking

    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        """See `Bench`."""
        return self.clock.run(*[_driving(maker) for maker in makers], return_errors=return_errors)

    def advance(self, seconds: float) -> None:
        """See `Bench`."""
        self.clock.advance(seconds)


class AsyncioBench(Bench):
    """All callers are tasks of the one loop of `runner`; what was started on it goes on in the next call."""

    name = "asyncio"

    def __init__(self, clock: VirtualClock, runner: asyncio.Runner) -> None:
        super().__init__(clock)
        self._runner = runner

    @property
    def port(self) -> Runtime:
        """See `Bench`."""
        return running_runtime()

    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        """See `Bench`."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*[asyncio.create_task(maker()) for maker in makers], return_exceptions=True)

        results = self._runner.run(gather())
        return results if return_errors else without_errors(results)

    def advance(self, seconds: float) -> None:
        """See `Bench`."""
        check_seconds("seconds", seconds, zero=True)
        self.run(lambda: asyncio.sleep(seconds))


def _driving(maker: Make[T]) -> Callable[[], T]:
    return lambda: drive(maker())
