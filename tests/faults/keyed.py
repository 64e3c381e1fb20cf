"""Servers of keyed calls in this process, and what they did: for the rows of the fault matrix (`README.md`)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from resilient_rpc import Context, Server
from resilient_rpc.events import Event
from resilient_rpc.policies import AttemptTimeout, Idempotency, Retry, RetryBudget
from resilient_rpc.stores import RedisStore

LEASE = 1.0
PATIENT: list[Any] = [Retry(attempts=40, cap=0.2, budget=RetryBudget.unlimited()), AttemptTimeout(limit=1.0)]
"""Policies of a client that waits for the end of the trouble."""
MACHINE = 1.0
"""Seconds that a busy machine may add to a bound."""


@dataclass(frozen=True)
class Effect:
    """One execution. `answer` is its own: no other one returns it."""

    key: str
    token: int
    answer: str


class Shop:
    """Servers of one service that keep one book of their effects.

    `create` answers at once; `hold` takes effect, and answers when `go` is set.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.effects: list[Effect] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.servers: list[Server] = []
        self.events: list[Event] = []
        self._book = threading.Lock()

    def serve(self, amqp_url: str, store: str | RedisStore, *, settings: Any = None, **idempotency: Any) -> Server:
        """One more server, with records in this Redis. `settings`: of the server."""
        records = store if isinstance(store, RedisStore) else RedisStore(store, namespace=self.service, timeout=2.0)
        rules = Idempotency(records, **{"lease": LEASE, "wait": 2 * LEASE, **idempotency})
        server = Server(amqp_url, service=self.service, policies=[rules], **{"concurrency": 64, **(settings or {})})
        for method in (self.create, self.hold):
            server.method(safety="dedup")(method)
        server.method(safety="read_only")(self.look)
        server.on(Event, self.events.append)
        self.servers.append(server)
        server.start()
        return server

    async def create(self, ctx: Context, sku: str = "") -> str:
        return self._effect(ctx)

    def hold(self, ctx: Context, sku: str = "") -> str:
        answer = self._effect(ctx)
        self.begun.release()
        self.go.wait(60.0)
        return answer

    async def look(self) -> int:
        return len(self.effects)

    def name(self, method: str) -> str:
        """As clients call it."""
        return f"{self.service}.{method}"

    def has_begun(self, count: int = 1) -> None:
        """Wait for so many executions of `hold`."""
        for _ in range(count):
            assert self.begun.acquire(timeout=10.0), "a call did not begin"

    def counts(self) -> Counter[str]:
        """Effects of each key."""
        return Counter(effect.key for effect in self.effects)

    def answers(self, *keys: str) -> list[str]:
        """The answers of these keys, each of which has taken effect once."""
        counts = self.counts()
        assert {key: counts[key] for key in keys} == dict.fromkeys(keys, 1)
        known = {effect.key: effect.answer for effect in self.effects}
        return [known[key] for key in keys]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        for server in self.servers:
            server.stop()

    def _effect(self, ctx: Context) -> str:
        with self._book:
            assert ctx.fencing_token is not None or ctx.key is not None
            answer = f"{ctx.key}#{len(self.effects)}"
            self.effects.append(Effect(str(ctx.key), ctx.fencing_token or 0, answer))
            return answer


class Watch:
    """How long something takes."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begin
