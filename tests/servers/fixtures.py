"""The fixtures that hand real servers to tests. These mark a test that asks for one: `broker`, `redis`, `fault`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.servers import choose
from tests.servers.handle import Broker, Server
from tests.servers.proxy import Proxy
from tests.servers.rabbit_cluster import RabbitCluster
from tests.servers.redis_groups import RedisCluster, Sentinels

# Those that start something. Whoever asks for what is made of them asks for them, too, as pytest sees it.
BROKER_FIXTURES = {"broker", "mistreated_broker", "rabbit_cluster"}
REDIS_FIXTURES = {"redis_server", "private_redis", "redis_cluster", "sentinels"}
FAULT_FIXTURES = {"mistreated_broker", "rabbit_cluster", "private_redis", "proxy", "redis_cluster", "sentinels"}


def pytest_report_header() -> list[str]:
    """Say where the servers come from."""
    return [f"{name}: {origin or 'none found'}" for name, origin in choose.origins().items()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers they ask for, so that `-m 'not broker'` never forgets one."""
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        if asked & BROKER_FIXTURES:
            item.add_marker("broker")
        if asked & REDIS_FIXTURES:
            item.add_marker("redis")
        if asked & FAULT_FIXTURES:
            item.add_marker("fault")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The RabbitMQ all tests share: never kill it, and use names made from `service`."""
    with choose.broker() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """The Redis all tests share: never kill or flush it, and use keys made from `service`."""
    with choose.redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def amqp_url(broker: Broker) -> str:
    """Where the shared RabbitMQ is."""
    return broker.url


@pytest.fixture(scope="session")
def redis_url(redis_server: Server) -> str:
    """Where the shared Redis is."""
    return redis_server.url


@pytest.fixture
def service() -> str:
    """A name nobody else uses: for a service, a queue, a prefix of keys."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def mistreated_broker() -> Iterator[Broker]:
    """See `private_broker`."""
    with choose.broker(private=True) as server:
        yield server


@pytest.fixture
def private_broker(mistreated_broker: Broker) -> Broker:
    """A RabbitMQ that may be killed, frozen and reconfigured, if it is as it was when the test ends.

    One that a test before has killed, and failed, is started again: the others are to say what they find themselves.
    """
    if not mistreated_broker.alive:
        mistreated_broker.start()
    return mistreated_broker


@pytest.fixture
def rabbit_cluster() -> Iterator[RabbitCluster]:
    """A RabbitMQ of three nodes, of this test alone: it takes some 20 s to start."""
    with RabbitCluster() as cluster:
        yield cluster


@pytest.fixture
def private_redis() -> Iterator[Server]:
    """A Redis of this test alone."""
    with choose.redis_server(private=True) as server:
        yield server


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters, for this test module: leave it running, with every slot where it was."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """A Redis with a replica and three sentinels, of this test alone."""
    with Sentinels() as group:
        yield group


@pytest.fixture
def proxy() -> Iterator[Callable[[str], Proxy]]:
    """`proxy(url)` puts a proxy before a server; its `.url` is the one to use."""
    with contextlib.ExitStack() as opened:
        yield lambda url: opened.enter_context(Proxy(url))
