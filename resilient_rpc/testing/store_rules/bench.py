"""Where `check_store` tries a store out, and what a rule is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from resilient_rpc.stores import New, RecordKey, Store
from resilient_rpc.stores.base import Began
from resilient_rpc.testing.lab import expect

LONG = 60.0
"""Seconds: the lease and the ttl of what must not end while a rule looks at it."""
SHORT = 0.05
"""Seconds: those of what must."""
TRIES = 200
"""How often what must come about is looked for, each `SHORT`."""
CROWD = 40
"""Callers at once."""
PAYLOAD = bytes(range(256))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store, and keys that nobody else uses."""

    store: Store

    def key(self, **parts: str) -> RecordKey:
        """A key of its own."""
        return RecordKey(**{"tenant": "t1", "service": "s1", "method": "m1", "key": secrets.token_hex(8), **parts})

    async def begin(self, key: RecordKey, **settings: Any) -> Began:
        """`Store.begin`, with settings that do not matter."""
        return await self.store.begin(key, **{"fingerprint": b"args", "lease": LONG, "ttl": LONG, **settings})

    async def new(self, key: RecordKey, **settings: Any) -> int:
        """The epoch of a begin that must be New."""
        began = await self.begin(key, **settings)
        expect(isinstance(began, New), f"a begin that nothing stood in the way of was answered with {began}")
        assert isinstance(began, New)  # noqa: S101 - for the type checker
        return began.epoch

    async def outlived(self, key: RecordKey) -> int:
        """The epoch of a record whose lease is over."""
        epoch = await self.new(key, lease=SHORT)
        await self.until(lambda: self._over(key), "the lease of a record did not end")
        return epoch

    async def until(self, condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        """Wait until it holds."""
        for _ in range(TRIES):
            if await condition():
                return
            await asyncio.sleep(SHORT)
        expect(holds=False, seen=otherwise)

    async def _over(self, key: RecordKey) -> bool:
        record = await self.store.get(key)
        return record is not None and record.lease_left == 0


@dataclass(frozen=True, kw_only=True)
class StoreRule:
    """One rule: `check` raises `Broken` where it does not hold."""

    name: str
    says: str
    check: Callable[[Bench], Coroutine[Any, Any, None]]


def rule(says: str) -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], StoreRule]:
    """Make a rule of a check; its name is that of the function."""
    return lambda check: StoreRule(name=check.__name__, says=says, check=check)
