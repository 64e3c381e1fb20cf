"""Bad input and security of keys, records, tenants and dead letters, on a real broker and a real Redis.

Which check of the security list each test is of stands in `README.md`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from resilient_rpc import Certainty, Client, ConfigurationError, Server
from resilient_rpc.errors import DependencyUnavailable, Refused
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import RedisStore
from tests.broker.dead import graveyard
from tests.faults.group import PATIENT
from tests.faults.keyed import Shop
from tests.faults.raw import Raw, call
from tests.servers.handle import Server as RedisServer
from tests.servers.ports import HOST, free_port
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]


@contextlib.contextmanager
def looking(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.mark.parametrize("required", [True, False], ids=["required", "dedup"])
def test_a_call_without_the_key_that_its_method_needs_is_refused_unexecuted(
    amqp_url: str, redis_url: str, shop: Shop, required: bool
) -> None:
    server = Server(amqp_url, service=shop.service, policies=[Idempotency(RedisStore(redis_url), required=required)])
    server.method(safety="idempotent" if required else "dedup")(shop.create)
    shop.servers.append(server)
    server.start()
    with Client(amqp_url, policies=PATIENT) as client, pytest.raises(Refused, match="idempotency key") as caught:
        client.call(shop.name("create"), safety="unsafe", timeout=5.0)
    with Raw(amqp_url, shop.service) as raw:
        assert raw.ask(call("create"))["error"]["code"] == -32008

    assert (caught.value.certainty, caught.value.retryable) == (Certainty.NOT_EXECUTED, False)
    assert not shop.effects


@pytest.mark.parametrize("key", ["", "k" * 256, 5, True, ["k"], {"k": 1}, b"k"], ids=repr)
def test_a_client_sends_no_key_that_is_none(amqp_url: str, key: Any) -> None:
    with Client(amqp_url) as client, pytest.raises(ConfigurationError, match="1 to 255 characters"):
        client.call("shop.create", idempotency_key=key)


def test_a_key_that_is_none_is_refused_by_the_server_unexecuted(amqp_url: str, redis_url: str, shop: Shop) -> None:
    shop.serve(amqp_url, redis_url)
    with Raw(amqp_url, shop.service) as raw:
        for key in ("", "k" * 256, 5, 1.5, True, ["k"], {"k": 1}):
            error = raw.ask(call("create", key=key))["error"]
            assert error["code"] == -32600, key
            assert error["data"]["executed"] is False
        assert not shop.effects
        longest = raw.ask(call("create", key="ü" * 255))["result"]

    assert [longest] == shop.answers("ü" * 255)


def test_keys_of_any_characters_are_keys_of_their_own(amqp_url: str, redis_url: str, shop: Shop) -> None:
    keys = [
        "a",
        "a:",
        ":a",
        "a:a",
        "{a}",
        "{}",
        "a}b{",
        "a\nb",
        "a\r\nSET x 1",
        "\x00",
        "ä",
        "a\u0308",
        "💥",
        "../a",
        "*",
        " ",
    ]
    shop.serve(amqp_url, redis_url)
    with Raw(amqp_url, shop.service) as raw:
        answers = [raw.ask(call("create", key=key))["result"] for key in keys]
        again = [raw.ask(call("create", key=key))["result"] for key in keys]

    assert answers == again == shop.answers(*keys)


def test_no_header_meta_or_property_of_a_message_chooses_the_tenant(amqp_url: str, redis_url: str, shop: Shop) -> None:
    shop.serve(amqp_url, redis_url, settings={"tenant": "acme"})
    headers = {"tenant": "globex", "x-tenant": "globex", "rpc-tenant": "globex", "principal": "globex"}
    with Raw(amqp_url, shop.service) as raw:
        answers = [
            raw.ask(call("create", key="k"))["result"],
            raw.ask(call("create", key="k"), headers=headers)["result"],
            raw.ask(call("create", key="k", tenant="globex", principal="globex", tags={"tenant": "globex"}))["result"],
            raw.ask(call("create", key="k"), app_id="globex")["result"],
        ]

    assert answers == shop.answers("k") * 4


def test_a_record_holds_a_reply_and_an_end_and_neither_arguments_nor_the_key(
    private_redis: RedisServer, amqp_url: str, shop: Shop
) -> None:
    store = RedisStore(private_redis.url, timeout=2.0)
    shop.serve(amqp_url, store, ttl=100.0, settings={"tenant": "acme-tenant"})
    with Client(amqp_url) as client, looking(private_redis.url) as looked:
        client.call(shop.name("create"), {"sku": "4111-1111"}, idempotency_key="order-of-joe")
        (name,) = looked.keys("*")
        record = looked.hgetall(name)
        left = looked.pttl(name)
    (effect,) = shop.effects
    kept = b" ".join([name, *record, *record.values()])

    assert b"4111" not in kept
    assert b"order-of-joe" not in kept.replace(effect.answer.encode(), b"")
    assert 0 < left <= 100_000
    assert len(kept) < 512 + len(effect.answer)


def test_a_record_that_was_tampered_with_is_neither_executed_nor_shown_and_disturbs_no_other_key(
    private_redis: RedisServer, amqp_url: str, shop: Shop
) -> None:
    store = RedisStore(private_redis.url, timeout=2.0)
    shop.serve(amqp_url, store)
    with Client(amqp_url, policies=PATIENT) as client, looking(private_redis.url) as looked:
        answer = client.call(shop.name("create"), idempotency_key="k")
        (name,) = looked.keys("*")
        good = looked.hgetall(name)
        for tampered in ({"s": "?"}, {"r": "\xff garbage"}, {"e": "no number"}, {"s": "Q"}):
            looked.hset(name, mapping=tampered)
            with pytest.raises(DependencyUnavailable, match="cannot be read") as caught:
                client.call(shop.name("create"), idempotency_key="k", timeout=5.0)
            assert (caught.value.certainty, caught.value.retryable) == (Certainty.NOT_EXECUTED, False)
            assert "garbage" not in repr(caught.value)
            looked.hset(name, mapping=good)
        other = client.call(shop.name("create"), idempotency_key="other")
        again = client.request(shop.name("create"), idempotency_key="k")

    assert [answer, other] == shop.answers("k", "other")
    assert (again.result, again.replayed) == (answer, True)


@pytest.mark.parametrize("hours", [1, -1])
def test_row_36_a_clock_that_jumps_neither_repeats_nor_refuses_nor_forgets_a_call(
    amqp_url: str, redis_url: str, shop: Shop, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.serve(amqp_url, redis_url)
    now, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + jump[0])
    with Client(amqp_url, policies=PATIENT) as client, Raw(amqp_url, shop.service) as raw:
        before = client.call(shop.name("create"), idempotency_key="before")
        held = client.submit(shop.name("hold"), idempotency_key="held", timeout=20.0)
        shop.has_begun()
        jump[0] = hours * 3600.0
        after = client.call(shop.name("create"), idempotency_key="after", timeout=5.0)
        elsewhere = raw.ask(call("create", key="elsewhere", at=int(now() * 1000), ttl=5000))["result"]
        shop.go.set()
        answers = [before, held.result(timeout=10.0), after, elsewhere]
        replays = [client.request(shop.name("create"), idempotency_key=key) for key in ("before", "after", "elsewhere")]

    assert answers == shop.answers("before", "held", "after", "elsewhere")
    assert [reply.result for reply in replays] == [before, after, elsewhere]
    assert all(reply.replayed for reply in replays)


def test_a_dead_letter_keeps_no_credentials_and_no_text_of_the_error(amqp_url: str, shop: Shop) -> None:
    nowhere = f"redis://:s3cret-of-redis@{HOST}:{free_port()}/0"
    with graveyard(amqp_url, shop.service) as yard, Raw(amqp_url, shop.service) as raw:
        shop.serve(amqp_url, RedisStore(nowhere))
        item = call("create", {"sku": "A1"}, key="k")
        raw.channel.basic_publish("", raw.queue, str(item).replace("'", '"').encode())  # nobody can be answered
        until(lambda: yard.depth(yard.dead) == 1)
        shop.servers[0].stop()
        [(properties, _)] = yard.take(yard.dead)
    headers = properties.headers

    assert headers["rpc-dead-reason"] == "refused"
    assert headers["rpc-dead-exception"].endswith("DependencyUnavailable")
    text = str(headers)
    for secret in ("s3cret", "redis://", "amqp://", "guest"):
        assert secret not in text
    assert len(headers["rpc-dead-stack"]) <= 4096
    assert not shop.effects
