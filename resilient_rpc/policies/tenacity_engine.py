"""tenacity's strategies as an engine: asked after a failure, with a state of the call's own, in the runtime's time.

Nothing of tenacity runs a call. Its `Retrying.iter` and `AsyncRetrying` keep the state of a call in the shared object,
by thread: tasks of one loop overwrite each other's. Here each call has its own `RetryCallState`, made when its first
attempt has failed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import tenacity
from tenacity import asyncio as tenacity_asyncio

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.runtime import AsyncioRuntime

if TYPE_CHECKING:
    from resilient_rpc.call import Call

Strategy = Callable[[tenacity.RetryCallState], Any]
ABOUT_RESULTS = (tenacity.retry_if_result, tenacity.retry_if_not_result, tenacity_asyncio.retry_if_result)


class Engine:
    """The strategies of one policy; holds nothing of any call. Each may be a coroutine function."""

    __slots__ = ("holder", "retry", "stop", "wait")

    def __init__(self, *, retry: Strategy | None, wait: Strategy | None, stop: Strategy | None) -> None:
        if isinstance(retry, ABOUT_RESULTS):
            raise ConfigurationError(
                f"Retry.retry={retry!r} judges results, and a call with a reply is not repeated; "
                "let the method raise an ApplicationError"
            )
        self.retry, self.wait, self.stop = retry, wait, stop
        given: dict[str, Any] = {"retry": retry, "wait": wait, "stop": stop}
        self.holder = tenacity.Retrying(**{name: item for name, item in given.items() if item is not None})
        """What strategies see as `retry_object`; never run."""


class Consultation:
    """The strategies' view of one call. `args` of the state is the call."""

    __slots__ = ("_call", "_engine", "_state")

    def __init__(self, engine: Engine, call: Call, began: float) -> None:
        self._engine, self._call = engine, call
        self._state = tenacity.RetryCallState(engine.holder, None, (call,), {})
        self._state.start_time = began

    def failed(self, error: Exception, now: float) -> None:
        """An attempt ended in `error`, at `now` on the clock of `began`."""
        state = self._state
        if state.outcome is not None:
            state.prepare_for_next_attempt()
        outcome = tenacity.Future(state.attempt_number)
        outcome.set_exception(error)
        state.outcome, state.outcome_timestamp = outcome, now

    async def wants(self) -> bool | None:
        """Whether this error shall be repeated; None: no strategy says."""
        return None if self._engine.retry is None else bool(await self._ask(self._engine.retry))

    async def wait(self) -> float | None:
        """Seconds before the next attempt; None: no strategy says."""
        if self._engine.wait is None:
            return None
        seconds = float(await self._ask(self._engine.wait))
        if not seconds >= 0:
            raise ValueError(f"a wait of {seconds} seconds")
        return seconds

    async def stops(self, delay: float) -> bool | None:
        """Whether there shall be no further attempt after a wait of `delay`; None: no strategy says."""
        state = self._state
        state.upcoming_sleep = delay
        stop = self._engine.stop is not None and bool(await self._ask(self._engine.stop))
        state.idle_for += 0.0 if stop else delay
        return None if self._engine.stop is None else stop

    def clear(self) -> None:
        """Forget the error: its traceback holds the frames that hold this."""
        self._state.outcome = None

    async def _ask(self, strategy: Strategy) -> Any:
        answer = strategy(self._state)
        if not inspect.isawaitable(answer):
            return answer
        runtime = self._call.runtime
        if not isinstance(runtime, AsyncioRuntime):
            return await answer
        thinking = runtime.start(lambda _: _settled(answer))  # a task of its own can be given up
        try:
            if await runtime.wait([thinking], max(self._call.remaining(), 0.0)) is None:
                raise TimeoutError("no answer by the deadline of the call")
            return thinking.result()
        finally:
            thinking.cancel()


async def _settled(answer: Awaitable[Any]) -> Any:
    return await answer
