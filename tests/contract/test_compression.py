"""Compressed messages from end to end, over every transport."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_rpc import Certainty, Client, Compression, Message, ProtocolError, Server
from resilient_rpc.errors import MalformedMessage, Refused, TooLarge, UnsupportedContent
from resilient_rpc_signing import Signing
from tests.colours import Colour

TEXT = "red shirt " * 5_000
ZSTD = Compression(algorithms=("zstd", "deflate"))
Serve = Callable[..., Server]


class Witness:
    """Stands last: sees what crosses the wire."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.came: list[Message] = []

    def outgoing(self, message: Message) -> Message:
        self.sent.append(message)
        return message

    def incoming(self, message: Message) -> Message:
        self.came.append(message)
        return message


class Forged:
    """Puts this in place of every body that is sent."""

    def __init__(self, body: bytes, encoding: str) -> None:
        self.body, self.encoding = body, encoding

    def outgoing(self, message: Message) -> Message:
        return message.replace(body=self.body, content_encoding=self.encoding)

    def incoming(self, message: Message) -> Message:
        return message


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest, service: str) -> str:
    return f"memory://{service}" if request.param == "memory" else str(request.getfixturevalue("amqp_url"))


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def serve(url: str, service: str, ran: list[int]) -> Iterator[Serve]:
    servers: list[Server] = []

    def made(*filters: Any) -> Server:
        server = Server(url, service=service, filters=filters)

        @server.method
        def double(text: str) -> str:
            ran.append(len(text))
            return text + text

        server.start()
        servers.append(server)
        return server

    yield made
    for server in servers:
        server.stop()


@pytest.mark.parametrize("squeeze", [Compression(), ZSTD], ids=["deflate", "zstd"])
def test_large_messages_travel_compressed_both_ways(
    serve: Serve, url: str, service: str, colour: Colour, squeeze: Compression
) -> None:
    serve(ZSTD)
    witness = Witness()
    client = colour.client(url, filters=[squeeze, witness])
    assert colour.call(client, f"{service}.double", [TEXT]) == TEXT + TEXT
    [request], [reply] = witness.sent, witness.came
    assert request.content_encoding == reply.content_encoding == squeeze.algorithms[0]
    assert len(request.body) < 1_000
    assert len(reply.body) < 1_000


def test_small_ones_travel_as_they_are(serve: Serve, url: str, service: str, colour: Colour) -> None:
    serve(Compression())
    witness = Witness()
    client = colour.client(url, filters=[Compression(), witness])
    assert colour.call(client, f"{service}.double", ["x"]) == "xx"
    assert (witness.sent[0].content_encoding, witness.came[0].content_encoding) == (None, None)


def test_a_client_without_it_gets_plain_replies(serve: Serve, url: str, service: str, colour: Colour) -> None:
    serve(Compression())
    assert colour.call(colour.client(url), f"{service}.double", [TEXT]) == TEXT + TEXT


def test_a_batch_is_compressed_as_one_and_so_are_its_replies(
    serve: Serve, url: str, service: str, colour: Colour
) -> None:
    serve(Compression(min_size=100))
    witness = Witness()
    client = colour.client(url, filters=[Compression(min_size=100), witness], safety="read_only")
    colour.call(client, f"{service}.double", ["x"])
    results = colour.do(client, "map", f"{service}.double", [[f"{number} text"] for number in range(200)])
    assert results == [f"{number} text" * 2 for number in range(200)]
    assert any(message.type == "rpc.batch" and message.content_encoding == "deflate" for message in witness.sent)


def test_a_server_without_it_refuses_and_has_not_executed(
    serve: Serve, url: str, service: str, colour: Colour, ran: list[int]
) -> None:
    serve()
    client = colour.client(url, filters=[Compression()])
    with pytest.raises(UnsupportedContent, match="deflate") as caught:
        colour.call(client, f"{service}.double", [TEXT])
    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert ran == []


BOMB = zlib.compress(bytes(100 * 1024 * 1024))
DAMAGED: list[tuple[bytes, str, type[ProtocolError]]] = [
    (BOMB, "deflate", TooLarge),
    (zlib.compress(b"text" * 1000)[:-5], "deflate", MalformedMessage),
    (zlib.compress(b"[]") + b"more", "deflate", MalformedMessage),
    (b"not compressed", "deflate", MalformedMessage),
    (zlib.compress(zlib.compress(b"[]")), "deflate", MalformedMessage),
    (zlib.compress(b"[]"), "deflate, deflate", UnsupportedContent),
    (b"", "zstd", UnsupportedContent),
]
IDS = ["bomb", "cut off", "remainder", "no deflate", "two layers", "two encodings", "not configured"]


@pytest.mark.parametrize(("body", "encoding", "error"), DAMAGED, ids=IDS)
def test_a_request_that_cannot_be_inflated_is_refused_and_not_executed(
    serve: Serve, url: str, service: str, ran: list[int], body: bytes, encoding: str, error: type[ProtocolError]
) -> None:
    serve(Compression())
    with Client(url, filters=[Forged(body, encoding)], policies=[]) as client, pytest.raises(error) as caught:
        client.call(f"{service}.double", ["x"], timeout=10)
    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert ran == []
    with Client(url) as client:
        assert client.call(f"{service}.double", ["x"]) == "xx"


@pytest.mark.parametrize(("body", "encoding"), [each[:2] for each in DAMAGED], ids=IDS)
def test_a_reply_that_cannot_be_inflated_ends_its_call_at_once(
    serve: Serve, url: str, service: str, ran: list[int], body: bytes, encoding: str
) -> None:
    serve(Forged(body, encoding))
    with Client(url, filters=[Compression()], policies=[]) as client, pytest.raises(ProtocolError) as caught:
        client.call(f"{service}.double", ["x"], timeout=10)
    assert caught.value.certainty is Certainty.UNKNOWN
    assert ran == [1]


def test_what_is_signed_was_compressed_before(serve: Serve, url: str, service: str, ran: list[int]) -> None:
    key = secrets.token_bytes(32)
    serve(Compression(), Signing({"shop": key}))
    witness = Witness()
    with Client(url, filters=[Compression(), Signing({"shop": key}), witness]) as client:
        assert client.call(f"{service}.double", [TEXT]) == TEXT + TEXT
    assert witness.sent[0].content_encoding == witness.came[0].content_encoding == "deflate"
    with Client(url, filters=[Forged(BOMB, "deflate")]) as client, pytest.raises(Refused, match="not signed"):
        client.call(f"{service}.double", ["x"])  # not TooLarge: nobody has inflated it
    assert ran == [len(TEXT)]
