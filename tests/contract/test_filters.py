"""Filters from end to end, over every transport."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Certainty, Client, Context, Message, Server
from resilient_rpc.errors import FilterRefused, Refused, TooLarge
from resilient_rpc.events import Event, MessageRefused
from tests.colours import Colour
from tests.contract.sides import Side


class Squeeze:
    """Compresses; what it has seen pass."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.came: list[Message] = []

    def outgoing(self, message: Message) -> Message:
        self.sent.append(message)
        return message.replace(body=zlib.compress(message.body), content_encoding="deflate")

    def incoming(self, message: Message) -> Message:
        self.came.append(message)
        if message.content_encoding != "deflate":
            raise Refused("not compressed")
        return message.replace(body=zlib.decompress(message.body), content_encoding=None, principal="squeezer")


class Shift:
    """Moves every byte: not readable, and not compressible the wrong way round."""

    def outgoing(self, message: Message) -> Message:
        return message.replace(body=bytes((byte + 1) % 256 for byte in message.body))

    def incoming(self, message: Message) -> Message:
        return message.replace(body=bytes((byte - 1) % 256 for byte in message.body))


class Broken:
    """Raises where it is told to."""

    def __init__(self, error: Exception, *, out: bool) -> None:
        self.error, self.out = error, out

    def outgoing(self, message: Message) -> Message:
        if self.out:
            raise self.error
        return message

    def incoming(self, message: Message) -> Message:
        if not self.out:
            raise self.error
        return message


class World:
    """A server with filters, where clients find it."""

    def __init__(self, side: Side) -> None:
        self.side, self.url = side, side.url
        self.ran: list[Any] = []
        self.events: list[Event] = []
        self.servers: list[Server] = []

    def serve(self, *filters: Any) -> None:
        server = Server(self.url, service=self.side.service, filters=filters)
        server.on(Event, self.events.append)
        server.method(self.note)
        self.servers.append(server)
        server.start()

    def note(self, ctx: Context, value: Any = None) -> list[Any]:
        self.ran.append(value)
        return [value, ctx.principal]

    @property
    def method(self) -> str:
        return f"{self.side.service}.note"


@pytest.fixture
def world(each_broker: Side) -> Iterator[World]:
    made = World(each_broker)
    yield made
    for server in made.servers:
        server.stop()


def heard(client: Client | AsyncClient) -> list[Event]:
    events: list[Event] = []
    client.on(Event, events.append)
    return events


def test_messages_pass_the_filters_of_both_sides(world: World, colour: Colour) -> None:
    ours, theirs = Squeeze(), Squeeze()
    world.serve(theirs, Shift())
    client = colour.client(world.url, filters=[ours, Shift()])
    assert colour.call(client, world.method, ["x" * 1000]) == ["x" * 1000, "squeezer"]
    [request], [reply] = ours.sent, ours.came
    assert (request.direction, request.target, request.type) == ("request", world.side.queue, "rpc.call")
    assert request.headers["rpc-method"] == world.method
    assert request.reply_to
    assert 0 < (request.expiration or 0) <= 30_000
    assert (reply.direction, reply.type) == ("reply", "rpc.reply")
    assert reply.correlation_id == request.correlation_id == theirs.came[0].correlation_id
    assert theirs.came[0].target == theirs.came[0].target == world.side.queue
    assert len(theirs.came[0].body) < 500


def test_a_batch_is_one_message(world: World, colour: Colour) -> None:
    ours = Squeeze()
    world.serve(Squeeze())
    client = colour.client(world.url, filters=[ours], safety="read_only")
    colour.call(client, world.method, [0])  # its reply says that the server takes batches
    before = len(ours.sent)
    results = colour.do(client, "map", world.method, [[number] for number in range(30)])
    assert [value for value, _ in results] == list(range(30))
    assert len(ours.sent) - before < 30
    assert {message.type for message in ours.sent[before:]} <= {"rpc.call", "rpc.batch"}
    assert sum(message.headers["rpc-calls"] for message in ours.sent[before:]) == 30


def test_a_request_that_a_filter_refuses_is_not_executed_and_its_caller_is_told(world: World, colour: Colour) -> None:
    world.serve(Squeeze())
    client = colour.client(world.url)
    with pytest.raises(Exception) as caught:  # it cannot read the reply either
        colour.call(client, world.method, [1])
    assert caught.value.certainty is Certainty.UNKNOWN  # type: ignore[attr-defined]
    assert world.ran == []
    assert MessageRefused(filter="Squeeze", reason="Squeeze: not compressed") in world.events


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("a secret"), Refused, "^Broken: ValueError$"),
        (Refused("unsigned"), Refused, "^Broken: unsigned$"),
        (TooLarge("unpacked, it is over the limit"), TooLarge, "^unpacked, it is over the limit$"),
    ],
)
def test_the_refusal_is_an_error_reply(
    world: World, colour: Colour, error: Exception, kind: type[Exception], text: str
) -> None:
    world.serve(Broken(error, out=False))
    client = colour.client(world.url)
    with pytest.raises(kind, match=text) as caught:
        colour.call(client, world.method, [1], timeout=10)
    assert caught.value.certainty is Certainty.NOT_EXECUTED  # type: ignore[attr-defined]
    assert world.ran == []


def test_a_reply_that_a_filter_refuses_ends_the_call_with_its_outcome_unknown(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, filters=[Broken(ValueError("a secret"), out=False)])
    events = heard(client)
    with pytest.raises(FilterRefused, match="the reply was refused: Broken: ValueError") as caught:
        colour.call(client, world.method, [1], timeout=10)
    assert caught.value.certainty is Certainty.UNKNOWN
    assert caught.value.filter == "Broken"
    assert world.ran == [1]
    assert MessageRefused(filter="Broken", reason="Broken: ValueError") in events


def test_what_a_filter_does_not_let_out_is_not_sent(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, filters=[Broken(ValueError("a secret"), out=True)])
    with pytest.raises(FilterRefused, match=r"^Broken: ValueError$") as caught:
        colour.call(client, world.method, [1], timeout=10)
    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert world.ran == []


def test_a_reply_that_a_filter_does_not_let_out_is_given_up_and_the_request_is_done_with(
    world: World, colour: Colour
) -> None:
    broken = Broken(ValueError("once"), out=True)
    world.serve(broken)
    client = colour.client(world.url)
    with pytest.raises(TimeoutError) as caught:
        colour.call(client, world.method, [1], timeout=2.0)  # of which some is for connecting
    assert caught.value.certainty is Certainty.UNKNOWN  # type: ignore[attr-defined]
    broken.out = False
    world.servers[0].stop()
    assert world.ran == [1]
