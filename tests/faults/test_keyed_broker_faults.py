"""Rows 1 to 9 and 41 of the fault matrix for calls with a key: the broker and the links to it fail (`README.md`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc import (
    AsyncClient,
    BrokerBlocked,
    Certainty,
    Client,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    RpcError,
)
from tests.faults.group import MACHINE, PATIENT, Watch
from tests.faults.keyed import Shop
from tests.faults.tools import eventually
from tests.servers.handle import Broker
from tests.servers.proxy import WAYS, Proxy

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


def heart(url: str) -> str:
    return url + ("&" if "?" in url else "?") + "heartbeat=2"


def test_row_1_a_killed_broker_ends_a_call_unknown_at_once_and_repeats_of_its_key_are_answered_once(
    private_broker: Broker, redis_url: str, shop: Shop
) -> None:
    shop.serve(private_broker.url, redis_url)
    with Client(private_broker.url, policies=[]) as hasty, Client(private_broker.url, policies=PATIENT) as patient:
        for client in (hasty, patient):
            client.call(shop.name("look"))
        keys = [f"k{n}" for n in range(10)]
        lost = hasty.submit(shop.name("hold"), idempotency_key="lost", timeout=60.0)
        futures = [patient.submit(shop.name("hold"), idempotency_key=key, timeout=60.0) for key in keys]
        shop.has_begun(11)
        watch = Watch()
        private_broker.kill()
        error = lost.exception(timeout=10.0)
        assert watch.seconds < 1.0 + MACHINE
        assert isinstance(error, ConnectionLost)
        assert error.certainty is Certainty.UNKNOWN
        shop.go.set()
        private_broker.start()
        watch = Watch()
        answers = [future.result(timeout=20.0) for future in futures]
        assert watch.seconds < 5.0 + MACHINE
        again = hasty.request(shop.name("hold"), idempotency_key="lost", timeout=10.0)

    assert [*answers, again.result] == shop.answers(*keys, "lost")
    assert again.replayed


@pytest.mark.parametrize("how", ["close_all_connections", "stop_app"])
def test_row_2_an_operator_who_closes_connections_costs_keyed_calls_nothing(
    private_broker: Broker, redis_url: str, shop: Shop, how: str
) -> None:
    shop.serve(private_broker.url, redis_url)
    with Client(private_broker.url, policies=PATIENT) as client:
        keys = [f"k{n}" for n in range(10)]
        futures = [client.submit(shop.name("hold"), idempotency_key=key, timeout=60.0) for key in keys]
        shop.has_begun(10)
        if how == "stop_app":
            private_broker.ctl("stop_app")
            shop.go.set()
            private_broker.ctl("start_app")
        else:
            private_broker.ctl(how, "maintenance")
            shop.go.set()
        watch = Watch()
        answers = [future.result(timeout=30.0) for future in futures]
        assert watch.seconds < 5.0 + MACHINE

    assert answers == shop.answers(*keys)


@pytest.fixture
def way(private_broker: Broker, proxy: Callable[[str], Proxy]) -> Proxy:
    return proxy(private_broker.url)


@pytest.mark.parametrize("side", ["client", "server"])
def test_row_3_a_reset_link_is_known_at_once_and_keyed_calls_are_answered_once(
    private_broker: Broker, way: Proxy, redis_url: str, shop: Shop, side: str
) -> None:
    urls = (way.url, private_broker.url) if side == "client" else (private_broker.url, way.url)
    server = shop.serve(urls[1], redis_url)
    with Client(urls[0], policies=PATIENT) as client:
        keys = [f"k{n}" for n in range(10)]
        futures = [client.submit(shop.name("hold"), idempotency_key=key, timeout=30.0) for key in keys]
        shop.has_begun(10)
        before, watch = way.accepted, Watch()
        way.reset()
        eventually(lambda: way.accepted > before, "a new connection", 3.0)
        eventually(lambda: server.health()["consuming"], "the consumer", 3.0)
        assert watch.seconds < 2.0 + MACHINE
        shop.go.set()
        answers = [future.result(timeout=10.0) for future in futures]

    assert answers == shop.answers(*keys)


@pytest.mark.parametrize("after", [8, 200, 600])
def test_row_4_a_handshake_that_is_cut_is_made_again_and_the_keyed_call_takes_effect_once(
    private_broker: Broker, way: Proxy, redis_url: str, shop: Shop, after: int
) -> None:
    shop.serve(private_broker.url, redis_url)
    way.cut(after)
    with Client(way.url, policies=[]) as client:
        answer = client.call(shop.name("create"), idempotency_key="k", timeout=10.0)

    assert way.accepted == 2
    assert [answer] == shop.answers("k")


def test_row_4_wrong_credentials_end_a_keyed_call_at_once_whatever_its_retries(
    private_broker: Broker, way: Proxy, redis_url: str, shop: Shop
) -> None:
    shop.serve(private_broker.url, redis_url)
    watch = Watch()
    with Client(way.url.replace("guest:guest", "guest:wrong"), policies=PATIENT) as client:
        with pytest.raises(RpcError) as caught:
            client.call(shop.name("create"), idempotency_key="k", timeout=30.0)
        assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert not caught.value.retryable

    assert watch.seconds < 5.0
    assert way.accepted <= 2
    assert not shop.effects


@pytest.mark.parametrize("side", ["client", "server"])
def test_row_5_a_link_that_is_cut_after_ever_more_bytes_ends_every_keyed_call_once(
    private_broker: Broker, way: Proxy, redis_url: str, shop: Shop, side: str
) -> None:
    urls = (way.url, private_broker.url) if side == "client" else (private_broker.url, way.url)
    shop.serve(urls[1], redis_url)
    keys, answers = [], []
    with Client(urls[0], policies=PATIENT) as client:
        client.call(shop.name("look"))
        for step in range(1, 6):
            cut_before = way.accepted
            for direction in WAYS:
                way.cut(step * 1024, direction)
            turn = 0
            while way.accepted == cut_before:
                turn += 1
                batch = [f"{step}.{turn}.{n}" for n in range(20)]
                futures = [
                    client.submit(shop.name("create"), {"sku": "x" * 100}, idempotency_key=key, timeout=20.0)
                    for key in batch
                ]
                answers += [future.result(timeout=21.0) for future in futures]
                keys += batch

    assert answers == shop.answers(*keys)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("direction", ["up", "down"], ids=["row 6, up", "row 7, down"])
def test_rows_6_and_7_a_half_open_link_ends_the_call_at_its_deadline_and_its_key_takes_effect_once(
    private_broker: Broker, way: Proxy, redis_url: str, shop: Shop, direction: Any, side: str
) -> None:
    urls = (way.url, private_broker.url) if side == "client" else (private_broker.url, way.url)
    shop.serve(heart(urls[1]), redis_url)
    with Client(heart(urls[0]), policies=[]) as client, Client(private_broker.url, policies=PATIENT) as other:
        client.call(shop.name("create"), idempotency_key="before")
        way.freeze(direction)
        watch = Watch()
        with pytest.raises(DeadlineExceeded) as caught:
            client.call(shop.name("create"), idempotency_key="k", timeout=0.5)
        assert 0.4 < watch.seconds < 0.5 + MACHINE
        assert caught.value.certainty is Certainty.UNKNOWN
        if side == "client":  # the others have links of their own
            assert [other.call(shop.name("create"), idempotency_key="other")] == shop.answers("other")
        way.reset()
        way.thaw()
        answer = other.call(shop.name("create"), idempotency_key="k", timeout=20.0)
        eventually(lambda: _repeats(client, shop, answer), "the client on a new link")

    assert [answer] == shop.answers("k")


def _repeats(client: Client, shop: Shop, answer: str) -> bool:
    try:
        reply = client.request(shop.name("create"), idempotency_key="k", timeout=1.0)
    except RpcError:
        return False
    return (reply.result, reply.replayed) == (answer, True)


def test_row_8_a_frozen_broker_holds_no_keyed_call_past_its_deadline_and_does_nothing_twice(
    private_broker: Broker, redis_url: str, shop: Shop
) -> None:
    shop.serve(private_broker.url, redis_url)
    with Client(private_broker.url, policies=[]) as client:
        client.call(shop.name("look"))
        held = client.submit(shop.name("hold"), idempotency_key="held", timeout=2.0)
        shop.has_begun()
        private_broker.freeze()
        try:
            watch = Watch()
            with pytest.raises(DeadlineExceeded) as unknown:
                client.call(shop.name("create"), idempotency_key="new", timeout=0.5)
            with Client(private_broker.url, policies=[]) as fresh, pytest.raises(NotConnected) as unsent:
                fresh.call(shop.name("create"), idempotency_key="new", timeout=0.5)
            assert isinstance(held.exception(timeout=3.0), DeadlineExceeded)
            assert watch.seconds < 2.0 + MACHINE
        finally:
            private_broker.thaw()
        shop.go.set()
        with Client(private_broker.url, policies=PATIENT) as patient:
            found = [
                patient.call(shop.name(method), idempotency_key=key, timeout=30.0)
                for method, key in (("hold", "held"), ("create", "new"))
            ]

    assert (unknown.value.certainty, unsent.value.certainty) == (Certainty.UNKNOWN, Certainty.NOT_EXECUTED)
    assert found == shop.answers("held", "new")


def test_row_9_an_alarm_refuses_keyed_calls_unexecuted_and_keeps_the_answer_of_the_one_under_way(
    private_broker: Broker, redis_url: str, shop: Shop
) -> None:
    server = shop.serve(private_broker.url, redis_url)
    with Client(private_broker.url, policies=[]) as client:
        client.call(shop.name("look"))
        under_way = client.submit(shop.name("hold"), idempotency_key="under way", timeout=60.0)
        shop.has_begun()
        private_broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            eventually(lambda: isinstance(_refusal(client, shop), BrokerBlocked), "BrokerBlocked", 20.0)
            watch = Watch()
            error = _refusal(client, shop)
            assert watch.seconds < 0.5
            assert isinstance(error, BrokerBlocked)
            assert error.certainty is Certainty.NOT_EXECUTED
            shop.go.set()
            eventually(lambda: not server.health()["running"], "the end of the handler")
            assert not under_way.done()
        finally:
            private_broker.ctl("set_vm_memory_high_watermark", "0.4")
        watch = Watch()
        answer = under_way.result(timeout=10.0)
        assert watch.seconds < 1.0 + MACHINE
        eventually(lambda: not server.health()["unacked"], "the ack")
        with Client(private_broker.url, policies=PATIENT) as patient:
            refused = patient.call(shop.name("create"), idempotency_key="refused", timeout=20.0)

    assert [answer, refused] == shop.answers("under way", "refused")


def _refusal(client: Client, shop: Shop) -> RpcError | None:
    try:
        client.call(shop.name("create"), idempotency_key="refused", timeout=1.0)
    except RpcError as error:
        return error
    return None


def test_row_41_fifty_clients_come_back_together_and_each_of_their_keys_takes_effect_once(
    private_broker: Broker, redis_url: str, shop: Shop
) -> None:
    shop.serve(private_broker.url, redis_url)
    keys = [f"k{n}" for n in range(50)]

    async def storm() -> tuple[list[str], float]:
        clients = [AsyncClient(private_broker.url, policies=PATIENT) for _ in keys]
        await asyncio.gather(*[client.call(shop.name("look"), timeout=20.0) for client in clients])
        calls = [
            client.submit(shop.name("hold"), idempotency_key=key, timeout=60.0)
            for client, key in zip(clients, keys, strict=True)
        ]
        await asyncio.to_thread(shop.has_begun, 50)
        await asyncio.to_thread(private_broker.kill)
        shop.go.set()
        await asyncio.to_thread(private_broker.start)
        watch = Watch()
        answers = await asyncio.gather(*calls)
        took = watch.seconds
        await asyncio.gather(*[client.close() for client in clients])
        return answers, took

    answers, took = asyncio.run(storm())
    assert took < 10.0
    assert answers == shop.answers(*keys)
