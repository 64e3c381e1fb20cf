import asyncio
import struct
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.transport.amqp.stream import FLUSH_AT, READ_SIZE, Stream


class Wire:
    """asyncio's transport below a stream."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = asyncio.Event()
        self.high = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted.set()

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return 1000


class Pika:
    """pika's protocol above a stream."""

    def __init__(self, on_data: Callable[[bytes], None] = lambda _: None) -> None:
        self.received: list[bytes] = []
        self.ends: list[BaseException | None] = []
        self.stream: Stream
        self._on_data = on_data

    def connection_made(self, stream: Stream) -> None:
        self.stream = stream

    def connection_lost(self, error: BaseException | None) -> None:
        self.ends.append(error)

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self._on_data(data)


class Counting:
    """A lane that takes what it is told to."""

    def __init__(self, kinds: set[int]) -> None:
        self.kinds = kinds
        self.taken: list[tuple[int, bytes]] = []

    def feed(self, kind: int, buffer: bytearray, at: int, end: int) -> bool:
        if kind not in self.kinds:
            return False
        self.taken.append((kind, bytes(buffer[at:end])))
        return True


class Counter:
    bytes_received = 0


def opened(pika_: Pika | None = None) -> tuple[Stream, Wire, Pika]:
    stream, wire, above = Stream(asyncio.get_running_loop()), Wire(), pika_ or Pika()
    stream.connection_made(wire)  # type: ignore[arg-type]
    stream.link(above)
    return stream, wire, above


def feed(stream: Stream, data: bytes) -> None:
    """As asyncio does it: as much at a time as the stream has room for."""
    while data:
        room = stream.get_buffer(-1)
        assert len(room)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        stream.buffer_updated(count)
        data = data[count:]
        if stream.closed:
            return


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def within(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(limited())


async def next_tick() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_what_a_tick_writes_is_one_write() -> None:
    async def scenario() -> None:
        stream, wire, _ = opened()
        for data in (b"a", b"b", b"c"):
            stream.write(data)
        assert (wire.written, stream.get_write_buffer_size()) == ([], 1003)
        await next_tick()
        assert wire.written == [b"abc"]
        stream.write(b"d")
        await next_tick()
        assert wire.written == [b"abc", b"d"]

    within(scenario)


def test_a_tick_that_writes_much_begins_to_send_before_it_ends() -> None:
    async def scenario() -> None:
        stream, wire, _ = opened()
        stream.write(b"x" * (FLUSH_AT - 1))
        assert wire.written == []
        stream.write(b"yz")
        assert wire.written == [b"x" * (FLUSH_AT - 1) + b"yz"]
        await next_tick()
        assert len(wire.written) == 1

    within(scenario)


def test_answers_to_one_read_leave_together_at_its_end() -> None:
    async def scenario() -> None:
        stream, wire, _ = opened(Pika(lambda data: stream.write(data[7:8])))
        feed(stream, frame(1, 1, b"a") + frame(1, 1, b"b"))
        assert wire.written == [b"ab"]

    within(scenario)


def frames() -> st.SearchStrategy[list[bytes]]:
    one = st.builds(frame, st.sampled_from([1, 3, 8]), st.integers(0, 9), st.binary(max_size=40))
    large = st.builds(frame, st.just(3), st.integers(0, 9), st.integers(1, 140_000).map(lambda size: b"x" * size))
    return st.lists(one | large, max_size=8)


@given(frames(), st.lists(st.integers(1, 100_000), max_size=6))
def test_pika_gets_whole_frames_however_they_arrive(sent: list[bytes], cuts: list[int]) -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        rest = b"".join(sent)
        for cut in cuts:
            feed(stream, rest[:cut])
            rest = rest[cut:]
        feed(stream, rest)
        assert above.received == sent

    within(scenario)


def test_a_frame_larger_than_the_buffer() -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        first, large = frame(1, 1, b"a"), frame(3, 1, bytes(3 * READ_SIZE))
        for data in (first + large[:5], large[5:READ_SIZE], large[READ_SIZE:] + first):
            feed(stream, data)
        assert above.received == [first, large, first]

    within(scenario)


@pytest.mark.parametrize(
    "data", [struct.pack(">BHI", 1, 0, 2 << 20) + b"x", frame(1, 0, b"x")[:-1] + b"\xcd", b"HTTP/1.1 400 Bad Request"]
)
def test_what_is_no_frame_ends_the_connection(data: bytes) -> None:
    async def scenario() -> None:
        stream, wire, above = opened()
        feed(stream, data)
        assert wire.aborted.is_set()
        assert isinstance(stream.reason, ValueError)
        assert above.received == []
        stream.connection_lost(None)
        assert above.ends == [stream.reason]

    within(scenario)


def test_the_greeting_of_a_broker_that_speaks_another_version() -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        feed(stream, b"AMQP\x00\x01\x00\x00")
        assert above.received == [b"AMQP\x00\x01\x00\x00"]

    within(scenario)


def test_an_exception_of_pikas_ends_the_connection_and_is_remembered() -> None:
    def trip(_: bytes) -> None:
        raise LookupError("tripped")

    async def scenario() -> None:
        stream, wire, above = opened(Pika(trip))
        feed(stream, frame(1, 0, b"x") * 2)
        assert (len(above.received), wire.aborted.is_set()) == (1, True)
        stream.write(b"more")
        stream.connection_lost(None)
        await next_tick()
        assert isinstance(above.ends[0], LookupError)
        assert wire.written == []

    within(scenario)


def test_a_lane_takes_its_frames_and_they_count_as_received() -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        lane, counter = Counting({1, 3}), Counter()
        stream.lanes[5] = lane
        stream.connection = counter
        sent = [frame(1, 5, b"ab"), frame(2, 5, bytes(14)), frame(3, 5, b"c"), frame(1, 4, b"d")]
        feed(stream, b"".join(sent))
        assert lane.taken == [(1, b"ab"), (3, b"c")]
        assert above.received == [sent[1], sent[3]]
        assert counter.bytes_received == len(sent[0]) + len(sent[2])

    within(scenario)


def test_hostile_headers_are_disarmed_before_pika_sees_them() -> None:
    headers = b"\x01aT" + b"\xff" * 8
    payload = struct.pack(">HHQH", 60, 0, 0, 0x2000) + struct.pack(">I", len(headers)) + headers

    async def scenario() -> None:
        stream, _, above = opened()
        feed(stream, frame(2, 1, payload))
        count, decoded = pika.frame.decode_frame(above.received[0])
        assert (count, decoded.properties.headers) == (len(above.received[0]), {"a": -1})

    within(scenario)


def test_why_the_broker_closes_the_connection_is_remembered() -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        close = pika.spec.Connection.Close(403, "ACCESS_REFUSED - é", 0, 0)
        feed(stream, pika.frame.Method(0, close).marshal())
        assert stream.close_frame == (403, "ACCESS_REFUSED - é")
        assert len(above.received) == 1

    within(scenario)


def test_back_pressure_shows() -> None:
    async def scenario() -> None:
        stream, wire, _ = opened()
        told: list[bool] = []
        stream.on_writable = lambda: told.append(stream.writable)
        assert (wire.high, stream.writable) == (1024 * 1024, True)
        stream.pause_writing()
        assert (stream.writable, told) == (False, [])
        stream.resume_writing()
        assert (stream.writable, told) == (True, [True])

    within(scenario)


@pytest.mark.parametrize("error", [None, OSError("reset")])
def test_an_end_that_nobody_here_wanted_has_a_reason(error: OSError | None) -> None:
    async def scenario() -> None:
        stream, _, above = opened()
        assert not stream.eof_received()
        stream.connection_lost(error)
        assert stream.gone.is_set()
        assert stream.closed
        assert isinstance(above.ends[0], OSError)
        assert above.ends == [stream.reason]
        assert error in {None, stream.reason}

    within(scenario)


def test_an_end_that_this_side_wanted_has_none() -> None:
    async def scenario() -> None:
        stream, wire, above = opened()
        stream.abort()
        assert wire.aborted.is_set()
        stream.connection_lost(None)
        assert (above.ends, stream.reason) == ([None], None)
        stream.abort()
        stream.write(b"x")
        await next_tick()
        assert wire.written == []

    within(scenario)


def test_an_exception_of_pikas_at_the_end_is_contained() -> None:
    class Tripping(Pika):
        def connection_lost(self, error: BaseException | None) -> None:
            raise AssertionError("its workflow")

    async def scenario() -> None:
        stream, _, _ = opened(Tripping())
        stream.connection_lost(None)
        assert stream.gone.is_set()

    within(scenario)


class Clock:
    """The little of a loop that the watch uses, with a time of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Any:
        timer = (self.now + delay, callback, args)
        self.timers.append(timer)
        return types.SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and min(self.timers)[0] <= end:
            timer = min(self.timers)
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1](*timer[2])
        self.now = end


def watched() -> tuple[Stream, Wire, Clock]:
    clock, wire = Clock(), Wire()
    stream = Stream(clock)  # type: ignore[arg-type]
    stream.connection_made(wire)  # type: ignore[arg-type]
    stream.link(Pika())
    stream.watch(4.0)
    return stream, wire, clock


def test_a_peer_that_falls_silent_is_given_up() -> None:
    stream, wire, clock = watched()
    clock.advance(4.0)
    assert not wire.aborted.is_set()
    clock.advance(0.2)
    assert wire.aborted.is_set()
    assert isinstance(stream.reason, TimeoutError)
    assert "nothing received for 4.1 s" in str(stream.reason)
    assert clock.timers == []


def test_a_peer_that_talks_is_not_given_up() -> None:
    stream, wire, clock = watched()
    for _ in range(10):
        clock.advance(3.9)
        feed(stream, frame(8, 0, b""))
    assert not wire.aborted.is_set()
    clock.advance(3.9)
    assert not wire.aborted.is_set()


def test_what_arrived_while_this_loop_stood_still_counts() -> None:
    stream, wire, clock = watched()
    clock.now += 60.0  # nothing ran for a minute: now the timers do, and only then is the socket read
    clock.advance(0.0)
    feed(stream, frame(8, 0, b""))
    clock.advance(0.2)
    assert not wire.aborted.is_set()
    clock.advance(4.2)
    assert wire.aborted.is_set()


def test_the_watch_ends_with_the_connection() -> None:
    stream, _, clock = watched()
    stream.connection_lost(None)
    assert clock.timers == []
