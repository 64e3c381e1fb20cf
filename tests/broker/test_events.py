"""Events on a RabbitMQ that is restarted."""

from __future__ import annotations

import threading

import pytest
from typer.testing import CliRunner

from resilient_rpc import Client, Context, RpcError, Server
from resilient_rpc.cli import app
from resilient_rpc.events import DeadLettered
from resilient_rpc.policies import Idempotency, Retry, RetryBudget
from resilient_rpc.stores import MemoryStore
from tests.servers.handle import Broker
from tests.waiting import until

pytestmark = pytest.mark.broker


def test_no_event_is_lost_and_none_takes_effect_twice_while_the_broker_is_killed_and_comes_back(
    private_broker: Broker, service: str
) -> None:
    """Every event of which `publish` said that it is there arrives; of the others nobody was told so."""
    effects: list[int] = []
    dead: list[DeadLettered] = []
    server = Server(private_broker.url, service=service, policies=[Idempotency(MemoryStore())])
    server.on(DeadLettered, dead.append)

    @server.on("orders.created")
    async def note(ctx: Context, n: int) -> None:
        effects.append(n)

    server.start()
    accepted: list[int] = []
    ended = threading.Event()

    def publish() -> None:
        retry = Retry(attempts=50, base=0.05, cap=0.5, budget=RetryBudget.unlimited())
        with Client(private_broker.url, policies=[retry], timeout=60.0) as client:
            for n in range(300):
                try:
                    assert client.publish("orders.created", [n], idempotency_key=str(n))
                except RpcError:
                    continue
                accepted.append(n)
        ended.set()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        until(lambda: len(accepted) > 50)
        private_broker.kill()
        private_broker.start()
        assert ended.wait(90)
        until(lambda: set(accepted) <= set(effects), 30)
    finally:
        thread.join()
        server.stop()
    assert len(accepted) == 300, "with retries nothing had to be given up"
    assert sorted(effects) == list(range(300))
    assert dead == []


def test_a_dead_event_is_sent_again_to_the_service_that_could_not_handle_it(amqp_url: str, service: str) -> None:
    heard: list[tuple[str, int]] = []
    dead: list[DeadLettered] = []
    broken = True

    def serve(suffix: str) -> Server:
        keeper = Idempotency(MemoryStore(), abandon_on=[Exception])
        server = Server(amqp_url, service=service + suffix, policies=[keeper])
        server.on(DeadLettered, dead.append)

        @server.on(f"{service}.created")
        def note(n: int) -> None:
            if broken and not suffix:
                raise OSError("the database is away")
            heard.append((suffix, n))

        server.start()
        return server

    servers = [serve(""), serve("b")]
    try:
        with Client(amqp_url) as client:
            assert client.publish(f"{service}.created", [1])
        until(lambda: dead and heard)
        broken = False
        words = ["dead", "replay", service, "--queue", f"rpc.{service}.events"]
        done = CliRunner().invoke(app, words, env={"RESILIENT_RPC_URL": amqp_url})
        assert done.exit_code == 0, done.output
        assert "1 replayed" in done.output
        until(lambda: len(heard) == 2)
    finally:
        for server in servers:
            server.stop()
    assert sorted(heard) == [("", 1), ("b", 1)]
    assert [each.reason for each in dead] == ["failed"]
