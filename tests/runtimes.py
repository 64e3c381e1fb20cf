"""The fixture `runtime`: a test of a policy or a chain that asks for it runs in both colours, in virtual time.

::

    def test_a_slow_answer_is_given_up(runtime: Bench) -> None:
        async def slow(call: Call) -> Reply:
            await call.runtime.sleep(60)
            return Reply(result="late")

        chain = compose([MyPolicy(limit=5)], slow)
        with pytest.raises(DeadlineExceeded):
            runtime.call(chain, timeout=30)  # builds a Call, sends it through the chain, returns the Reply
        assert runtime.passed == 5  # virtual seconds since the test began

Several callers at once: `runtime.together(lambda: chain(runtime.make()), ...)`. Each function makes a coroutine, which
runs in a thread of its own or as a task of the one loop; `return_errors=True` puts errors in their places. A call that
has to wait before it begins: write an `async def` and `await runtime.port.sleep(3)` in it. `runtime.advance(seconds)`
lets time pass between calls, with what falls due in it (background refreshes, hedges). `runtime.name` is the colour.

The loop of the asyncio colour lives as long as the test; what was started on it goes on in the next `call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.policy import Handler, Runtime
from resilient_rpc.runtime import drive, running_runtime
from resilient_rpc.testing import VirtualClock

T = TypeVar("T")
Make = Callable[[], Coroutine[Any, Any, T]]


class Bench:
    """One colour, with a clock of its own."""

    name: str

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._began = clock.now()

    @property
    def passed(self) -> float:
        """Virtual seconds since the test began."""
        return self.clock.now() - self._began

    @property
    def port(self) -> Runtime:
        """The runtime of whoever asks."""
        raise NotImplementedError

    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        """Run the coroutines at the same time; their results in order, or the first error."""
        raise NotImplementedError

    def run(self, maker: Make[T]) -> T:
        """Run one coroutine."""
        result: T = self.together(maker)[0]
        return result

    def make(self, method: str = "orders.create", *, timeout: float = 30.0, **fields: Any) -> Call:
        """A call whose time begins now; where it is waited for."""
        now = self.clock.now()
        fields.setdefault("params", {})
        return Call(method=method, runtime=self.port, deadline=now + timeout, timeout=timeout, **fields)

    def call(self, handler: Handler, method: str = "orders.create", *, timeout: float = 30.0, **fields: Any) -> Reply:
        """Send one call through `handler`."""
        return self.run(lambda: handler(self.make(method, timeout=timeout, **fields)))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError


class BlockingBench(Bench):
    """Each caller is a thread."""

    name = "blocking"

    @property
    def port(self) -> Runtime:
        return self.clock.blocking

    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        return self.clock.run(*[_driving(maker) for maker in makers], return_errors=return_errors)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class AsyncioBench(Bench):
    """All callers are tasks of one loop."""

    name = "asyncio"

    def __init__(self, clock: VirtualClock, runner: asyncio.Runner) -> None:
        super().__init__(clock)
        self._runner = runner

    @property
    def port(self) -> Runtime:
        return running_runtime()

    def together(self, *makers: Make[Any], return_errors: bool = False) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*[asyncio.create_task(maker()) for maker in makers], return_exceptions=True)

        results = self._runner.run(gather())
        if not return_errors:
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return results

    def advance(self, seconds: float) -> None:
        self.run(lambda: asyncio.sleep(seconds))


def _driving(maker: Make[T]) -> Callable[[], T]:
    return lambda: drive(maker())


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """A virtual clock, closed after the test."""
    with VirtualClock() as clock:
        yield clock


@pytest.fixture(params=["blocking", "asyncio"])
def runtime(request: pytest.FixtureRequest, clock: VirtualClock) -> Iterator[Bench]:
    """Both colours, one after the other."""
    if request.param == "blocking":
        yield BlockingBench(clock)
    else:
        with asyncio.Runner(loop_factory=clock.new_loop) as runner:
            yield AsyncioBench(clock, runner)
