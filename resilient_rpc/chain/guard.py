"""A policy that is not the library's own, kept from harm: what it raises, returns, awaits, and how long it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain.binding import step_of
from resilient_rpc.chain.faults import Blame, hung, returned, shown
from resilient_rpc.chain.visit import PATIENCE, LoopVisit, ThreadVisit, Visit
from resilient_rpc.chain.watch import Watch
from resilient_rpc.errors import UNKNOWN, Rejected, RpcError
from resilient_rpc.events import PolicyFaulted
from resilient_rpc.runtime import AsyncioRuntime, BlockingRuntime, PolicySuspended, drive

if TYPE_CHECKING:
    from resilient_rpc.policy import Handler, Policy

TRUSTED = "resilient_rpc.policies."
"""Where the policies live that need no guard, because the library's own tests prove them."""


def is_trusted(policy: Policy) -> bool:
    """Whether it is one of the library's own."""
    module = policy.__module__ if hasattr(policy, "__code__") else type(policy).__module__
    return module.startswith(TRUSTED)


class Guard:
    """A policy around `proceed`, contained. `handler` is the way in.

    The policy may stay until `GRACE` after the deadline of the call as it reached it. Then it is cancelled: in a loop
    its task is, and in a thread its `sleep`, `wait` or `proceed` raises CancelledError. It cannot be ended while it
    holds the thread or the loop itself, nor when it swallows the cancellation.
    """

    def __init__(self, policy: Policy, proceed: Handler, blame: Blame) -> None:
        self._policy, self._step, self._proceed, self._blame = policy, step_of(policy), proceed, blame
        self._watches: dict[asyncio.AbstractEventLoop, Watch] = {}
        self._ends: dict[CodeType, float] = {blame.terminal_code: PATIENCE, Guard._in_loop.__code__: 2 * PATIENCE}

    def handler(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Pass a call through the policy."""
        runtime = call.runtime
        if isinstance(runtime, BlockingRuntime):
            return self._in_thread(call)
        if isinstance(runtime, AsyncioRuntime):
            return self._in_loop(call, runtime.loop)
        return self._elsewhere(call)

    async def _in_thread(self, call: Call) -> Reply:
        visit = ThreadVisit(call, self._proceed)
        try:
            reply = drive(_coroutine(self._step(call.on(visit), visit.proceed)))
        except Exception as error:
            self._fail(error, visit)
        except asyncio.CancelledError:
            if visit.where:
                raise hung(call, self._policy, visit.where, carried=visit.carried) from None
            raise
        return reply if type(reply) is Reply else self._checked(reply, visit)

    async def _in_loop(self, call: Call, loop: asyncio.AbstractEventLoop) -> Reply:
        task = asyncio.current_task(loop)
        if task is None:
            return await self._elsewhere(call)
        visit = LoopVisit(call, self._proceed, task, self._ends)
        watch = self._watches.get(loop) or self._watches.setdefault(loop, Watch(loop, visit.now))
        watch.enter(visit)
        try:
            visit.running = running = _coroutine(self._step(call, visit.proceed))
            reply = await running
        except BaseException as error:
            if visit.leave(watch) and isinstance(error, asyncio.CancelledError):
                raise hung(call, self._policy, visit.where, carried=visit.carried) from None
            if isinstance(error, Exception):
                self._fail(error, visit)
            raise
        visit.leave(watch)
        return reply if type(reply) is Reply else self._checked(reply, visit)

    async def _elsewhere(self, call: Call) -> Reply:
        """On a runtime that is nobody's: there, nothing is known that could end it."""
        visit = Visit(call, self._proceed)
        try:
            reply = await _coroutine(self._step(call, visit.proceed))
        except Exception as error:
            self._fail(error, visit)
        return reply if type(reply) is Reply else self._checked(reply, visit)

    def _fail(self, error: Exception, visit: Visit) -> NoReturn:
        if isinstance(error, PolicySuspended) and not error.policy:
            error.policy = shown(self._policy)
            error.certainty = visit.certainty or UNKNOWN
            visit.call.announce(PolicyFaulted, error.policy, reason="suspended", error=error)
        if isinstance(error, Rejected) and not error.policy and self._blame.culprit(error) is self._policy:
            error.policy = shown(self._policy)
        if isinstance(error, RpcError):
            raise error
        failed = self._blame.failed(visit.call, error, visit.certainty, self._policy)
        if failed is error:
            raise error
        raise failed from error

    def _checked(self, reply: object, visit: Visit) -> Reply:
        if isinstance(reply, Reply):
            return reply
        raise returned(visit.call, self._policy, reply, visit.certainty)


def _coroutine(running: Any) -> Coroutine[Any, Any, Any]:
    return running if type(running) is CoroutineType else _settled(running)


async def _settled(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value
