"""A queue against a model that is too simple to be wrong: every message in one place, and the right one leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_rpc.transport.memory.message import Message
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.settings import Settings
from resilient_rpc.transport.properties import encode_properties


@dataclass(eq=False)
class Hand:
    """A consumer of the model."""

    model: Model
    prefetch: int
    held: list[Message] = field(default_factory=list)
    full: bool = False

    def take(self, message: Message) -> bool:
        assert not self.full
        self.model.leaves(message)
        self.held.append(message)
        self.full = len(self.held) == self.prefetch
        return not self.full


class Model(RuleBasedStateMachine):
    @initialize(
        priorities=st.sampled_from([0, 0, 2]),
        length=st.sampled_from([None, None, 1, 3]),
        overflow=st.sampled_from(["drop-head", "reject-publish"]),
        limit=st.sampled_from([None, 1]),
        ttl=st.sampled_from([None, None, 4000]),
    )
    def begin(self, priorities: int, length: int | None, overflow: str, limit: int | None, ttl: int | None) -> None:
        chosen = {
            "x-max-priority": priorities or None,
            "x-max-length": length,
            "x-overflow": overflow,
            "x-queue-type": "quorum" if limit else None,
            "x-delivery-limit": limit,
            "x-message-ttl": ttl,
        }
        self.length, self.rejects, self.limit, self.top = length, overflow != "drop-head", limit, priorities
        self.ttl = None if ttl is None else ttl / 1000
        arguments = {name: value for name, value in chosen.items() if value is not None}
        self.queue = Queue("q", Settings(arguments=arguments), self.died)
        self.now = 0.0
        self.born: list[Message] = []
        self.ready: list[Message] = []
        self.hands: list[Hand] = []
        self.done: list[Message] = []

    def key(self, message: Message) -> tuple[int, int]:
        return -min(message.priority, self.top), self.born.index(message)

    def head(self) -> Message:
        return min(self.ready, key=self.key)

    def leaves(self, message: Message) -> None:
        assert message is self.head()
        assert message.expires is None or message.expires > self.now or len(self.ready) == 1
        self.ready.remove(message)

    def died(self, message: Message, reason: str) -> None:
        if reason == "delivery_limit":
            assert self.limit is not None
            assert message.returns > self.limit
            self.ready.remove(message)
        else:
            assert message is self.head()
            if reason == "expired":
                assert message.expires is not None
                assert message.expires <= self.now
            else:
                assert reason == "maxlen"
                assert not self.rejects
                assert self.length is not None
                assert len(self.ready) > self.length
            self.ready.remove(message)
        self.done.append(message)

    @rule(priority=st.integers(0, 4), lifetime=st.sampled_from([None, None, 0.0, 1.0, 3.0]))
    def publish(self, priority: int, lifetime: float | None) -> None:
        message = Message("q", b"", encode_properties(priority=priority))
        message.expires = None if lifetime is None else self.now + lifetime
        full = self.length is not None and len([m for m in self.ready if not self.stale(m)]) >= self.length
        self.born.append(message)
        self.ready.append(message)
        # A refused message was never in the queue, so the model must not show it while the head expires.
        if self.rejects and full:
            self.ready.remove(message)
            if self.queue.publish(message, self.now):
                raise AssertionError("a full queue took a message")
            self.done.append(message)
        else:
            expected = message.expires
            if self.ttl is not None:
                expected = self.now + self.ttl if expected is None else min(expected, self.now + self.ttl)
            assert self.queue.publish(message, self.now)
            assert message.expires == expected

    def stale(self, message: Message) -> bool:
        """Whether it would be buried before a new message is counted: all up to it are due."""
        ahead = [m for m in self.ready if self.key(m) <= self.key(message)]
        return all(m.expires is not None and m.expires <= self.now for m in ahead)

    @rule(prefetch=st.integers(1, 3))
    def attach(self, prefetch: int) -> None:
        hand = Hand(self, prefetch)
        self.hands.append(hand)
        self.queue.attach(hand, self.now)

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        hand = data.draw(st.sampled_from(self.hands))
        self.hands.remove(hand)
        self.queue.detach(hand)
        self.give_back(hand.held)

    @precondition(lambda self: any(hand.held for hand in self.hands))
    @rule(data=st.data(), requeue=st.booleans())
    def settle(self, data: st.DataObject, requeue: bool) -> None:
        hand = data.draw(st.sampled_from([hand for hand in self.hands if hand.held]))
        message = hand.held.pop(data.draw(st.integers(0, len(hand.held) - 1)))
        if requeue:
            self.give_back([message])
        else:
            self.done.append(message)
        if hand.full:
            hand.full = False
            self.queue.resume(hand, self.now)

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.queue.expire(self.now)

    def give_back(self, messages: list[Message]) -> None:
        self.ready += messages
        self.queue.requeue(list(messages), self.now)

    @invariant()
    def same_order(self) -> None:
        assert list(self.queue) == sorted(self.ready, key=self.key)
        assert self.queue.depth == len(self.ready)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        assert not self.ready or all(hand.full for hand in self.hands)

    @invariant()
    def each_is_in_one_place(self) -> None:
        held = [message for hand in self.hands for message in hand.held]
        assert sorted(map(id, self.ready + held + self.done)) == sorted(map(id, self.born))

    @invariant()
    def within_limits(self) -> None:
        if self.length is not None and not self.rejects:
            assert len(self.ready) <= self.length
        if self.ready:
            expires = self.head().expires
            assert expires is None or expires > self.now
            assert self.queue.next_expiry() == expires


Model.TestCase.settings = profile(max_examples=150, stateful_step_count=40, deadline=None)
TestQueue = Model.TestCase


def test_bytes_are_limited_too() -> None:
    dead: list[bytes] = []
    queue = Queue("q", Settings(arguments={"x-max-length-bytes": 10}), lambda m, _: dead.append(m.body))
    for body in (b"12345", b"67890", b"x"):
        queue.publish(Message("q", body, encode_properties()), 0.0)
    assert dead == [b"12345"]
    assert [message.body for message in queue] == [b"67890", b"x"]
    assert queue.clear() == 2
    assert (queue.depth, queue.bytes) == (0, 0)
