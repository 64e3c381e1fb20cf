"""Rows 14 to 18 and 40 of the fault matrix for calls with a key: odd messages, lost callers, batches (`README.md`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from resilient_rpc import Certainty, Client
from resilient_rpc.errors import DeadlineExceeded, Expired, KeyReused
from tests.faults.group import MACHINE, PATIENT, Watch
from tests.faults.keyed import Shop
from tests.faults.raw import Raw, call
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.ledger import read
from tests.faults.soak.run import wait_for_servers
from tests.faults.soak.server import command
from tests.faults.tools import eventually
from tests.servers.proxy import Proxy

pytestmark = [pytest.mark.broker, pytest.mark.fault, pytest.mark.timeout(120)]


def test_row_14_duplicates_of_a_message_that_was_not_redelivered_take_effect_once_and_are_answered_alike(
    amqp_url: str, redis_url: str, shop: Shop
) -> None:
    for _ in range(2):
        shop.serve(amqp_url, redis_url)
    with Raw(amqp_url, shop.service) as raw:
        for _ in range(4):
            raw.send(call("hold", key="k"))
        shop.has_begun()
        shop.go.set()
        said = [raw.reply() for _ in range(4)]
        said.append(raw.ask(call("hold", key="k"), correlation_id="later"))

    assert {reply["result"] for reply in said} == set(shop.answers("k"))


def test_row_15_a_key_with_other_arguments_is_refused_while_the_first_runs_and_after_it(
    amqp_url: str, redis_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, redis_url)
    with Client(amqp_url, policies=PATIENT) as client:
        first = client.submit(shop.name("hold"), {"sku": "secret"}, idempotency_key="k", timeout=20.0)
        shop.has_begun()
        errors = [_reused(client, shop)]
        shop.go.set()
        answer = first.result(timeout=10.0)
        errors.append(_reused(client, shop))

    assert [answer] == shop.answers("k")
    for error in errors:
        assert (error.code, error.certainty, error.retryable) == (-32004, Certainty.NOT_EXECUTED, False)
        assert answer not in str(error)
        assert "secret" not in str(error)


def _reused(client: Client, shop: Shop) -> KeyReused:
    with pytest.raises(KeyReused) as caught:
        client.call(shop.name("hold"), {"sku": "other"}, idempotency_key="k", timeout=5.0)
    return caught.value


def test_row_16_forged_late_and_foreign_replies_are_dropped_and_counted_and_the_call_gets_its_own(
    amqp_url: str, redis_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, redis_url)
    with Raw(amqp_url, f"{shop.service}spy") as spy, Client(amqp_url, policies=[]) as client:
        spy.channel.queue_declare(spy.queue, exclusive=True)
        client.call(shop.name("look"))  # it is connected
        late = client.submit(f"{shop.service}spy.look", timeout=0.5)
        asked: list[pika.BasicProperties] = []
        eventually(lambda: _taken(spy, asked), "the request to the spy")
        (known,) = asked
        assert isinstance(late.exception(timeout=5.0), DeadlineExceeded)
        held = client.submit(shop.name("hold"), idempotency_key="k", timeout=20.0)
        shop.has_begun()
        result = b'{"jsonrpc":"2.0","result":"forged","id":%d}'
        forged = [
            (known.correlation_id, result % 1),  # late: nobody waits for it any more
            (known.correlation_id, result % 2),  # the number of another call, with the token of this service
            ("somebody.2", result % 2),
            ("", result % 2),
            ("x" * 255, b"\xff\x00garbage"),
        ]
        before = client.stats().unknown_replies
        for correlation_id, body in forged * 2:
            spy.channel.basic_publish(
                "",
                known.reply_to,
                body,
                pika.BasicProperties(
                    correlation_id=correlation_id, content_type="application/json", headers={"rpc-version": "1"}
                ),
            )
        eventually(lambda: client.stats().unknown_replies >= before + 2 * 4, "dropped replies")
        assert not held.done()
        shop.go.set()
        answer = held.result(timeout=10.0)
        assert client.stats().pending == 0

    assert [answer] == shop.answers("k")


def _taken(spy: Raw, asked: list[pika.BasicProperties]) -> bool:
    method, properties, _ = spy.channel.basic_get(spy.queue, auto_ack=True)
    if method is not None:
        asked.append(properties)
    return bool(asked)


@pytest.mark.parametrize("address", ["direct", "queue"])
def test_row_17_the_answer_for_a_caller_that_died_is_acked_at_once_and_kept_for_its_next_life(
    amqp_url: str, redis_url: str, shop: Shop, proxy: Callable[[str], Proxy], address: str
) -> None:
    server, way = shop.serve(amqp_url, redis_url), proxy(amqp_url)
    with Raw(way.url, shop.service) as caller, Client(amqp_url, policies=[]) as client:
        reply_to = None
        if address == "direct":
            reply_to = "amq.rabbitmq.reply-to"
            caller.channel.basic_consume(reply_to, lambda *_: None, auto_ack=True)
        caller.send(call("hold", key="k"), reply_to=reply_to)
        shop.has_begun()
        way.reset()
        shop.go.set()
        watch = Watch()
        eventually(lambda: not server.health()["unacked"], "the ack", 5.0)
        assert watch.seconds < 1.0 + MACHINE
        again = client.request(shop.name("hold"), idempotency_key="k", timeout=10.0)

    assert [again.result] == shop.answers("k")
    assert again.replayed


def test_row_18_a_keyed_call_that_expired_in_the_queue_leaves_neither_effect_nor_record(
    amqp_url: str, redis_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, redis_url, settings={"concurrency": 1, "prefetch": 1})
    with Client(amqp_url, policies=[], batching=None) as client:
        for _ in range(2):  # by how much the clocks differ is known from earlier calls
            client.call(shop.name("look"))
        held = client.submit(shop.name("hold"), idempotency_key="held", timeout=20.0)
        shop.has_begun()
        watch = Watch()
        with pytest.raises((DeadlineExceeded, Expired)):
            client.call(shop.name("create"), {"sku": "A1"}, idempotency_key="late", timeout=0.3)
        assert watch.seconds < 0.3 + MACHINE
        shop.go.set()
        held.result(timeout=10.0)
        client.call(shop.name("look"))
        assert shop.counts()["late"] == 0
        answer = client.call(shop.name("create"), {"sku": "another order"}, idempotency_key="late", timeout=10.0)

    assert [answer] == shop.answers("late")  # with other arguments: there was no record


def test_row_40_of_a_batch_every_call_has_its_own_outcome_and_what_is_known_is_not_done_again(
    amqp_url: str, redis_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, redis_url)
    with Raw(amqp_url, shop.service) as raw:
        known = raw.ask(call("create", {"sku": "A"}, key="known"))["result"]
        said = raw.ask(
            [
                call("create", {"sku": "A"}, key="known", number=1),
                call("create", {"sku": "B"}, key="known", number=2),
                call("create", {"sku": 5}, key="bad", number=3),
                call("create", {"sku": "A"}, key="new", number=4),
                call("create", {"sku": "A"}, key="new", number=5),
                call("create", {"sku": "A"}, number=6),
                call("nothing", key="new", number=7),
            ]
        )
    outcomes = {item["id"]: item.get("result", item.get("error", {}).get("code")) for item in said}
    (new,) = shop.answers("new")

    assert outcomes == {1: known, 2: -32004, 3: -32602, 4: new, 5: new, 6: -32008, 7: -32601}
    assert dict(shop.counts()) == {"known": 1, "new": 1}


@pytest.mark.parametrize("point", ["before_effect", "after_effect", "after_complete"])
def test_row_40_a_batch_whose_server_dies_in_the_middle_is_finished_by_another_and_nothing_done_is_done_again(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path, point: str
) -> None:
    keys = [f"{service}-{n}" for n in range(6)]
    items = [call("deliver", {"seconds": 0.2} if n else {}, key=key, number=n) for n, key in enumerate(keys)]
    items[3]["params"] = {"seconds": 0.8, "crash": point}  # the others have ended, but for its first point
    with Fleet(command(amqp_url, redis_url, service, tmp_path, 1.0), tmp_path, size=2) as fleet:
        wait_for_servers(amqp_url, service, fleet)
        with Raw(amqp_url, service) as raw:
            said = raw.ask(items)
            again = raw.ask(items, correlation_id="again")
        assert len(fleet.pids) == 1
    effects = [line for line in read(tmp_path / "ledger") if line.kind == "effect"]
    recorded = {(line.key, line.epoch) for line in read(tmp_path / "ledger") if line.kind == "recorded"}

    assert [item["id"] for item in sorted(said, key=lambda item: item["id"])] == list(range(6))
    last = {line.key: line.token for line in sorted(effects, key=lambda line: line.epoch)}
    for reply in (said, again):
        assert {keys[item["id"]]: item["result"] for item in reply} == last
    for key in keys:
        mine = [line for line in effects if line.key == key]
        assert not any((key, line.epoch) in recorded for line in mine[:-1]), "what was recorded was done again"
        if point != "before_effect":
            assert len(mine) == 1 + (key == keys[3] and point == "after_effect")


def test_row_14_repeats_from_many_threads_at_once_take_effect_once(amqp_url: str, redis_url: str, shop: Shop) -> None:
    for _ in range(2):
        shop.serve(amqp_url, redis_url)
    with Client(amqp_url, policies=PATIENT) as client:
        start = threading.Barrier(16)
        found: list[Any] = []

        def repeat() -> None:
            start.wait()
            found.append(client.call(shop.name("create"), idempotency_key="k", timeout=20.0))

        threads = [threading.Thread(target=repeat) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == shop.answers("k") * 16
