"""The password of a broker stands in no log, error, repr or health, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest

from resilient_rpc import Client, RpcError, Server, log_events
from resilient_rpc.stores import RedisStore
from tests.servers.handle import Broker

PASSWORD = "pässw:rd/of@app"  # what has to be encoded, too


@pytest.fixture(scope="module")
def url(mistreated_broker: Broker) -> str:
    mistreated_broker.ctl("add_user", "app", PASSWORD)
    mistreated_broker.ctl("set_permissions", "app", ".*", ".*", ".*")
    at = urlsplit(mistreated_broker.url)
    return f"amqp://app:{quote(PASSWORD, safe='')}@{at.hostname}:{at.port}/"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What a test adds to what is looked through at its end, beside the log at its most talkative."""
    found: list[str] = []
    with caplog.at_level(logging.DEBUG):
        yield found
    everything = "\n".join([caplog.text, *found])
    assert everything.strip()
    for shape in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "pässw", "of@app", "of%40app"):
        assert shape not in everything


def told(error: BaseException) -> str:
    return f"{error!r} {error}" + "".join(traceback.format_exception(error))


def serving(url: str, service: str) -> Server:
    server = Server(url, service=service)
    log_events(server)

    @server.method
    def price(sku: str) -> float:
        return 9.5

    return server


def test_while_all_is_well(url: str, service: str, said: list[str]) -> None:
    server = serving(url, service)
    server.start()
    try:
        with Client(url) as client:
            log_events(client)
            assert client.call(f"{service}.price", ["A1"]) == 9.5
            said += [repr(client), repr(server), str(server.health()), *client.describe(), repr(client.__dict__)]
    finally:
        server.stop()


@pytest.mark.parametrize("change", ["user", "vhost", "port", "tls"])
def test_when_there_is_no_way_in(url: str, service: str, said: list[str], change: str) -> None:
    changed = {
        "user": url.replace("app:", "nobody:"),
        "vhost": url + "nowhere",
        "port": url.replace(f":{urlsplit(url).port}", ":1"),
        "tls": url.replace("amqp:", "amqps:"),
    }[change]
    with Client(changed) as client:
        log_events(client)
        with pytest.raises(RpcError) as caught:
            client.call(f"{service}.price", ["A1"], timeout=1.5)
    said.append(told(caught.value))


def test_when_the_broker_goes_away_in_mid_call(url: str, service: str, said: list[str], private_broker: Broker) -> None:
    server = serving(url, service)
    server.start()
    try:
        with Client(url, policies=[]) as client:
            log_events(client)
            client.call(f"{service}.price", ["A1"])
            private_broker.kill()
            with pytest.raises(RpcError) as caught:
                client.call(f"{service}.price", ["A1"], timeout=1)
            said.append(told(caught.value))
    finally:
        private_broker.start()
        server.stop()


@pytest.mark.parametrize("text", ["redis://app:{}@h/0?nothing=1", "redis://app:{}@h:port/0", "amqp://app:{}@h/0"])
def test_when_a_url_is_wrong(said: list[str], text: str) -> None:
    kind = RedisStore if text.startswith("redis") else Client
    for password in (PASSWORD, quote(PASSWORD, safe="")):
        try:
            said.append(repr(kind(text.format(password))))
        except ValueError as error:
            said.append(told(error).partition("Traceback")[0])  # the traceback shows this very line
