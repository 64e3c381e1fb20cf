import asyncio
import struct
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame as pika_frame
from pika import spec

from resilient_rpc.errors import TooLarge
from resilient_rpc.transport.amqp.lane import FastLane, Lane, Reports
from resilient_rpc.transport.amqp.pikalane import PikaLane
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers, encode_properties

CHANNEL = 7
FRAME_MAX = 4096


class Stream:
    """What a lane writes to."""

    def __init__(self) -> None:
        self.lanes: dict[int, Any] = {}
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data


class Channel:
    """pika's channel: it encodes as pika does."""

    channel_number = CHANNEL

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.on_close: list[Any] = []
        self.on_return: Any = None

    def add_on_close_callback(self, callback: Any) -> None:
        self.on_close.append(callback)

    def add_on_return_callback(self, callback: Any) -> None:
        self.on_return = callback

    def basic_publish(self, exchange: str, routing_key: str, body: bytes, properties: Any, mandatory: bool) -> None:
        method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        self._stream.write(pika_frame.Method(CHANNEL, method).marshal())
        self._stream.write(pika_frame.Header(CHANNEL, len(body), properties).marshal())
        for at in range(0, len(body), FRAME_MAX - 8):
            self._stream.write(pika_frame.Body(CHANNEL, body[at : at + FRAME_MAX - 8]).marshal())

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self._stream.write(pika_frame.Method(CHANNEL, spec.Basic.Ack(tag, multiple)).marshal())

    def basic_nack(self, tag: int, *, requeue: bool) -> None:
        self._stream.write(pika_frame.Method(CHANNEL, spec.Basic.Nack(tag, requeue=requeue)).marshal())


class Connection:
    params = pika.ConnectionParameters(frame_max=FRAME_MAX)

    def __init__(self) -> None:
        self.stream = Stream()


class Rig:
    """A lane, what it wrote and what it reported."""

    def __init__(self, kind: type[Lane], max_body: int = 100_000) -> None:
        connection = Connection()
        self.stream, self.channel = connection.stream, Channel(connection.stream)
        self.deliveries: list[Delivery] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.returns: list[tuple[str, int, str]] = []
        self.reports = Reports()
        self.reports.delivered = self.deliveries.append
        self.reports.confirmed = lambda *args: self.confirms.append(args)
        self.reports.returned = lambda *args: self.returns.append(args)
        self.lane = kind(connection, self.channel, self.reports, max_body)  # type: ignore[call-arg]

    def arrive(self, *frames: Any) -> None:
        """Hand frames in as the stream does: to the lane, or decoded by pika to its callbacks."""
        if isinstance(self.lane, FastLane):
            for one in frames:
                data = bytearray(b"before" + one.marshal())
                assert self.lane.feed(data[6], data, 6 + 7, len(data) - 1)
            return
        method, rest = _again(frames[0]).method, [_again(one) for one in frames[1:]]
        if isinstance(method, spec.Basic.Ack | spec.Basic.Nack):
            self.lane.on_confirm(_again(frames[0]))
            return
        properties, body = rest[0].properties, b"".join(one.fragment for one in rest[1:])
        if isinstance(method, spec.Basic.Deliver):
            self.lane.on_deliver(None, method, properties, body)
        else:
            self.channel.on_return(None, method, properties, body)


def _again(frame: Any) -> Any:
    return pika_frame.decode_frame(frame.marshal())[1]


class Encoded(pika.BasicProperties):  # type: ignore[misc]
    """Properties by our own codec, for pika's frames."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def encode(self) -> list[bytes]:
        return [self._data]


def content(method: Any, properties: bytes, body: bytes, pieces: list[int]) -> list[Any]:
    frames = [pika_frame.Method(CHANNEL, method), pika_frame.Header(CHANNEL, len(body), Encoded(properties))]
    rest = body
    for size in pieces:
        if rest[:size]:
            frames.append(pika_frame.Body(CHANNEL, rest[:size]))
            rest = rest[size:]
    return [*frames, pika_frame.Body(CHANNEL, rest)] if rest else frames


def sent(stream: Stream) -> list[tuple[Any, ...]]:
    """What the broker understands of it."""
    data, found = bytes(stream.written), []
    while data:
        count, frame = pika_frame.decode_frame(data)
        assert frame.channel_number == CHANNEL
        if isinstance(frame, pika_frame.Method):
            found.append((frame.method.NAME, vars(frame.method)))
        elif isinstance(frame, pika_frame.Header):
            found.append((frame.body_size, data[7 + 12 : count - 1]))
        else:
            found.append((frame.fragment,))
        data = data[count:]
    return found


LANES = pytest.mark.parametrize("kind", [FastLane, PikaLane])
names = st.text(max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | names | st.binary(max_size=9),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(names, some, max_size=3),
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": names,
        "headers": st.dictionaries(names, values, max_size=4).map(encode_headers),
        "delivery_mode": st.integers(0, 255),
        "correlation_id": names,
        "reply_to": names,
        "expiration": st.integers(0, 10**9).map(str),
        "timestamp": st.integers(0, 2**64 - 1),
        "app_id": names,
    },
).map(lambda given_: encode_properties(**given_))
bodies = st.binary(max_size=50) | st.integers(0, 10_000).map(lambda size: b"b" * size)


@given(names, bodies, properties, st.booleans())
def test_both_lanes_send_the_same_bytes(target: str, body: bytes, encoded: bytes, mandatory: bool) -> None:
    fast, slow = Rig(FastLane), Rig(PikaLane)
    for rig in (fast, slow):
        assert rig.lane.publish(target, body, encoded, mandatory=mandatory) == 1
        rig.lane.ack(2**40)
        rig.lane.ack(7, True)
        rig.lane.nack(3, requeue=mandatory)
        assert rig.lane.publish(target, b"", encoded, mandatory=mandatory) == 2

    assert fast.stream.written == slow.stream.written


def test_what_is_published_is_what_a_broker_reads() -> None:
    rig = Rig(FastLane)
    encoded = encode_properties(correlation_id="id", expiration="5")
    body = b"x" * (FRAME_MAX - 8) + b"y"

    rig.lane.publish("rpc.orders", body, encoded, mandatory=True)

    method, header, first, second = sent(rig.stream)
    assert method[0] == "Basic.Publish"
    assert (method[1]["exchange"], method[1]["routing_key"], method[1]["mandatory"]) == ("", "rpc.orders", True)
    assert header == (len(body), encoded)
    assert first[0] + second[0] == body


@given(names, st.integers(1, 2**64 - 1), st.booleans(), properties, bodies, st.lists(st.integers(1, 4000), max_size=4))
def test_both_lanes_deliver_the_same(
    key: str, tag: int, redelivered: bool, encoded: bytes, body: bytes, pieces: list[int]
) -> None:
    method = spec.Basic.Deliver("consumer", tag, redelivered, "exchange", key)
    fast, slow = Rig(FastLane), Rig(PikaLane)
    for rig in (fast, slow):
        rig.arrive(*content(method, encoded, body, pieces))
    ours, theirs = fast.deliveries[0], slow.deliveries[0]

    assert ours.properties == decode_properties(encoded)
    assert (ours.tag, ours.redelivered, ours.body, ours.routing_key) == (tag, redelivered, body, key)
    assert (theirs.tag, theirs.redelivered, theirs.body, theirs.routing_key) == (tag, redelivered, body, key)
    ours_headers, theirs_headers = ours.properties.pop("headers", None), theirs.properties.pop("headers", None)
    assert ours.properties == theirs.properties
    assert (ours_headers is None) == (theirs_headers is None)
    if ours_headers is not None:
        assert decode_headers(ours_headers) == decode_headers(theirs_headers)


@LANES
def test_confirms(kind: type[Lane]) -> None:
    rig = Rig(kind)
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.Ack(5, multiple=True)))
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.Nack(2**33, multiple=False)))
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.Ack(7)))

    assert rig.confirms == [(5, True, True), (2**33, False, False), (7, False, True)]


@LANES
def test_returns(kind: type[Lane]) -> None:
    rig = Rig(kind)
    method = spec.Basic.Return(312, "NO_ROUTE", "", "nobody")
    rig.arrive(*content(method, encode_properties(correlation_id="id"), b"body", [2]))
    rig.arrive(*content(method, encode_properties(), b"", []))

    assert rig.returns == [("id", 312, "NO_ROUTE"), ("", 312, "NO_ROUTE")]


@LANES
def test_text_that_is_not_utf8_is_replaced(kind: type[Lane]) -> None:
    rig = Rig(kind)
    raw = b"\x24\x00" + b"\x00\x00\x00\x0a" + b"\x01\xffS\x00\x00\x00\x03a\xffb" + b"\x02\xff!"
    raw = raw[:2] + struct.pack(">I", len(raw) - 6 - 3) + raw[6:]
    rig.arrive(*content(spec.Basic.Deliver("c", 1, False, "", "q"), raw, b"", []))

    (delivery,) = rig.deliveries
    assert delivery.properties["correlation_id"] == "\ufffd!"
    assert list(decode_headers(delivery.properties["headers"])) == ["\ufffd"]


def test_properties_that_are_broken_arrive_as_none() -> None:
    rig = Rig(FastLane)
    rig.arrive(*content(spec.Basic.Deliver("c", 1, False, "", "q"), b"\x80\x00\x09abc", b"body", []))

    (delivery,) = rig.deliveries
    assert (delivery.properties, delivery.body) == ({}, b"body")


@LANES
def test_what_no_frame_can_carry_is_refused_and_nothing_is_sent(kind: type[Lane]) -> None:
    rig = Rig(kind, max_body=10_000)
    room = FRAME_MAX - 8 - 12

    assert rig.lane.publish("q", b"x" * 10_000, bytes(room), mandatory=False) == 1
    before = bytes(rig.stream.written)
    for target, size, props in (("q", 1, room + 1), ("q", 10_001, 2), ("q" * 256, 1, 2)):
        with pytest.raises(TooLarge):
            rig.lane.publish(target, b"x" * size, bytes(props), mandatory=False)
    assert rig.stream.written == before
    with pytest.raises(TooLarge, match="11 bytes"):
        Rig(kind, max_body=10).lane.publish("q", bytes(11), b"\0\0", mandatory=False)
    assert rig.lane.publish("q" * 255, b"", b"\0\0", mandatory=False) == 2


@LANES
def test_a_session_that_has_ended_takes_nothing(kind: type[Lane]) -> None:
    for end in (lambda rig: rig.lane.close(), lambda rig: setattr(rig.stream, "closed", True)):
        rig = Rig(kind)
        end(rig)
        with pytest.raises(ConnectionError):
            rig.lane.publish("q", b"", b"\0\0", mandatory=False)
    rig = Rig(kind)
    rig.lane.close()
    rig.lane.ack(1)
    rig.lane.nack(2, requeue=True)
    assert not rig.stream.written


def test_a_closed_channel_gives_its_number_back() -> None:
    rig = Rig(FastLane)
    assert rig.stream.lanes == {CHANNEL: rig.lane}
    (closed,) = rig.channel.on_close
    later = object()

    closed(rig.channel, None)
    assert rig.stream.lanes == {}
    rig.stream.lanes[CHANNEL] = later
    closed(rig.channel, None)
    assert rig.stream.lanes == {CHANNEL: later}


@LANES
def test_an_owner_that_raises_is_contained(kind: type[Lane], caplog: pytest.LogCaptureFixture) -> None:
    def trip(*_: Any) -> None:
        raise LookupError("tripped")

    rig = Rig(kind)
    rig.reports.delivered = rig.reports.confirmed = rig.reports.returned = trip
    rig.arrive(*content(spec.Basic.Deliver("c", 1, False, "", "q"), b"\0\0", b"", []))
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.Ack(1)))
    rig.arrive(*content(spec.Basic.Return(312, "NO_ROUTE", "", "q"), b"\0\0", b"", []))

    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    rig.reports.silence()
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.Ack(2)))
    assert len(caplog.records) == 3


def test_frames_that_are_pikas_are_left_to_it() -> None:
    rig = Rig(FastLane)
    assert isinstance(rig.lane, FastLane)
    got = content(spec.Basic.Publish(0, "", "q"), b"\0\0", b"body", [])
    for one in (
        pika_frame.Method(CHANNEL, spec.Channel.CloseOk()),
        pika_frame.Method(CHANNEL, spec.Basic.CancelOk("c")),
        *got,
    ):
        data = bytearray(one.marshal())
        assert not rig.lane.feed(data[0], data, 7, len(data) - 1)
    assert rig.deliveries == []


def test_messages_that_were_asked_for() -> None:
    rig = Rig(FastLane)
    assert isinstance(rig.lane, FastLane)
    rig.lane.get("rpc.shop.dead")
    rig.lane.give_back()
    asked = pika_frame.Method(CHANNEL, spec.Basic.Get(queue="rpc.shop.dead")).marshal()
    given_back = pika_frame.Method(CHANNEL, spec.Basic.Nack(0, multiple=True, requeue=True)).marshal()
    assert rig.stream.written == asked + given_back
    empty: list[bool] = []
    rig.reports.empty = lambda: empty.append(True)
    rig.arrive(*content(spec.Basic.GetOk(7, True, "exchange", "key", 3), b"\0\0", b"body", []))
    assert [(d.tag, d.redelivered, d.routing_key, d.body) for d in rig.deliveries] == [(7, True, "key", b"body")]
    assert not empty
    rig.arrive(pika_frame.Method(CHANNEL, spec.Basic.GetEmpty()))
    assert empty == [True]
    rig.lane.close()
    rig.lane.give_back()
    assert rig.stream.written == asked + given_back


def test_routes_are_kept_but_not_for_ever() -> None:
    rig = Rig(FastLane)
    assert isinstance(rig.lane, FastLane)
    for number in range(2_500):
        rig.lane.publish(f"reply.{number}", b"", b"\0\0", mandatory=False)

    assert len(rig.lane._targets) <= 1_000


def test_the_reports_of_a_lane_may_change_under_it() -> None:
    rig = Rig(FastLane)
    later: list[Delivery] = []
    rig.reports.delivered = later.append
    rig.arrive(*content(spec.Basic.Deliver("c", 1, False, "", "q"), b"\0\0", b"", []))

    assert (len(later), rig.deliveries) == (1, [])
    assert not asyncio.iscoroutinefunction(rig.lane.on_deliver)
