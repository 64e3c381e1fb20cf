from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.call import Safety
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.batching import FEW, IDLE, Batching, Route, Target, grouped, plan
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.envelope import Answer, ForeignError, ReplyMeta
from resilient_rpc.wire.limits import Limits


class Outgoing(NamedTuple):
    method: str
    data: bytes
    number: int = 0


class Routed(NamedTuple):
    method: str
    data: bytes
    route: Route
    number: int = 0


def answer(micros: int = 0, room: int | None = None, code: int | None = None, *, replayed: bool = False) -> Answer:
    error = ForeignError(code) if code is not None else None
    return Answer(1, msgspec.Raw(b"null"), error, ReplyMeta(micros, room, replayed))


def learn(target: Target, method: str, *answers: Answer, now: float = 0.0) -> None:
    note = target.learner(method, now)
    for each in answers:
        note(each)


def seconds(target: Target, method: str) -> float:
    """What is thought of a method: how long calls of it take, by how many share a message."""
    size = max(len(group) for group in plan(target, [Outgoing(method, b"")] * 1000, Batching(max_calls=1000)))
    return math.inf if size == 1 else 0.002 / size


methods = st.sampled_from(["quick", "slow", "unknown", "middling"])
MICROS = {"quick": 1, "middling": 600, "slow": 5_000}


@given(
    st.lists(st.tuples(methods, st.integers(0, 300)), max_size=60),
    st.integers(1, 20),
    st.integers(1, 2_000),
    st.integers(0, 70),
    st.floats(1e-6, 0.01),
)
def test_a_plan_holds_every_call_once_in_order_and_keeps_to_all_limits(
    calls: list[tuple[str, int]], most: int, size: int, room: int, limit: float
) -> None:
    target = Target("q")
    for method, micros in MICROS.items():
        learn(target, method, answer(micros, room))
    outgoing = [Outgoing(method, b"x" * length, n) for n, (method, length) in enumerate(calls)]
    batching = Batching(max_calls=most, max_bytes=size, max_seconds=limit)
    groups = plan(target, outgoing, batching)
    assert [call for group in groups for call in group] == outgoing
    for group in groups:
        assert group
        if len(group) == 1:
            continue
        assert len(group) <= min(most, max(room, FEW))
        assert sum(len(call.data) for call in group) <= size
        assert all(call.method != "unknown" for call in group)
        assert sum(MICROS[call.method] / 1e6 for call in group) <= limit * (1 + 1e-9)
    for first, second in itertools.pairwise(groups):  # nothing is split without need
        joined = [*first, second[0]]
        assert (
            len(joined) > min(most, max(room, FEW))
            or sum(len(call.data) + 1 for call in joined) > size
            or sum(MICROS.get(call.method, math.inf) / 1e6 for call in joined) > limit * (1 - 1e-9)
        )


def test_nothing_is_planned_for_nothing() -> None:
    assert plan(Target("q"), [], Batching()) == []


def test_an_unknown_method_travels_alone() -> None:
    target = Target("q")
    target.room = 64
    assert [len(group) for group in plan(target, [Outgoing("m", b"")] * 5, Batching())] == [1] * 5


def test_a_method_that_turned_slow_is_believed_at_once_and_one_that_turned_quick_by_and_by() -> None:
    target = Target("q")
    learn(target, "m", answer(10, 1000))
    assert seconds(target, "m") == pytest.approx(10e-6, rel=0.05)
    learn(target, "m", answer(199, 1000))
    assert seconds(target, "m") == pytest.approx(200e-6, rel=0.05)
    learn(target, "m", answer(10, 1000))
    assert seconds(target, "m") == pytest.approx(181e-6, rel=0.1)
    learn(target, "m", *[answer(10, 1000)] * 200)
    assert seconds(target, "m") == pytest.approx(10e-6, rel=0.05)


def test_replays_errors_and_replies_without_a_time_say_nothing() -> None:
    target = Target("q")
    learn(target, "m", answer(10, 1000))
    learn(target, "m", answer(5000, replayed=True), answer(5000, code=-32000), answer(0), Answer(1))
    assert seconds(target, "m") == pytest.approx(10e-6, rel=0.05)


def test_after_an_overload_the_method_travels_alone_until_a_reply_says_otherwise() -> None:
    target = Target("q")
    for method in ("m", "n"):
        learn(target, method, answer(10, 1000))
    learn(target, "m", answer(code=-32001))
    assert seconds(target, "m") == math.inf
    assert seconds(target, "n") < 1
    learn(target, "m", answer(10, 1000))
    assert seconds(target, "m") < 1


def test_what_has_not_been_heard_of_for_a_while_is_forgotten() -> None:
    target = Target("q")
    learn(target, "m", answer(10, 1000), now=100.0)
    target.refresh(100.0 + IDLE)
    assert seconds(target, "m") < 1
    target.refresh(100.0 + IDLE + 0.1)
    assert seconds(target, "m") == math.inf
    target.refresh(10_000.0)


def test_messages_never_mix_routes_and_each_keeps_the_order_of_its_calls() -> None:
    routes = []
    for name in ("rpc.a", "rpc.b"):
        target = Target(name)
        target.modern = True
        learn(target, "m", answer(1, room=64))
        routes.append(target.route(Safety.UNSAFE, JSON))
    calls = [Routed("m", b"", routes[number % 2], number) for number in range(10)]
    groups = grouped(calls, Batching(), lambda: 0.0)
    assert sorted([call.number for call in group] for group in groups) == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_without_batching_and_to_a_stranger_every_call_travels_alone() -> None:
    stranger, known = Target("rpc.a"), Target("rpc.b")
    known.modern = True
    learn(known, "m", answer(1, room=64))
    to_stranger = [Routed("m", b"", stranger.route(Safety.UNSAFE, JSON), number) for number in range(3)]
    to_known = [call._replace(route=known.route(Safety.UNSAFE, JSON)) for call in to_stranger]
    assert [len(group) for group in grouped(to_stranger, Batching(), lambda: 0.0)] == [1, 1, 1]
    assert [len(group) for group in grouped(to_known, None, lambda: 0.0)] == [1, 1, 1]
    assert [len(group) for group in grouped(to_known, Batching(), lambda: 0.0)] == [3]
    assert grouped([], Batching(), lambda: 0.0) == []


def test_no_message_holds_more_calls_than_the_servers_have_room_for() -> None:
    target = Target("q")
    learn(target, "m", answer(1, 12))
    assert [len(group) for group in plan(target, [Outgoing("m", b"")] * 25, Batching())] == [12, 12, 1]


def test_a_few_quick_calls_share_a_message_even_where_no_slot_is_free() -> None:
    target = Target("q")
    learn(target, "m", answer(1, 0))
    assert [len(group) for group in plan(target, [Outgoing("m", b"")] * 20, Batching())] == [FEW, FEW, 20 - 2 * FEW]
    assert [len(group) for group in plan(target, [Outgoing("m", b"")] * 3, Batching(max_calls=2))] == [2, 1]
    learn(target, "m", answer(900, 0))
    assert [len(group) for group in plan(target, [Outgoing("m", b"")] * 4, Batching())] == [2, 2]


def test_calls_share_a_route_by_safety_and_content_type() -> None:
    target = Target("q")
    routes = {target.route(safety, codec) for safety in Safety for codec in (JSON, MSGPACK)}
    assert len(routes) == 8
    assert routes == {target.route(safety, codec) for safety in Safety for codec in (JSON, MSGPACK)}
    assert {route.target for route in routes} == {target}


@pytest.mark.parametrize("name", ["max_calls", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_a_count_is_a_whole_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Batching\({name}={value!r}\)"):
        Batching(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "1", None, True])
def test_seconds_are_a_positive_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_seconds"):
        Batching(max_seconds=value)


def test_what_has_a_higher_priority_travels_apart_and_first() -> None:
    target = Target("rpc.shop")
    target.modern = True
    learn(target, "m", answer(1, room=64))
    routes = {priority: target.route(Safety.UNSAFE, JSON, priority) for priority in (0, 9, 4)}
    calls = [Routed("m", b"", routes[(0, 9, 4)[number % 3]], number) for number in range(9)]
    groups = grouped(calls, Batching(), lambda: 0.0)
    assert [[call.number for call in group] for group in groups] == [[1, 4, 7], [2, 5, 8], [0, 3, 6]]
    assert target.route(Safety.UNSAFE, JSON) is routes[0]


def test_a_message_of_several_calls_keeps_to_the_limits_of_a_single_one() -> None:
    assert Batching().within(Limits()) == Batching()
    small = Batching().within(Limits(max_body=1_000, max_items=3))
    assert (small.max_calls, small.max_bytes) == (3, 992)
    assert Batching().within(Limits(max_body=1)).max_bytes == 1
    for codec in (JSON, MSGPACK):
        calls = [Outgoing("m", codec.encode("x" * 9)) for _ in range(300)]
        target = Target("q")
        target.room = 300
        target.learner("m", 0.0)(Answer(id=1, meta=ReplyMeta(t=1)))
        [first, *_] = plan(target, calls, Batching(max_calls=300).within(Limits(max_body=1_000)))
        assert 900 < len(codec.join([call.data for call in first])) <= 1_000
