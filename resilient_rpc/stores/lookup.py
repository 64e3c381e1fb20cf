"""Questions where something is: asked of several at once, not too often, and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from redis.exceptions import ResponseError

from resilient_rpc.loops import end_all
from resilient_rpc.stores.connect import Address, RedisUrl
from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import unavailable
from resilient_rpc.stores.gate import Gate
from resilient_rpc.stores.node import fault_of_connection
from resilient_rpc.stores.nodes import node_at

T = TypeVar("T")

REFRESH = 0.1
"""Seconds between two questions."""


class Lookup(Generic[T]):
    """What `ask` finds out: one question at a time, not too often, and none for a while where there is no answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self.value: T | None = None
        """What was found last."""
        self._gate = Gate()
        self._lock = asyncio.Lock()
        self._next = 0.0

    async def get(self, is_stale: Callable[[T], bool]) -> T:
        """What is known, asked for anew where it is stale. StoreError when nothing is known, nor answered."""
        value = self.value
        if value is not None and not is_stale(value):
            return value
        async with self._lock:
            value, now = self.value, asyncio.get_running_loop().time()
            if value is not None and (now < self._next or not is_stale(value)):
                return value
            pause = self._gate.wait(now)
            if not pause:
                self._next = now + REFRESH
                return await self._find(value)
            if value is None:
                raise unavailable("open", sent=False, retry_after=pause)
            return value

    async def _find(self, known: T | None) -> T:
        try:
            self.value = found = await self._ask()
        except asyncio.CancelledError:
            self._gate.failed(asyncio.get_running_loop().time())
            raise
        except StoreError:
            self._gate.failed(asyncio.get_running_loop().time())
            if known is None:
                raise
            return known
        self._gate.passed()
        return found


async def answer_of(url: RedisUrl, address: Address, *words: str, sentinel: bool = False) -> Any:
    """What one of them answers to a command, on a connection of its own."""
    node = node_at(url, address, sentinel=sentinel)
    try:
        return await node.ask(*words)
    finally:
        await node.aclose()


async def first_of(asks: Iterable[Coroutine[Any, Any, T]]) -> T:
    """The first answer; None is one only where there is no other. StoreError when there is none at all."""
    tasks = [asyncio.create_task(ask) for ask in asks]
    errors: list[ResponseError | OSError] = []
    nothing: list[T] = []
    try:
        for done in asyncio.as_completed(tasks):
            try:
                answer = await done
            except (ResponseError, OSError) as error:
                errors.append(error)
            else:
                if answer is not None:
                    return answer
                nothing.append(answer)
    finally:
        await end_all(tasks)
    if nothing:
        return nothing[0]
    raise fault_of_connection(errors[-1], sent=False)
