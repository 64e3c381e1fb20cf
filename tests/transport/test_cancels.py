from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.transport.cancels import INTERVAL, MOST, Cancels, Pace, Way
from resilient_rpc.wire.control import MAX_IDS

ALL = Way("rpc.shop", "", "token", "address")
ONE = ALL._replace(control="rpc.control.a")


def test_the_first_leaves_at_once_and_what_comes_together_leaves_together() -> None:
    cancels = Cancels(Pace())
    for number in range(3):
        cancels.add(ALL, number)
    assert cancels.next(100.0) == 100.0
    assert cancels.take(100.0) == (ALL, [0, 1, 2])
    assert cancels.take(100.0) is None
    assert cancels.next(100.0) is None
    assert cancels.count == 0


def test_each_way_is_a_message_of_its_own_and_has_to_wait_for_its_turn() -> None:
    cancels = Cancels(Pace())
    cancels.add(ALL, 1)
    cancels.add(ONE, 2)
    assert cancels.take(100.0) == (ALL, [1])
    assert cancels.take(100.0 + INTERVAL / 2) is None
    assert cancels.next(100.0) == 100.0 + INTERVAL
    assert cancels.take(100.0 + INTERVAL) == (ONE, [2])


def test_links_of_one_client_keep_one_pace() -> None:
    pace = Pace()
    one, two = Cancels(pace), Cancels(pace)
    one.add(ALL, 1)
    two.add(ALL, 2)
    assert one.take(100.0)
    assert two.take(100.0) is None
    assert two.next(100.0) == 100.0 + INTERVAL


def test_who_closes_need_not_wait() -> None:
    cancels = Cancels(Pace())
    cancels.add(ALL, 1)
    cancels.add(ONE, 2)
    assert [cancels.take(100.0, hurry=True), cancels.take(100.0, hurry=True)] == [(ALL, [1]), (ONE, [2])]
    assert cancels.take(100.0, hurry=True) is None


def test_a_message_names_so_many_and_no_more_and_nobody_waits_in_a_line_without_end() -> None:
    cancels = Cancels(Pace())
    for number in range(MOST + 5):
        cancels.add(ALL, number)
    assert cancels.count == MOST
    messages = [cancels.take(100.0 + n) for n in range(MOST // MAX_IDS + 1)]
    assert messages.pop() is None
    assert [len(message[1]) for message in messages if message is not None] == [MAX_IDS] * (MOST // MAX_IDS)


def test_with_the_session_they_are_forgotten() -> None:
    cancels = Cancels(Pace())
    cancels.add(ALL, 1)
    cancels.clear()
    assert cancels.take(100.0) is None
    assert cancels.count == 0


@given(st.lists(st.tuples(st.floats(0, 0.3), st.booleans()), max_size=60))
def test_in_no_second_there_are_more_than_ten_messages_and_none_is_lost(steps: list[tuple[float, bool]]) -> None:
    cancels, now, sent, named = Cancels(Pace()), 0.0, list[float](), list[int]()
    for number, (pause, direct) in enumerate(steps):
        now += pause
        cancels.add(ONE if direct else ALL, number)
        while (message := cancels.take(now)) is not None:
            sent.append(now)
            named += message[1]
    while (at := cancels.next(now)) is not None:
        now = max(at, now)
        message = cancels.take(now)
        assert message is not None
        sent.append(now)
        named += message[1]
    assert sorted(named) == list(range(len(steps)))
    assert all(later - at >= 1.0 - 1e-9 for at, later in zip(sent, sent[10:], strict=False))
