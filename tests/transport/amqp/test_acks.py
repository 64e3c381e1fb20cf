"""Acks: every delivery is settled once, whatever the order, in frames that a broker accepts."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.transport.amqp.acks import LEISURE, Acks


class Broker:
    """Unacked deliveries of a channel, as RabbitMQ keeps them: an unknown tag ends the channel."""

    def __init__(self, count: int) -> None:
        self.unacked = set(range(1, count + 1))
        self.frames = 0

    def ack(self, tag: int, multiple: bool) -> None:
        assert tag in self.unacked, f"unknown delivery tag {tag}"
        self.frames += 1
        self.unacked -= {known for known in self.unacked if known <= tag} if multiple else {tag}

    def nack(self, tag: int) -> None:
        assert tag in self.unacked, f"unknown delivery tag {tag}"
        self.unacked.remove(tag)


def acks(broker: Broker) -> Acks:
    return Acks(lambda _: None, broker.ack)


def test_what_is_done_in_order_is_one_frame() -> None:
    broker = Broker(100)
    mine = acks(broker)
    for tag in range(1, 101):
        mine.add(tag)
    mine.flush()

    assert (broker.unacked, broker.frames) == (set(), 1)


def test_what_is_done_before_an_older_one_is_acked_at_once_and_alone() -> None:
    broker = Broker(4)
    mine = acks(broker)
    mine.add(3)
    mine.add(4)
    mine.flush()
    assert broker.unacked == {1, 2}

    mine.add(1)
    mine.add(2)
    mine.flush()
    assert (broker.unacked, broker.frames) == (set(), 3)


def test_what_is_rejected_goes_with_the_next_acks_and_before_them() -> None:
    broker = Broker(4)
    later: list[float] = []
    mine = Acks(lambda _: None, broker.ack, some_time=lambda wait, _: later.append(wait), reject=broker.nack)
    mine.reject(2)
    mine.reject(3)
    assert (broker.unacked, later) == ({1, 2, 3, 4}, [LEISURE])
    mine.add(1)
    mine.add(4)
    mine.flush()
    assert (broker.unacked, broker.frames) == (set(), 1)


def test_what_is_rejected_alone_does_not_wait_for_ever() -> None:
    broker = Broker(2)
    timers: list[Callable[[], None]] = []
    mine = Acks(lambda _: None, broker.ack, some_time=lambda _, flush: timers.append(flush), reject=broker.nack)
    mine.reject(2)
    timers.pop()()
    assert broker.unacked == {1}
    mine.reject(1)
    timers.pop()()
    assert not broker.unacked


@given(st.data())
def test_any_order_of_acks_nacks_and_flushes_settles_each_delivery_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    order = data.draw(st.permutations(range(1, count + 1)))
    nacked = data.draw(st.sets(st.integers(1, count)))
    broker = Broker(count)
    mine = acks(broker)
    done: set[int] = set()
    for tag in order:
        if tag in nacked:
            mine.skip(tag)
            broker.nack(tag)
        else:
            mine.add(tag)
        done.add(tag)
        if data.draw(st.booleans()):
            mine.flush()
            assert broker.unacked == set(range(1, count + 1)) - done
    mine.flush()

    assert broker.unacked == set()
