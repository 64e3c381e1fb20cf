"""A call that ends every process that runs it (row 27 of the fault matrix): it is given up, the others are not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pika
import pytest
from typer.testing import CliRunner

from resilient_rpc import Classic, Client, Quorum
from resilient_rpc.cli import app
from resilient_rpc.transport.deadletters import label
from tests.broker.dead import Graveyard, graveyard
from tests.faults.group import PATIENT
from tests.faults.keyed import Shop
from tests.faults.poisoned import LIMIT
from tests.faults.raw import call
from tests.waiting import until


@contextmanager
def supervised(yard: Graveyard, kind: str, *more: str) -> Iterator[list[int]]:
    """A server that is started again whenever it dies; what its processes ended with."""
    ended: list[int] = []
    stop = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def supervise() -> None:
        while not stop.is_set():
            command = [sys.executable, "-m", "tests.faults.poisoned", yard.url, yard.service, kind, *more]
            running.append(process := subprocess.Popen(command))
            if stop.is_set():  # whoever said so may have killed the one before
                process.kill()
            ended.append(process.wait())

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        running[-1].kill()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_poisonous_call_ends_with_the_dead_and_the_others_are_answered(
    amqp_url: str, service: str, kind: str
) -> None:
    with graveyard(amqp_url, service) as yard:
        yard.declare(Quorum(delivery_limit=LIMIT) if kind == "quorum" else Classic(delivery_limit=LIMIT))
        with Client(amqp_url, batching=None, policies=[]) as client:
            doomed = client.submit(f"{service}.poison", safety="idempotent", timeout=120.0)
            others = [
                client.submit(f"{service}.price", {"n": n}, safety="idempotent", timeout=120.0)
                for n in range(20 if kind == "classic" else 0)
            ]
            with supervised(yard, kind) as ended:
                until(lambda: yard.depth(yard.dead) == 1, 90)
                until(lambda: ended.count(9) > LIMIT, 10)  # the broker may know of an end before we do
                # One more only if a process ended between a confirm and the ack that followed it.
                assert ended.count(9) <= LIMIT + 3
                assert [each.result(timeout=30) for each in others] == list(range(len(others)))
                assert client.call(f"{service}.price", {"n": 7}, timeout=30.0) == 7
            doomed.cancel()
        letters = yard.take(yard.dead)
        assert len({properties.message_id for properties, _ in letters}) == 1
        found = letters[0][0].headers
        if kind == "classic":
            assert (found["rpc-dead-reason"], found["rpc-dead-attempts"]) == ("delivery_limit", LIMIT + 1)
        else:
            assert found["x-first-death-reason"] == "delivery_limit"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_row_27_a_poisonous_call_with_a_key_ends_with_the_dead_and_the_keys_beside_it_take_effect_once(
    amqp_url: str, redis_url: str, service: str, kind: str
) -> None:
    with graveyard(amqp_url, service) as yard:
        yard.declare(Quorum(delivery_limit=LIMIT) if kind == "quorum" else Classic(delivery_limit=LIMIT))
        with Client(amqp_url, batching=None, policies=[]) as client:
            doomed = client.submit(f"{service}.poison", idempotency_key="poison", timeout=120.0)
            keys = [str(n) for n in range(20 if kind == "classic" else 0)]
            others = [
                client.submit(f"{service}.price", {"n": int(key)}, idempotency_key=key, timeout=120.0) for key in keys
            ]
            with supervised(yard, kind, redis_url) as ended:
                until(lambda: yard.depth(yard.dead) == 1, 90)
                until(lambda: ended.count(9) > LIMIT, 10)
                assert ended.count(9) <= LIMIT + 3
                assert [each.result(timeout=30) for each in others] == [int(key) for key in keys]
                again = [
                    client.request(f"{service}.price", {"n": int(key)}, idempotency_key=key, timeout=30.0)
                    for key in keys
                ]
                assert all(reply.replayed for reply in again)
            assert not doomed.done()  # nobody can say what it did
            doomed.cancel()
        [(properties, body)] = yard.take(yard.dead)
        assert b'"key":"poison"' in body
        reason = "rpc-dead-reason" if kind == "classic" else "x-first-death-reason"
        assert properties.headers[reason] == "delivery_limit"


@pytest.mark.timeout(120)
def test_a_dead_letter_that_is_replayed_twice_takes_effect_once_by_its_key(
    amqp_url: str, redis_url: str, service: str
) -> None:
    with graveyard(amqp_url, service) as yard, Shop(service) as shop:
        shop.serve(amqp_url, redis_url)
        body = json.dumps(call("create", {"sku": "A1"}, key="k")).encode()
        for _ in range(2):  # a replay that was killed leaves a letter behind that it has sent
            headers = label("failed", None, queue=yard.queue, attempts=1, server="s1")
            properties = pika.BasicProperties(
                headers=headers, message_id="m1", content_type="application/json", delivery_mode=2
            )
            yard.channel.basic_publish("", yard.dead, body, properties, mandatory=True)
            result = CliRunner().invoke(app, ["dead", "replay", service, "--url", amqp_url])
            assert result.stdout == f"1 replayed to {yard.queue}\n", result.output
        with Client(amqp_url, policies=PATIENT) as client:
            again = client.request(f"{service}.create", {"sku": "A1"}, idempotency_key="k", timeout=20.0)
        until(lambda: yard.depth(yard.queue) == 0)
        shop.servers[0].stop()

        assert [again.result] == shop.answers("k")
        assert yard.take(yard.dead) == []
