"""Servers of one store, in virtual time: each with a policy of its own, as if it were another process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from resilient_rpc.call import DEDUP, Call, Reply, Safety
from resilient_rpc.context import Context
from resilient_rpc.events import Event
from resilient_rpc.hub import Events
from resilient_rpc.policies.idempotency import Idempotency
from resilient_rpc.stores.base import Began, Record, RecordKey
from resilient_rpc.stores.errors import StoreUnavailable
from resilient_rpc.stores.memory import MemoryStore
from resilient_rpc.wire.codec import JSON, Codec
from tests.runtimes import Bench

Work = Callable[[Context], Coroutine[Any, Any, Any]]
KEY = "order-42"


class Course:
    """As a server's: what it knows of a call."""

    def __init__(self, context: Context, params: dict[str, Any], tenant: str, codec: Codec) -> None:
        self.context, self.params, self.tenant, self.codec = context, params, tenant, codec
        self.began = self.ended = self.stepped_out = self.stepped_in = 0
        self.replayed = False
        self.running = self.asking = False
        self.parking = None
        self.places = 1000
        self.recorded: float | None = None

    def hold(self, retry_after: float) -> None:
        self.recorded = retry_after

    def step_out(self) -> None:
        self.stepped_out += 1

    async def step_in(self) -> None:
        self.stepped_in += 1


class ServedCall(Call, frozen=True, kw_only=True, eq=False):
    course: Any


class Flaky:
    """A store whose steps fail when they are told to, before or after they were carried out."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.down: dict[str, Exception] = {}
        self.after: dict[str, BaseException] = {}
        self.asked: list[str] = []
        self.closed = 0

    def fail(self, *steps: str, error: Exception | None = None) -> None:
        self.down |= dict.fromkeys(steps, error or StoreUnavailable("it is down", reason="down", written=False))

    def recover(self) -> None:
        self.down.clear()
        self.after.clear()

    async def _do(self, step: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(step)
        if step in self.down:
            raise self.down[step]
        outcome = await getattr(self.store, step)(*args, **kwargs)
        if step in self.after:
            raise self.after[step]
        return outcome

    async def begin(self, key: RecordKey, **how: Any) -> Began:
        began: Began = await self._do("begin", key, **how)
        return began

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        return bool(await self._do("renew", key, epoch, lease=lease))

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        return bool(await self._do("complete", key, epoch, payload, ok=ok, ttl=ttl))

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        return bool(await self._do("abandon", key, epoch))

    async def get(self, key: RecordKey) -> Record | None:
        record: Record | None = await self._do("get", key)
        return record

    async def delete(self, key: RecordKey) -> bool:
        return bool(await self._do("delete", key))

    async def close(self) -> None:
        self.closed += 1


class World:
    """One store, and the effects of all servers that share it."""

    def __init__(self, runtime: Bench) -> None:
        self.runtime = runtime
        self.memory = MemoryStore(clock=runtime.clock.now)
        self.effects: list[Any] = []

    def host(self, **settings: Any) -> Host:
        return Host(self, **settings)

    def record(self, method: str = "create", key: str = KEY, tenant: str = "default") -> RecordKey:
        return RecordKey(tenant, "orders", method, key)

    def look(self, method: str = "create", key: str = KEY) -> Record | None:
        return self.runtime.run(lambda: self.memory.get(self.record(method, key)))


class Host:
    """One server process."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world, self.runtime = world, world.runtime
        self.store = Flaky(world.memory)
        settings.setdefault("io", lambda: world.runtime.clock.io)
        settings.setdefault("random", lambda: 1.0)
        self.policy = Idempotency(self.store, **settings)
        self.events: list[Event] = []
        self.hub = Events()
        self.hub.on(Event, self.events.append)
        self.courses: list[Course] = []
        self._numbers = itertools.count(1)

    async def serve(
        self,
        work: Work | None = None,
        *,
        key: str | None = KEY,
        params: dict[str, Any] | None = None,
        method: str = "orders.create",
        tenant: str = "default",
        timeout: float = 30.0,
        safety: Safety = DEDUP,
        codec: Codec = JSON,
        redelivered: bool = False,
        begins: bool = True,
    ) -> Reply:
        """One call. `work` is the handler; None: it notes an effect and returns its number. `begins`: it is reached."""
        now = self.runtime.clock.now()
        context = Context(method.partition(".")[2], now + timeout, safety, key, redelivered=redelivered)
        course = Course(context, params or {}, tenant, codec)
        self.courses.append(course)
        call = ServedCall(
            method=method, params=course.params, runtime=self.runtime.port, deadline=now + timeout, timeout=timeout,
            safety=safety, key=key, events=self.hub, course=course,
        )  # fmt: skip

        async def carry(call: Call) -> Reply:
            course.began += begins
            try:
                return Reply(result=await (work or self.work)(course.context))
            finally:
                course.ended += begins

        return await self.policy(call, carry)

    async def work(self, context: Context) -> Any:
        self.world.effects.append(context.fencing_token)
        return {"number": len(self.world.effects)}

    def call(self, work: Work | None = None, **how: Any) -> Reply:
        """`serve`, waited for, with the result decoded."""
        return decoded(self.runtime.run(lambda: self.serve(work, **how)))

    def seen(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def decoded(reply: Reply) -> Reply:
    if isinstance(reply.result, msgspec.Raw):
        reply.result = JSON.anything.decode(reply.result)
    return reply
