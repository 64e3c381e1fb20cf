"""The test servers do what the fault tests believe of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pika
import pytest
import redis

from tests.servers.handle import Broker, Server, ServerError
from tests.servers.ports import speaks_amqp, speaks_redis
from tests.servers.proxy import Proxy, Way


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def test_the_shared_broker_carries_a_message(amqp_url: str, service: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.queue_declare(service, durable=True, auto_delete=True)
    channel.basic_publish("", service, b"hello")
    assert next(channel.consume(service, auto_ack=True, inactivity_timeout=5))[2] == b"hello"
    connection.close()


def test_the_shared_redis_keeps_a_key(redis_url: str, service: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(service, "kept", ex=60)
        assert client.get(service) == b"kept"


def test_a_killed_broker_comes_back_with_its_durable_queue(private_broker: Broker, service: str) -> None:
    url = private_broker.url
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_declare(service, durable=True)
    private_broker.kill()
    assert not private_broker.alive
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port_of(url)), timeout=1)

    began = time.monotonic()
    private_broker.start()

    assert time.monotonic() - began < 30
    assert private_broker.url == url
    assert service in private_broker.ctl("list_queues", "name")


def test_a_frozen_broker_is_silent_until_thawed_and_stops_in_order(private_broker: Broker) -> None:
    port = port_of(private_broker.url)
    private_broker.freeze()
    assert private_broker.alive
    assert not speaks_amqp(port)
    private_broker.thaw()
    assert speaks_amqp(port)

    private_broker.restart()

    assert speaks_amqp(port)
    with pytest.raises(ServerError, match="no_such_command"):
        private_broker.ctl("no_such_command")


def test_a_killed_redis_keeps_what_it_answered(private_redis: Server) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.set("key", "value")
    private_redis.kill()
    assert not private_redis.alive
    private_redis.start()
    with redis.Redis.from_url(private_redis.url) as client:
        assert client.get("key") == b"value"
    private_redis.freeze()
    assert not speaks_redis(port_of(private_redis.url))
    private_redis.thaw()


class TestProxy:
    """Through a proxy before the shared Redis, whose protocol is easy to speak by hand."""

    @pytest.fixture
    def between(self, redis_url: str, proxy: Callable[[str], Proxy]) -> Proxy:
        return proxy(redis_url)

    def connect(self, proxy: Proxy) -> socket.socket:
        return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    def ping(self, connection: socket.socket) -> bytes:
        connection.sendall(b"PING\r\n")
        return connection.recv(64)

    def test_carries_and_counts(self, between: Proxy) -> None:
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PONG\r\n"
            assert between.connections == 1
        assert (between.accepted, between.bytes_up, between.bytes_down) == (1, 6, 7)

    @pytest.mark.parametrize("way", ["up", "down"])
    def test_frozen_one_way_holds_the_bytes_until_thawed(self, between: Proxy, way: Way) -> None:
        with self.connect(between) as connection:
            self.ping(connection)
            between.freeze(way)
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                self.ping(connection)
            assert between.bytes_up == (6 if way == "up" else 12)
            connection.settimeout(5)
            between.thaw()
            assert connection.recv(64) == b"+PONG\r\n"

    def test_delays_in_order(self, between: Proxy) -> None:
        between.delay(0.1, "down")
        with self.connect(between) as connection:
            began = time.monotonic()
            assert self.ping(connection) == b"+PONG\r\n"
            assert 0.1 <= time.monotonic() - began < 2

    def test_reset_ends_connections_and_takes_new_ones(self, between: Proxy) -> None:
        with self.connect(between) as connection:
            self.ping(connection)
            between.reset()
            with pytest.raises(ConnectionResetError):
                self.ping(connection)
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PONG\r\n"

    def test_cut_hands_on_so_many_bytes_and_only_once(self, between: Proxy) -> None:
        between.cut(3, "down")
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PO"
            with pytest.raises(ConnectionResetError):
                connection.recv(64)
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PONG\r\n"

    def test_a_cut_can_be_taken_back_until_it_comes(self, between: Proxy) -> None:
        between.cut(3, "down")
        assert between.spare("down")
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PONG\r\n"
            between.cut(0, "down")
            with pytest.raises(ConnectionResetError):
                self.ping(connection)
        assert not between.spare("down")

    def test_refuses_and_accepts_again(self, between: Proxy) -> None:
        between.refuse()
        with pytest.raises(ConnectionRefusedError):
            self.connect(between)
        between.accept()
        with self.connect(between) as connection:
            assert self.ping(connection) == b"+PONG\r\n"
