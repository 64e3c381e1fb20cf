"""Services that know JSON-RPC and nothing of this library: what they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from resilient_rpc import Certainty, Client, ConfigurationError, Message, Server
from tests.colours import Colour


class Witness:
    """Sees the requests of a client."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def outgoing(self, message: Message) -> Message:
        self.sent.append(message)
        return message

    def incoming(self, message: Message) -> Message:
        return message

    def take(self) -> list[Any]:
        """The requests since the last time."""
        sent, self.sent = self.sent, []
        return [msgspec.json.decode(message.body) for message in sent]


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest, service: str) -> Iterator[str]:
    """Of a bus with a server of ours: the one that most invites to say more than a plain one understands."""
    found = f"memory://{service}" if request.param == "memory" else str(request.getfixturevalue("amqp_url"))
    server = Server(found, service=service)

    @server.method
    async def echo(value: int) -> int:
        return value

    server.start()
    yield found
    server.stop()


def _says_more(requests: list[Any]) -> list[Any]:
    return [request for request in requests if isinstance(request, list) or "meta" in request]


def test_a_plain_service_is_sent_neither_meta_nor_batches(url: str, service: str, colour: Colour) -> None:
    witness = Witness()
    client = colour.client(url, filters=[witness], safety="read_only", links=2)
    plain = client.service(service, dialect="plain")
    assert repr(plain) == f"Service({service!r})"
    for number in range(3):
        assert colour.do(plain, "echo", value=number) == number
    assert colour.call(client, f"{service}.echo", [1], tags={"tenant": "acme"}) == 1
    assert colour.do(client, "map", f"{service}.echo", [[n] for n in range(200)]) == list(range(200))
    colour.do(client, "cast", f"{service}.echo", [1], tags={"tenant": "acme"})
    sent = witness.take()
    assert len(sent) == 205
    assert _says_more(sent) == []


def test_it_may_be_declared_and_taken_back_at_any_time(url: str, service: str, colour: Colour) -> None:
    witness = Witness()
    client = colour.client(url, filters=[witness], safety="read_only")
    for number in range(2):
        colour.call(client, f"{service}.echo", [number])
    assert len(_says_more(witness.take())) == 1  # the second: then the first reply had come
    client.service(service, dialect="plain")
    for number in range(2):
        colour.call(client, f"{service}.echo", [number])
    assert _says_more(witness.take()) == []
    client.service(service)
    colour.call(client, f"{service}.echo", [1])
    assert _says_more(witness.take()) == []
    client.service(service, dialect="full")
    for number in range(2):
        colour.call(client, f"{service}.echo", [number])
    assert len(_says_more(witness.take())) == 1


def test_other_services_of_the_client_are_not_touched(url: str, service: str, colour: Colour) -> None:
    witness = Witness()
    client = colour.client(url, filters=[witness], safety="read_only")
    client.service("another", dialect="plain")
    for number in range(2):
        colour.call(client, f"{service}.echo", [number])
    assert len(_says_more(witness.take())) == 1


@pytest.mark.parametrize("way", ["call", "cast"])
@pytest.mark.parametrize("how", [{"idempotency_key": "k"}, {"safety": "dedup"}])
def test_a_key_that_nobody_would_heed_is_not_sent_without_saying_so(
    url: str, service: str, colour: Colour, how: dict[str, Any], way: str
) -> None:
    witness = Witness()
    client = colour.client(url, filters=[witness])
    client.service(service, dialect="plain")
    with pytest.raises(ConfigurationError, match="dialect 'plain'") as caught:
        colour.do(client, way, f"{service}.echo", [1], **how)
    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert witness.take() == []


@pytest.mark.parametrize("wrong", ["Plain", "", 1, True])
def test_a_dialect_that_does_not_exist_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="give 'full' or 'plain'"):
        Client("memory://local").service("orders", dialect=wrong)
