"""AsyncClient: the face of the core for asyncio; that for threads is `Client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from typing import Any, Self, Unpack

from resilient_rpc import asking
from resilient_rpc.asking import Params, RawProperties, as_cast, check_raw
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.caller import Caller
from resilient_rpc.errors import UsageError
from resilient_rpc.face import Face
from resilient_rpc.futures import tell
from resilient_rpc.keywords import SENT, How, Sent, Settings, Told, check_how
from resilient_rpc.mapping import map_calls
from resilient_rpc.runtime import AsyncioRuntime, running_runtime


class AsyncClient(Face):
    """Calls from asyncio, with the settings of `Client`. Everything runs on the loop that uses it first."""

    _awaits = True

    def __init__(self, url: str, **settings: Unpack[Settings]) -> None:
        super().__init__(url, **settings)
        self._binding: tuple[AsyncioRuntime, Caller] | None = None
        self._thread = 0

    def after_fork(self) -> None:
        """See `Face`."""
        super().after_fork()
        self._binding = None

    async def __aenter__(self) -> Self:
        _, caller = self._bound()
        if caller.pool is not None:
            caller.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, method: str, params: Params = None, **how: Unpack[How]) -> Any:
        """See `Client.call`."""
        # `Caller.request` written out: one more coroutine around every call costs as much as a policy.
        runtime, caller = self._bound()
        call = caller.build(runtime, method, params, **check_how(how)) if how else caller.build(runtime, method, params)
        stats, chain, begin = caller.stats, caller.chain, time.perf_counter()
        stats.begin()
        try:
            reply = await chain.handler(call)
        except BaseException as error:
            failed = caller.failed(chain, call, time.perf_counter() - begin, error)
            if failed is error:
                raise
            raise failed from error
        caller.ended(call, time.perf_counter() - begin, reply, None)
        return reply.result

    async def request(self, method: str, params: Params = None, **how: Unpack[How]) -> Reply:
        """See `Client.request`."""
        runtime, caller = self._bound()
        return await caller.request(caller.build(runtime, method, params, **check_how(how)))

    def prepare(self, method: str, params: Params = None, **how: Unpack[How]) -> Call:
        """See `Client.prepare`."""
        runtime, caller = self._bound()
        return caller.build(runtime, method, params, **check_how(how))

    def submit(
        self,
        method: str,
        params: Params = None,
        *,
        on_success: Callable[[Any], object] | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        on_timeout: Callable[[BaseException], object] | None = None,
        **how: Unpack[How],
    ) -> asyncio.Task[Any]:
        """As `call`, as a task of the running loop, on which the callbacks run: see `Client.submit`."""
        task = asyncio.get_running_loop().create_task(self.call(method, params, **how))
        tell(task, on_success, on_error, on_timeout)
        return task

    async def map(
        self,
        method: str,
        params: Iterable[Params],
        *,
        return_errors: bool = False,
        window: int = 1024,
        **how: Unpack[How],
    ) -> list[Any]:
        """See `Client.map`."""
        runtime, caller = self._bound()
        options = check_how(how)
        return await map_calls(caller, runtime, method, params, options, window=window, return_errors=return_errors)

    async def cast(self, method: str, params: Params = None, *, ttl: float | None = None, **how: Unpack[Sent]) -> None:
        """See `Client.cast`."""
        runtime, caller = self._bound()
        call = as_cast(caller.build(runtime, method, params, **check_how(how, SENT)), ttl)
        await caller.request(call, caller.posting.casts)

    async def publish(
        self, event: str, params: Params = None, *, ttl: float | None = None, **how: Unpack[Told]
    ) -> bool:
        """See `Client.publish`."""
        runtime, caller = self._bound()
        return await asking.publish(caller, runtime, event, params, ttl, how)

    async def broadcast(
        self,
        method: str,
        params: Params = None,
        *,
        timeout: float = 1.0,
        expect: int | None = None,
        returns: Any = None,
        tags: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> list[tuple[str, Any]]:
        """See `Client.broadcast`."""
        runtime, caller = self._bound()
        how: Any = {"timeout": timeout, "returns": returns, "tags": tags, "detached": detached}
        return await asking.broadcast(caller, runtime, method, params, expect, how)

    async def call_raw(
        self,
        queue: str,
        body: bytes,
        *,
        timeout: float | None = None,
        safety: Safety | str | None = None,
        **properties: Unpack[RawProperties],
    ) -> bytes:
        """See `Client.call_raw`."""
        check_raw(queue, body, properties)
        runtime, caller = self._bound()
        how = {"timeout": timeout, "safety": safety}
        return await asking.call_raw(caller, runtime, queue, body, how, properties)

    async def close(self) -> None:
        """See `Client.close`."""
        bound, self._caller, self._binding = self._binding, None, None
        self._closed = True
        if bound is not None:
            runtime, caller = bound
            await caller.close(runtime)

    def _bound(self) -> tuple[AsyncioRuntime, Caller]:
        bound = self._binding
        # Not get_running_loop(): up to Python 3.11 it asks the kernel for the process's id each time.
        if bound is not None and self._thread == get_ident() and bound[0].loop.is_running():
            return bound
        if bound is not None and not bound[0].loop.is_closed():
            raise UsageError(
                "this AsyncClient belongs to another event loop, which is still alive: use one client a loop"
            )
        runtime = running_runtime().scope()  # its own, so that closing this client ends what it has started
        self._caller = self._new_caller()
        self._caller.connect(self._transport, runtime)
        self._thread = get_ident()
        self._binding = runtime, self._caller
        return self._binding
