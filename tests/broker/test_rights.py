"""The users of docs/deployment.md on a real RabbitMQ: calls work under their rights, the rest is refused."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ProbableAccessDeniedError
from typer.testing import CliRunner

from resilient_rpc import AsyncClient, Client, Context, Quorum, RpcError, Server, Unroutable
from resilient_rpc.cli import app
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.events import ConnectionStateChanged
from resilient_rpc.replies import Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.control import REACHED
from tests.docs.blocks import DOCS, blocks_of, rows_of
from tests.servers.handle import Broker
from tests.waiting import turns, until

ACCESS_REFUSED = 403
QUEUES = ("list_queues", "-p", "shop", "name")
(SAMPLE,) = [block.body for block in blocks_of(DOCS / "deployment.md", "bash") if block.title == "rabbitmq-users.sh"]


@dataclass(frozen=True)
class Sample:
    """The vhost of the sample, as each of its users sees it."""

    broker: Broker
    servers: str
    clients: str
    operators: str
    admin: str


@pytest.fixture(scope="module")
def sample(mistreated_broker: Broker) -> Sample:
    commands = [shlex.split(line, comments=True) for line in SAMPLE.splitlines()]
    passwords = {words[2]: words[3] for words in commands if words[1:2] == ["add_user"]}
    assert len(passwords) == 3
    for words in filter(None, commands):
        assert words[0] == "rabbitmqctl"
        mistreated_broker.ctl(*words[1:])
    mistreated_broker.ctl("set_permissions", "-p", "shop", "guest", ".*", ".*", ".*")
    at = urlsplit(mistreated_broker.url)
    urls = {name: f"amqp://{name}:{password}@{at.hostname}:{at.port}/shop" for name, password in passwords.items()}
    admin = f"amqp://guest:guest@{at.hostname}:{at.port}/shop"
    found = Sample(mistreated_broker, urls["orders-server"], urls["shop-client"], urls["shop-operator"], admin)
    allowed(admin, lambda channel: channel.queue_declare("rpc.reply.shop.of-somebody", durable=True))
    allowed(admin, lambda channel: channel.queue_declare("rpc.billing", durable=True))
    return found


@pytest.fixture
def orders(sample: Sample) -> Iterator[Server]:
    server = Server(sample.servers, service="orders")

    @server.method
    def price(sku: str) -> float:
        return 9.5

    server.start()
    yield server
    server.stop()


def allowed(url: str, act: Callable[[Any], Any]) -> Any:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        return act(connection.channel())


def refused(url: str, act: Callable[[Any], Any]) -> None:
    with pytest.raises(ChannelClosedByBroker) as caught:
        allowed(url, act)
    assert caught.value.reply_code == ACCESS_REFUSED


def test_calls_work_under_these_rights(sample: Sample, orders: Server) -> None:
    with Client(sample.clients, safety="read_only") as client:
        assert client.call("orders.price", ["A1"]) == 9.5
        assert client.map("orders.price", [["A1"]] * 50) == [9.5] * 50
        with pytest.raises(Unroutable):
            client.call("nobody.price", ["A1"], timeout=5)
        [(_, answer)] = client.broadcast("orders.price", ["A1"], timeout=10, expect=1)
        assert answer == 9.5


def test_a_server_may_do_all_that_it_wants_to(sample: Sample, orders: Server, caplog: pytest.LogCaptureFixture) -> None:
    def declared() -> set[str]:
        names = sample.broker.ctl(*QUEUES).split()
        return {pattern for pattern in ("rpc.control.", "rpc.orders.all.") if any(n.startswith(pattern) for n in names)}

    until(lambda: len(declared()) == 2)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize("may_say_so", [True, False])
def test_a_caller_that_gives_up_can_say_so_and_without_the_right_to_it_harms_no_other_call(
    sample: Sample, may_say_so: bool
) -> None:
    url = sample.clients
    if not may_say_so:
        name = "mute-client"
        sample.broker.ctl("add_user", name, "change-me-7")
        sample.broker.ctl("set_permissions", "-p", "shop", name, "^$", r"^amq\.default$", "^$")
        at = urlsplit(sample.broker.url)
        url = f"amqp://{name}:change-me-7@{at.hostname}:{at.port}/shop"

    async def main() -> int:
        begun, server = asyncio.Event(), Server(sample.servers, service="orders", grace=0.5)

        @server.method
        async def slow() -> None:
            begun.set()
            await asyncio.sleep(60)

        @server.method(safety="read_only")
        async def price(sku: str) -> float:
            return 9.5

        async with server, AsyncClient(url, policies=[], timeout=20) as client:
            lost: list[ConnectionStateChanged] = []
            client.on(ConnectionStateChanged, lambda event: lost.append(event) if event.state == "lost" else None)
            async with asyncio.timeout(30.0):
                while "rpc.control." not in await asyncio.to_thread(sample.broker.ctl, *QUEUES):
                    pass
            given_up = client.submit("orders.slow")
            await begun.wait()
            given_up.cancel()
            for _ in range(20):
                assert await client.call("orders.price", ["A1"]) == 9.5
            if may_say_so:
                await turns(lambda: server.health()["cancelled"] == 1)
            assert lost == []
            return int(server.health()["cancelled"])

    assert asyncio.run(main()) == may_say_so


REPLIES = {row[0]: row[1] for row in rows_of(DOCS / "deployment.md", "Users and rights")}


@pytest.mark.parametrize(
    "strategy", [Exclusive(), Pool(), PerCall(), Named(app="shop")], ids=lambda each: type(each).__name__
)
def test_reply_queues_need_the_rights_of_the_table_and_no_others(sample: Sample, orders: Server, strategy: Any) -> None:
    [pattern] = [text for names, text in REPLIES.items() if type(strategy).__name__ in names]
    name = f"client-{type(strategy).__name__}"
    sample.broker.ctl("add_user", name, "change-me-8")
    at = urlsplit(sample.broker.url)
    url = f"amqp://{name}:change-me-8@{at.hostname}:{at.port}/shop"
    sample.broker.ctl("set_permissions", "-p", "shop", name, "^$", r"^amq\.default$", "^$")
    with Client(url, replies=strategy) as client, pytest.raises(RpcError):
        client.call("orders.price", ["A1"], timeout=1)
    sample.broker.ctl("set_permissions", "-p", "shop", name, pattern, r"^amq\.default$", pattern)
    with Client(url, replies=strategy) as client:
        assert client.call("orders.price", ["A1"], timeout=20) == 9.5


def test_a_server_that_may_not_hear_broadcasts_serves_all_the_same(
    sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    rights = r"^(amq\.default|rpc\.(dead|deaf(\.(dead|expired))?))$"
    sample.broker.ctl("add_user", "deaf-server", "change-me-9")
    sample.broker.ctl("set_permissions", "-p", "shop", "deaf-server", rights, rights, rights)
    at = urlsplit(sample.broker.url)
    server = Server(f"amqp://deaf-server:change-me-9@{at.hostname}:{at.port}/shop", service="deaf")
    server.method(lambda: 1, name="one")  # type: ignore[arg-type, call-overload]
    server.start()
    try:
        with Client(sample.clients) as client:
            assert client.call("deaf.one", timeout=20) == 1
            with pytest.raises(Unroutable, match="broadcasts"):
                client.broadcast("deaf.one", timeout=5)
    finally:
        server.stop()
    assert "broadcasts are not heard here" in caplog.text


@pytest.mark.parametrize("user", ["clients", "operators"])
def test_who_has_the_right_cancels_and_who_has_not_calls_on(sample: Sample, user: str) -> None:
    begun: list[int] = []
    server = Server(sample.servers, service="orders", grace=0.2)

    @server.method
    async def wait(seconds: float) -> float:
        begun.append(1)
        await asyncio.sleep(seconds)
        return seconds

    server.start()
    states: list[str] = []
    try:
        until(lambda: _control_queue(server))
        with Client(getattr(sample, user)) as client:
            client.on(ConnectionStateChanged, lambda event: states.append(event.state))
            future = client.submit("orders.wait", [60.0], timeout=60)
            until(lambda: begun)
            assert future.cancel()
            if user == "clients":
                until(lambda: server.health()["cancelled"] == 1)
            else:
                until(lambda: REACHED not in _reached(client) != [])
            assert client.call("orders.wait", [0.01], timeout=20) == 0.01
    finally:
        server.stop()
    assert states == ["connected"], "the session goes on in both cases"


def _control_queue(server: Server) -> str:
    assert server._serving is not None
    return server._serving.session.control if server._serving.session is not None else ""


def _reached(client: Client) -> list[float]:
    """What is known of control exchanges."""
    assert client._caller is not None
    assert client._caller.pool is not None
    return list(client._caller.pool.links[0]._control._reached.values())


@pytest.fixture
def heard(sample: Sample) -> Iterator[list[str]]:
    """What the servers of the sample hear of orders."""
    seen: list[str] = []
    server = Server(sample.servers, service="orders")

    @server.on("orders.*")
    def note(ctx: Context) -> None:
        seen.append(ctx.method)

    @server.method
    def price(sku: str) -> float:
        return 9.5

    server.start()
    yield seen
    server.stop()
    allowed(sample.admin, lambda channel: channel.queue_delete("rpc.orders.events"))


def test_events_are_published_and_heard_under_them(sample: Sample, heard: list[str]) -> None:
    for url in (sample.clients, sample.servers):
        with Client(url) as client:
            assert client.publish("orders.created", timeout=20)
            assert not client.publish("stock.moved", timeout=20)
    until(lambda: heard == ["orders.created"] * 2)
    refused(sample.clients, lambda channel: channel.queue_bind("rpc.orders.events", "rpc.events", "stock.*"))
    refused(sample.clients, lambda channel: channel.exchange_delete("rpc.events"))


def test_who_may_not_publish_events_is_told_so_and_calls_on(sample: Sample, heard: list[str]) -> None:
    states: list[str] = []
    with Client(sample.operators, policies=[], timeout=20) as client:
        client.on(ConnectionStateChanged, lambda event: states.append(event.state))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="403 ACCESS_REFUSED"):
                client.publish("orders.created")
            assert client.call("orders.price", ["A1"]) == 9.5
    assert states == ["connected"]
    assert heard == []


def test_rights_may_be_given_by_the_names_of_events_and_a_refused_one_takes_no_other_along(
    sample: Sample, heard: list[str]
) -> None:
    name = "orders-teller"
    sample.broker.ctl("add_user", name, "change-me-6")
    sample.broker.ctl("set_permissions", "-p", "shop", name, "^$", r"^rpc\.events$", "^$")
    sample.broker.ctl("set_topic_permissions", "-p", "shop", name, "rpc.events", r"^orders\.", "^$")
    at = urlsplit(sample.broker.url)

    async def main() -> list[Any]:
        url = f"amqp://{name}:change-me-6@{at.hostname}:{at.port}/shop"
        async with AsyncClient(url, timeout=20) as client:
            names = ["orders.created", "stock.moved", "orders.paid"] * 5
            return await asyncio.gather(*map(client.publish, names), return_exceptions=True)

    found = asyncio.run(main())
    assert {type(each) for each in found[1::3]} == {ConfigurationError}
    assert all("'stock.moved'" in str(each) for each in found[1::3])
    assert found[0::3] == found[2::3] == [True] * 5
    until(lambda: {"orders.created", "orders.paid"} == set(heard) and len(heard) >= 10)


def test_a_quorum_queue_can_be_declared_under_them(sample: Sample) -> None:
    allowed(sample.admin, lambda channel: channel.queue_delete("rpc.orders"))
    server = Server(sample.servers, service="orders", queue=Quorum())
    server.method(lambda: 1, name="one")  # type: ignore[arg-type, call-overload]
    server.start()
    try:
        with Client(sample.clients) as client:
            assert client.call("orders.one", timeout=20) == 1
    finally:
        server.stop()
        allowed(sample.admin, lambda channel: channel.queue_delete("rpc.orders"))


def test_dead_letters_find_their_way_and_an_operator_sees_them(sample: Sample, orders: Server) -> None:
    def dead() -> int:
        return int(allowed(sample.operators, lambda channel: channel.queue_declare("rpc.orders.dead", passive=True))
                   .method.message_count)  # fmt: skip

    before = dead()
    allowed(sample.clients, lambda channel: channel.basic_publish("", "rpc.orders", b"no request"))
    until(lambda: dead() == before + 1)
    shown = CliRunner().invoke(app, ["dead", "list", "orders"], env={"RESILIENT_RPC_URL": sample.operators})
    assert shown.exit_code == 0, shown.output
    purged = CliRunner().invoke(app, ["dead", "purge", "orders", "--yes"], env={"RESILIENT_RPC_URL": sample.operators})
    assert purged.exit_code == 0, purged.output
    assert dead() == 0


CONSUMING: dict[str, Callable[[Any, str], Any]] = {
    "consume": lambda channel, queue: channel.basic_consume(queue, print),
    "get": lambda channel, queue: channel.basic_get(queue),
    "purge": lambda channel, queue: channel.queue_purge(queue),
    "delete": lambda channel, queue: channel.queue_delete(queue),
    "declare": lambda channel, queue: channel.queue_declare(queue, durable=True),
    "bind": lambda channel, queue: channel.queue_bind(queue, "amq.direct"),
}


@pytest.mark.parametrize("act", CONSUMING.values(), ids=CONSUMING)
@pytest.mark.parametrize("queue", ["rpc.orders", "rpc.orders.dead", "rpc.reply.shop.of-somebody"])
def test_a_client_cannot_take_requests_nor_the_replies_of_others(
    sample: Sample, orders: Server, act: Callable[[Any, str], Any], queue: str
) -> None:
    refused(sample.clients, lambda channel: act(channel, queue))


@pytest.mark.parametrize("act", CONSUMING.values(), ids=CONSUMING)
@pytest.mark.parametrize("queue", ["rpc.reply.shop.of-somebody", "rpc.billing"])
def test_a_server_cannot_read_replies_nor_what_belongs_to_other_services(
    sample: Sample, act: Callable[[Any, str], Any], queue: str
) -> None:
    refused(sample.servers, lambda channel: act(channel, queue))


def publishing(exchange: str) -> Callable[[Any], Any]:
    def act(channel: Any) -> None:
        channel.confirm_delivery()
        channel.basic_publish(exchange, "", b"")

    return act


def test_nobody_publishes_elsewhere(sample: Sample, orders: Server) -> None:
    for url in (sample.clients, sample.servers, sample.operators):
        refused(url, publishing("amq.direct"))
    for url in (sample.clients, sample.operators):
        refused(url, publishing("rpc.dead"))


def test_an_operator_reads_no_requests_and_declares_nothing(sample: Sample, orders: Server) -> None:
    for act in CONSUMING.values():
        refused(sample.operators, lambda channel, act=act: act(channel, "rpc.orders"))
    refused(sample.operators, lambda channel: channel.exchange_declare("mine"))


def test_nobody_comes_into_another_vhost(sample: Sample) -> None:
    for url in (sample.clients, sample.servers, sample.operators):
        with pytest.raises(ProbableAccessDeniedError):
            allowed(url.removesuffix("/shop") + "/%2F", lambda channel: None)


def test_a_server_with_the_rights_of_another_service_does_not_start_and_says_why(sample: Sample) -> None:
    server = Server(sample.servers, service="billing")
    server.method(lambda: 1, name="one")  # type: ignore[arg-type, call-overload]
    with pytest.raises(ConfigurationError, match="403 ACCESS_REFUSED"):
        server.start()
