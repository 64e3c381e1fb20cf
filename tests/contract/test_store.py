"""One suite over every store, and a model that each of them is compared with in random interleavings."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from resilient_rpc.stores import (
    Busy,
    MemoryStore,
    Mismatch,
    New,
    RecordKey,
    RedisStore,
    Replay,
    Store,
    TakenOver,
    Unknown,
)
from resilient_rpc.testing import check_store
from tests.servers.redis_groups import RedisCluster, Sentinels

PATIENT = 5.0
"""Seconds: the machine of the tests may be busy."""


def test_memory() -> None:
    report = check_store(MemoryStore)
    assert len(report.holds) >= 20
    assert not report.left_out


def test_redis(redis_url: str, service: str) -> None:
    check_store(lambda: RedisStore(redis_url, namespace=service, timeout=PATIENT))


def test_redis_with_one_connection_and_little_time(redis_url: str, service: str) -> None:
    check_store(lambda: RedisStore(redis_url, namespace=service, timeout=0.5, connections=1))


def test_redis_cluster(redis_cluster: RedisCluster, service: str) -> None:
    check_store(lambda: RedisStore(redis_cluster.url, namespace=service, timeout=PATIENT))


def test_redis_behind_sentinels(sentinels: Sentinels, service: str) -> None:
    check_store(lambda: RedisStore(sentinels.url, namespace=service, timeout=PATIENT))


class Model:
    """What a record is, in ten lines: the leases here are either long, or over."""

    def __init__(self) -> None:
        self.state = "none"
        self.fingerprint = b""
        self.epoch = 0
        self.answer: Replay | None = None

    def begin(self, fingerprint: bytes, on_takeover: str) -> type:
        if self.state not in {"none", "deleted"}:
            if fingerprint != self.fingerprint:
                return Mismatch
            if self.state == "done":
                return Replay
            if self.state == "held":
                return Busy
            if self.state == "over":
                return TakenOver if on_takeover == "rerun" else Unknown
        return New

    def mine(self, epoch: int, *states: str) -> bool:
        return self.state in states and epoch == self.epoch


KEYS = st.integers(0, 1)
FINGERPRINTS = st.sampled_from([b"one", b"two"])
EPOCHS = st.sampled_from([0, 0, 0, -1, 1])
"""Which epoch a step names: the one that holds, one that did before, or none that was ever given."""


class Interleavings(RuleBasedStateMachine):
    """Steps of many owners on two records, in any order."""

    make: Callable[[], Store]

    @initialize()
    def prepare(self) -> None:
        number = secrets.token_hex(8)  # not drawn: an example that is tried again must not find its own records
        self.loop = asyncio.new_event_loop()
        self.store = type(self).make()
        self.models = [Model(), Model()]
        self.before = [1, 1]
        self.names = [RecordKey("tenant", "service", "method", f"{number}:{n}") for n in range(2)]

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def epoch(self, which: int, shift: int) -> int:
        held = self.models[which].epoch
        return self.before[which] if shift < 0 else held + shift

    @rule(
        which=KEYS, fingerprint=FINGERPRINTS, on_takeover=st.sampled_from(["rerun", "fail_unknown"]), over=st.booleans()
    )
    def begin(self, which: int, fingerprint: bytes, on_takeover: Any, over: bool) -> None:
        model = self.models[which]
        lease = 0.001 if over else 60.0
        expected = model.begin(fingerprint, on_takeover)
        found = self.run(
            self.store.begin(self.names[which], fingerprint=fingerprint, lease=lease, ttl=60.0, on_takeover=on_takeover)
        )
        assert type(found) is expected
        if isinstance(found, Replay):
            assert found == model.answer
        if isinstance(found, New | TakenOver):
            assert found.epoch > model.epoch
            self.before[which] = model.epoch
            model.epoch, model.fingerprint, model.answer = found.epoch, fingerprint, None
            model.state = "held"
            if over:
                self.wait_for_end(which)

    @rule(which=KEYS, shift=EPOCHS, over=st.booleans())
    def renew(self, which: int, shift: int, over: bool) -> None:
        model, epoch = self.models[which], self.epoch(which, shift)
        expected = model.mine(epoch, "held", "over")
        assert self.run(self.store.renew(self.names[which], epoch, lease=0.001 if over else 60.0)) is expected
        if expected:
            model.state = "held"
            if over:
                self.wait_for_end(which)

    @rule(which=KEYS, shift=EPOCHS, payload=st.binary(max_size=100), ok=st.booleans())
    def complete(self, which: int, shift: int, payload: bytes, ok: bool) -> None:
        model, epoch = self.models[which], self.epoch(which, shift)
        expected = model.mine(epoch, "held", "over", "done")
        assert self.run(self.store.complete(self.names[which], epoch, payload, ok=ok, ttl=60.0)) is expected
        if expected and model.state != "done":
            model.state, model.answer = "done", Replay(payload, ok)

    @rule(which=KEYS, shift=EPOCHS)
    def abandon(self, which: int, shift: int) -> None:
        model, epoch = self.models[which], self.epoch(which, shift)
        expected = model.mine(epoch, "held", "over", "abandoned")
        assert self.run(self.store.abandon(self.names[which], epoch)) is expected
        if expected:
            model.state = "abandoned"

    @rule(which=KEYS)
    def delete(self, which: int) -> None:
        model = self.models[which]
        assert self.run(self.store.delete(self.names[which])) is (model.state not in {"none", "deleted"})
        if model.state != "none":
            model.state = "deleted"

    @invariant()
    def reads_what_was_written(self) -> None:
        for name, model in zip(self.names, self.models, strict=True):
            record = self.run(self.store.get(name))
            assert (record is None) is (model.state in {"none", "deleted"})
            if record is not None:
                assert (record.epoch, record.fingerprint) == (model.epoch, model.fingerprint)
                assert (record.lease_left > 0) is (model.state == "held")
                assert record.payload == (None if model.answer is None else model.answer.payload)

    def wait_for_end(self, which: int) -> None:
        async def over() -> None:
            while True:
                record = await self.store.get(self.names[which])
                assert record is not None
                if record.lease_left == 0:
                    return
                await asyncio.sleep(record.lease_left)

        self.run(over())
        self.models[which].state = "over"

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()


def interleave(make: Callable[[], Store], examples: int) -> None:
    machine = type("Machine", (Interleavings,), {"make": staticmethod(make)})
    quiet = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(machine, settings=quiet)


def test_random_interleavings_in_memory() -> None:
    interleave(MemoryStore, 100)


@pytest.mark.slow
def test_random_interleavings_in_redis(redis_url: str, service: str) -> None:
    interleave(lambda: RedisStore(redis_url, namespace=service, timeout=PATIENT), 25)
