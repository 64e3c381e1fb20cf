"""Reply addresses that cost the connection of who publishes to them: who is tried, who is believed, who is refused."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.doubts import BANNED, BURST, EVERY, WAITING, Bans, Doubts, origin_of


def address(
    node: str = "reply@123", number: int = 700, *, tag: bytes = b"X", more: bytes = b"", serial: int = 0
) -> str:
    """As a broker makes them."""
    creation = b"\x6b\x01\x6c\xd6" if tag == b"X" else b"\x01"
    atom = b"v" + struct.pack(">H", len(node)) + node.encode()
    term = b"\x83" + tag + atom + struct.pack(">II", number, serial) + creation + more
    return f"amq.rabbitmq.reply-to.{base64.b64encode(term).decode()}.yVLHrhze85pF2a0Djxczew=="


class InternalError(Exception):
    """As pika says it."""

    reply_code = 541


def blame() -> ConnectionLost:
    error = ConnectionLost("541 INTERNAL_ERROR")
    error.__cause__ = InternalError()
    return error


@dataclass(eq=False)
class Message:
    target: str


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self.addresses = Addresses()
        self.bans = self.addresses.bans
        self.bans._clock = lambda: self.now
        self.doubts: Doubts[Message] = Doubts(self.bans, self.asked.append, lambda: self.now)

    def to(self, target: str) -> Message:
        return Message(target)

    def fail(self, *unconfirmed: Message, known: tuple[str, ...] = ()) -> list[Message]:
        return self.doubts.lost(blame(), unconfirmed, known)


def test_addresses_of_one_node_have_one_origin() -> None:
    assert origin_of(address(number=1)) == origin_of(address(number=2))
    assert origin_of(address()) != origin_of(address("reply@124"))
    assert origin_of(address()) != origin_of(address(tag=b"g"))
    assert isinstance(origin_of(address(tag=b"g")), bytes)


@pytest.mark.parametrize(
    "forged",
    [
        "amq.rabbitmq.reply-to.junk.junk",
        "amq.rabbitmq.reply-to.A.QUJD",
        "amq.rabbitmq.reply-to.QUJD.QUJD",
        "amq.rabbitmq.reply-to.g1g=.k",
        "amq.rabbitmq.reply-to.g1h2.k",
        "amq.rabbitmq.reply-to.g1h2AA==.k",
        address(number=2**28),
        address(serial=2**13),
        address(more=b"x"),
    ],
)
def test_what_no_broker_has_made_has_an_origin_of_its_own(forged: str) -> None:
    assert origin_of(forged) == forged


def test_queues_have_none() -> None:
    assert origin_of("rpc.reply.shop.abc") is None
    assert origin_of("amq.gen-x") is None


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()))
def test_whatever_is_sent_has_an_origin_or_none(text: str) -> None:
    assert origin_of("amq.rabbitmq.reply-to." + text) is not None


def test_a_connection_that_ends_for_another_reason_raises_no_doubt() -> None:
    bench = Bench()
    assert bench.doubts.lost(ConnectionLost("reset"), [bench.to("amq.rabbitmq.reply-to.junk.junk")], ()) == []
    assert not bench.doubts.active


def test_nodes_that_were_published_to_before_are_believed() -> None:
    bench = Bench()
    bench.fail(bench.to("amq.rabbitmq.reply-to.junk.junk"), known=(address(number=1), "rpc.reply.x"))
    assert bench.doubts.active
    assert bench.doubts.judge(bench.to(address(number=2))) is True
    assert bench.doubts.judge(bench.to("rpc.reply.x")) is True
    assert bench.doubts.harmless(address(number=3))
    assert not bench.doubts.harmless(address("reply@9"))


def test_of_all_that_was_on_its_way_each_node_is_tried_alone_and_the_one_with_the_most_messages_first() -> None:
    bench = Bench()
    forged = bench.to("amq.rabbitmq.reply-to.junk.junk")
    good = [bench.to(address(number=n)) for n in range(3)]
    bench.fail(forged, *good, known=(address(), forged.target))
    assert [bench.doubts.judge(each) for each in (forged, *good)] == [None] * 4
    assert bench.doubts.pending == 4
    assert bench.doubts.due() is good[0]
    assert bench.doubts.due() is None, "one at a time"
    assert bench.doubts.settled(forged) is None, "it is not the one that is tried"
    assert bench.doubts.settled(good[0]) == good[1:]
    assert bench.doubts.judge(good[1]) is True
    assert bench.doubts.due() is forged
    assert bench.fail(forged) == []
    assert bench.doubts.judge(forged) is False
    assert bench.doubts.due() is None


def test_what_waits_for_a_trial_that_fails_is_given_up_with_it() -> None:
    bench = Bench()
    bench.fail()
    bad = [bench.to(address("reply@bad", n)) for n in range(3)]
    assert [bench.doubts.judge(each) for each in bad] == [None] * 3
    assert bench.doubts.due() is bad[0]
    assert bench.fail(bad[0]) == bad[1:]
    assert [bench.doubts.judge(each) for each in bad] == [False] * 3


def test_a_trial_that_another_trouble_ends_says_nothing() -> None:
    bench = Bench()
    bench.fail()
    one = bench.to(address())
    bench.doubts.judge(one)
    assert bench.doubts.due() is one
    assert bench.doubts.lost(ConnectionLost("reset"), [one], ()) == []
    assert bench.doubts.judge(one) is None
    assert bench.doubts.due() is one


def test_unknown_nodes_are_tried_at_once_a_few_times_and_then_seldom() -> None:
    bench = Bench()
    bench.fail()
    for n in range(BURST + 2):
        bench.doubts.judge(bench.to(f"amq.rabbitmq.reply-to.junk{n}.k"))
    for _ in range(BURST):
        message = bench.doubts.due()
        assert message is not None
        bench.fail(message)
    assert bench.doubts.due() is None
    assert bench.asked == [EVERY]
    bench.now += EVERY
    message = bench.doubts.due()
    assert message is not None
    bench.fail(message)
    assert bench.doubts.due() is None


def test_no_more_nodes_wait_than_may() -> None:
    bench = Bench()
    bench.fail()
    verdicts = [bench.doubts.judge(bench.to(f"amq.rabbitmq.reply-to.junk{n}.k")) for n in range(WAITING + 1)]
    assert verdicts == [None] * WAITING + [False]


def test_a_node_that_has_gone_is_doubted_again_and_tried_again_when_its_time_is_up() -> None:
    bench = Bench()
    bench.fail(known=(address(),))
    gone, other = bench.to(address()), bench.to(address("reply@other"))
    assert bench.doubts.judge(gone) is True
    bench.fail(gone)
    assert bench.doubts.judge(gone) is None
    assert bench.doubts.due() is gone
    bench.fail(gone)
    assert bench.doubts.judge(gone) is False
    assert bench.doubts.judge(other) is None
    bench.now += BANNED
    assert bench.doubts.judge(gone) is None


def test_what_has_cost_a_connection_is_refused_before_it_is_executed_for_a_while() -> None:
    bench = Bench()
    forged = "amq.rabbitmq.reply-to.junk.junk"
    assert bench.addresses.accept(forged)
    bench.fail(bench.to(forged))
    bench.doubts.judge(message := bench.to(forged))
    assert bench.doubts.due() is message
    bench.fail(message)
    assert not bench.addresses.accept(forged)
    assert bench.addresses.accept(address())
    bench.now += BANNED
    assert bench.addresses.accept(forged)


def test_bans_are_bounded_and_the_oldest_goes() -> None:
    bans = Bans(clock=lambda: 0.0)
    for n in range(1_001):
        bans.add(f"amq.rabbitmq.reply-to.junk{n}.k")
    assert not bans.stand("amq.rabbitmq.reply-to.junk0.k")
    assert bans.stand("amq.rabbitmq.reply-to.junk1.k")
    assert not bans.stand("rpc.reply.x")


def test_more_nodes_than_can_be_believed_are_not_remembered() -> None:
    bench = Bench()
    bench.fail(known=tuple(address(f"reply@{n}") for n in range(1_000)))
    new = bench.to(address("reply@new"))
    bench.doubts.judge(new)
    assert bench.doubts.due() is new
    assert bench.doubts.settled(new) == []
    assert bench.doubts.judge(new) is True
