"""RedisStore: records in Redis, for all servers of a service; one script and one round trip for each step."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from resilient_rpc import forking
from resilient_rpc.perloop import PerLoop
from resilient_rpc.policies.settings import check_count, check_seconds
from resilient_rpc.stores import steps
from resilient_rpc.stores.base import (
    Began,
    OnTakeover,
    Record,
    RecordKey,
    check_epoch,
    check_fingerprint,
    check_payload,
    check_size,
    check_takeover,
    milliseconds,
)
from resilient_rpc.stores.connect import RedisUrl, read_url
from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.keys import check_namespace, name_of

if TYPE_CHECKING:
    from resilient_rpc.stores.lane import Lane

log = logging.getLogger(__name__)
_milliseconds = functools.lru_cache(maxsize=64, typed=True)(milliseconds)
"""A policy says the same times with every step."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to inspect a Redis that does not answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RedisStore:
    """Records in Redis 6.2 or newer: one alone, behind sentinels, or a cluster.

    Steps of one turn of a loop travel as one message. Nothing waits longer than `timeout` for Redis, and nothing waits
    at all for one that did not answer lately. What a `begin` may have been given while its answer was lost is given
    back as soon as Redis answers. Once a process, settings of Redis that endanger records are logged as warnings.

    A Redis that fails over may forget what its replicas had not received yet; it then runs a call again.
    """

    url: str = field(kw_only=False, repr=False)
    """``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://host,host/service/db`` or ``redis+cluster://host,host``."""
    namespace: str = "rpc"
    """What all keys begin with."""
    timeout: float = 0.1
    """Seconds for a step, connecting included."""
    connections: int = 4
    """To each Redis, from each loop, at most."""
    max_payload: int = 4 << 20
    """Bytes of an answer that is kept, at most."""
    parks: ClassVar[bool] = True
    """Its steps are awaited as `parking.Outcome`, in frames of this library only."""
    _address: RedisUrl = field(init=False, repr=False)
    _lanes: PerLoop[Lane] = field(default_factory=PerLoop, init=False, repr=False)
    _owner: bytes = field(default=b"", init=False, repr=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, init=False, repr=False)
    _inspected: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        check_namespace("RedisStore.namespace", self.namespace)
        check_seconds("RedisStore.timeout", self.timeout)
        check_count("RedisStore.connections", self.connections)
        check_count("RedisStore.max_payload", self.max_payload)
        address = read_url("RedisStore.url", self.url)
        object.__setattr__(self, "_address", address)
        # Now, and not on a loop: importing redis takes a quarter of a second.
        from resilient_rpc.stores import lane  # noqa: F401, PLC0415

        self._draw_owner()
        forking.register(self)

    def after_fork(self) -> None:
        """The claims are the parent's; its connections too (`PerLoop`)."""
        inspected = threading.Event()  # another thread may have held the parent's
        if self._inspected.is_set():
            inspected.set()
        object.__setattr__(self, "_inspected", inspected)
        self._draw_owner()

    def _draw_owner(self) -> None:
        object.__setattr__(self, "_owner", secrets.token_bytes(12))

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        """As `Store`."""
        check_fingerprint(fingerprint)
        check_takeover(on_takeover)
        step = steps.begin(
            name_of(self.namespace, key),
            fingerprint=fingerprint,
            lease=_milliseconds("lease", lease),
            ttl=_milliseconds("ttl", ttl),
            on_takeover=on_takeover,
            owner=b"%b%x" % (self._owner, next(self._numbers)),
        )
        began: Began = await self._lane().do(step)
        return began

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        return await self._done(steps.renew(name_of(self.namespace, key), epoch, lease=_milliseconds("lease", lease)))

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        check_payload(payload)
        check_size(self, payload, self.max_payload)
        name = name_of(self.namespace, key)
        return await self._done(steps.complete(name, epoch, payload, ok=ok, ttl=_milliseconds("ttl", ttl)))

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        return await self._done(steps.abandon(name_of(self.namespace, key), epoch))

    async def get(self, key: RecordKey) -> Record | None:
        """As `Store`."""
        record: Record | None = await self._lane().do(steps.get(name_of(self.namespace, key)))
        return record

    async def delete(self, key: RecordKey) -> bool:
        """As `Store`."""
        return await self._done(steps.delete(name_of(self.namespace, key)))

    async def inspect(self) -> list[str]:
        """What of the settings of Redis endangers records, in words. Raises `StoreError` where it cannot be asked."""
        from redis.exceptions import ResponseError  # noqa: PLC0415 - as above

        from resilient_rpc.stores.inspection import warnings_of  # noqa: PLC0415
        from resilient_rpc.stores.node import fault_of_connection  # noqa: PLC0415

        try:
            async with asyncio.timeout(10 * self.timeout):
                found = [warning for node in await self._lane().nodes.known() for warning in await warnings_of(node)]
        except (ResponseError, OSError) as error:  # TimeoutError is one
            raise fault_of_connection(error, sent=False) from error
        return list(dict.fromkeys(found))

    async def close(self) -> None:
        """As `Store`. What is waiting fails."""
        lane = self._lanes.pop()
        if lane is not None:
            await lane.aclose()

    async def _done(self, step: steps.Step) -> bool:
        done: bool = await self._lane().do(step)
        return done

    def _lane(self) -> Lane:
        lane = self._lanes.get(self._new_lane)
        if not self._inspected.is_set():
            self._inspected.set()
            lane.beside(self._warn())
        return lane

    def _new_lane(self) -> Lane:
        from resilient_rpc.stores.lane import Lane  # noqa: PLC0415 - as above

        return Lane(self._address, timeout=self.timeout, flights=self.connections)

    async def _warn(self) -> None:
        pause = self.timeout
        while True:
            try:
                found = await self.inspect()
            except StoreError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            for warning in found:
                log.warning("%s", warning)
            return
