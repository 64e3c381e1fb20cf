"""A replay of dead letters keeps their senders' names, and so their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pika
import pytest
from typer.testing import CliRunner

from resilient_rpc import Client, Context, Server
from resilient_rpc.cli import app
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import MemoryStore
from tests.broker.dead import Graveyard, graveyard
from tests.servers.handle import Broker
from tests.waiting import until


@pytest.fixture
def yard(private_broker: Broker, service: str) -> Iterator[Graveyard]:
    for user in ("joe", "shop"):
        private_broker.ctl("add_user", f"{user}-{service}", "w0rd")
        private_broker.ctl("set_permissions", f"{user}-{service}", ".*", ".*", ".*")
    with graveyard(private_broker.url, service) as made:
        yield made


def url(yard: Graveyard, user: str) -> str:
    return yard.url.replace("guest:guest", f"{user}-{yard.service}:w0rd")


def replay(yard: Graveyard, at: str) -> str:
    return CliRunner().invoke(app, ["dead", "replay", yard.service, "--url", at]).stdout


def test_what_was_done_under_a_key_is_not_done_again_by_a_replay(yard: Graveyard) -> None:
    done: list[str | None] = []
    server = Server(
        url(yard, "shop"), service=yard.service, require_user_id=True, policies=[Idempotency(MemoryStore())]
    )

    @server.method(safety="dedup")
    def price(ctx: Context, number: int) -> None:
        done.append(ctx.principal)

    def bury(number: int) -> None:
        """As the broker does with what was rejected: the sender's name stays."""
        meta = {"key": f"k{number}", "safety": "dedup"}
        body = {"jsonrpc": "2.0", "method": "price", "params": [number], "meta": meta}
        headers = {"rpc-version": "1", "rpc-method": "price", "rpc-dead-queue": yard.queue}
        properties = pika.BasicProperties(headers=headers, user_id=f"joe-{yard.service}")
        with pika.BlockingConnection(pika.URLParameters(url(yard, "joe"))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", yard.dead, json.dumps(body).encode(), properties, mandatory=True)

    server.start()
    try:
        with Client(url(yard, "joe"), user_id=True) as client:
            client.call(f"{yard.service}.price", [1], idempotency_key="k1")
        bury(1)
        bury(2)
        assert replay(yard, url(yard, "shop")) == f"2 replayed to {yard.queue}\n"
        until(lambda: yard.depth(yard.queue) == 0 and server.health()["unacked"] == 0 and len(done) == 2)
        assert done == [f"joe-{yard.service}"] * 2
        bury(3)
        assert (
            replay(yard, yard.url) == f"1 replayed to {yard.queue}\n"
        )  # by a stranger: it is not believed who sent it
        until(lambda: yard.depth(yard.dead) == 1)
    finally:
        server.stop()
    assert len(done) == 2
    [(properties, _)] = yard.take(yard.dead)
    assert properties.headers["rpc-dead-reason"] == "refused"
