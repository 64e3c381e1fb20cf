"""Servers of keyed calls in this process, and what they did: for the rows of the fault matrix (`README.md`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from resilient_rpc import Context, Server
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import RedisStore
from tests.faults.group import Group

LEASE = 1.0


@dataclass(frozen=True)
class Effect:
    """One execution. `answer` is its own: no other one returns it."""

    key: str
    token: int
    answer: str


class Shop(Group):
    """Servers of one service that keep one book of their effects.

    `create` answers at once; `hold` takes effect, and answers when `go` is set.
    """

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.effects: list[Effect] = []

    def serve(self, amqp_url: str, store: str | RedisStore, *, settings: Any = None, **idempotency: Any) -> Server:
        """One more server, with records in this Redis. `settings`: of the server."""
        records = store if isinstance(store, RedisStore) else RedisStore(store, namespace=self.service, timeout=2.0)
        rules = Idempotency(records, **{"lease": LEASE, "wait": 2 * LEASE, **idempotency})
        server = Server(amqp_url, service=self.service, policies=[rules], **{"concurrency": 64, **(settings or {})})
        for method in (self.create, self.hold):
            server.method(safety="dedup")(method)
        server.method(safety="read_only")(self.look)
        return self.start(server)

    async def create(self, ctx: Context, sku: str = "") -> str:
        return self._effect(ctx)

    def hold(self, ctx: Context, sku: str = "") -> str:
        answer = self._effect(ctx)
        self.held()
        return answer

    async def look(self) -> int:
        return len(self.effects)

    def counts(self) -> Counter[str]:
        """Effects of each key."""
        return Counter(effect.key for effect in self.effects)

    def answers(self, *keys: str) -> list[str]:
        """The answers of these keys, each of which has taken effect once."""
        counts = self.counts()
        assert {key: counts[key] for key in keys} == dict.fromkeys(keys, 1)
        known = {effect.key: effect.answer for effect in self.effects}
        return [known[key] for key in keys]

    def _effect(self, ctx: Context) -> str:
        with self.book:
            assert ctx.fencing_token is not None or ctx.key is not None
            answer = f"{ctx.key}#{len(self.effects)}"
            self.effects.append(Effect(str(ctx.key), ctx.fencing_token or 0, answer))
            return answer
