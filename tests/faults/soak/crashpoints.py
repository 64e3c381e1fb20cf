"""Where a server process can be made to die, as by SIGKILL: at every step of a keyed call that leaves something behind.

::

    handler ──before_effect── effect ──after_effect── complete ──after_complete── reply ──after_reply──
    the broker confirms it ──before_ack── ack

A call names its point. It is struck once for each key: the file that marks it is made first, with O_EXCL, so the repeat
of the call, in another process, lives. `after_reply` and `before_ack` strike with the first reply or ack after the
call was completed: on a busy server that can be another call's.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Literal, get_args

from resilient_rpc.stores import RedisStore
from resilient_rpc.stores.base import Began, OnTakeover, Record, RecordKey
from tests.faults.soak.ledger import Ledger

Point = Literal["before_effect", "after_effect", "after_complete", "after_reply", "before_ack"]
POINTS: tuple[Point, ...] = get_args(Point)


class CrashPoints:
    """Those of one process. `folder`: where the struck ones of all processes are marked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wanted: dict[str, str] = {}
        self._armed = ""

    def expect(self, key: str, point: str) -> None:
        """The call with this key is to die there."""
        if point:
            self._wanted[key] = point

    def reach(self, key: str, point: Point) -> None:
        """Die, if it is this call's point and nobody has died for it yet."""
        wanted = self._wanted.get(key)
        if wanted == point and self._claim(key, point):
            die()
        if point == "after_complete" and wanted in {"after_reply", "before_ack"} and self._claim(key, wanted):
            self._armed = wanted

    def pass_by(self, point: Point) -> None:
        """Die, if a completed call has armed this point, whoever comes by."""
        if self._armed == point:
            die()

    def _claim(self, key: str, point: str) -> bool:
        try:
            os.close(os.open(self._folder / f"{key}.{point}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def die() -> None:
    """As by the kernel: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


class TappedStore:
    """A `RedisStore` that says in the ledger what it has recorded."""

    def __init__(self, store: RedisStore, ledger: Ledger, points: CrashPoints) -> None:
        self._store, self._ledger, self._points = store, ledger, points

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        return await self._store.begin(key, fingerprint=fingerprint, lease=lease, ttl=ttl, on_takeover=on_takeover)

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        return await self._store.renew(key, epoch, lease=lease)

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        stored = await self._store.complete(key, epoch, payload, ok=ok, ttl=ttl)
        if stored:
            self._ledger.recorded(key.key, epoch)
            self._points.reach(key.key, "after_complete")
        return stored

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        return await self._store.abandon(key, epoch)

    async def get(self, key: RecordKey) -> Record | None:
        return await self._store.get(key)

    async def delete(self, key: RecordKey) -> bool:
        return await self._store.delete(key)

    async def close(self) -> None:
        await self._store.close()


class _Tapped:
    """Whatever it is, but for what a subclass says otherwise."""

    def __init__(self, session: Any, *, points: CrashPoints) -> None:
        self._session, self._points = session, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class TappedTransport(_Tapped):
    """A transport whose sessions come by the last two points."""

    async def publisher(self, events: Any, **how: Any) -> Any:
        return TappedPublisher(await self._session.publisher(events, **how), points=self._points)

    async def consumer(self, events: Any, queue: Any, **how: Any) -> Any:
        return TappedConsumer(await self._session.consumer(events, queue, **how), points=self._points)


class TappedPublisher(_Tapped):
    """`after_reply`: it was handed to the kernel."""

    _published = False

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        tag: int = self._session.publish(target, body, properties, mandatory=mandatory)
        self._published = True
        return tag

    def flush(self) -> None:
        self._session.flush()
        if self._published:
            self._points.pass_by("after_reply")
        self._published = False


class TappedConsumer(_Tapped):
    """`before_ack`: the broker has confirmed the reply."""

    def ack(self, tag: int) -> None:
        self._points.pass_by("before_ack")
        self._session.ack(tag)
