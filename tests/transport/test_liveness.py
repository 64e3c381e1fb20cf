from __future__ import annotations

import itertools
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.batching import Route
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.liveness import LATE, Liveness
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.wire.codec import JSON

_numbers = itertools.count(1)


def entry() -> Entry:
    target: Any = None
    return Entry(next(_numbers), "shop.m", Route(target, target, JSON), b"", 1e9)


def lost(liveness: Liveness, now: float) -> list[Entry]:
    return [heard.entry for heard in liveness.due(now)]


def test_a_call_without_a_beat_is_not_watched() -> None:
    liveness = Liveness(10.0)
    assert liveness.next() is None
    assert liveness.take(entry()) is None
    assert lost(liveness, 1e9) == []


def test_a_call_is_lost_when_nothing_is_heard_for_as_long_after_its_last_beat() -> None:
    liveness, call = Liveness(10.0), entry()
    liveness.beat(call, "", "", 100.0)
    liveness.beat(call, "", "", 105.0)
    assert liveness.next() == 115.0
    assert lost(liveness, 114.9) == []
    assert lost(liveness, 115.0) == [call]
    assert liveness.next() is None


def test_each_call_has_its_own_time() -> None:
    liveness, one, two = Liveness(10.0), entry(), entry()
    liveness.beat(one, "", "", 100.0)
    liveness.beat(two, "", "", 101.0)
    liveness.beat(one, "", "", 104.0)
    assert lost(liveness, 111.0) == [two]
    assert lost(liveness, 114.0) == [one]


def test_a_call_that_has_ended_is_not_lost() -> None:
    liveness, call = Liveness(10.0), entry()
    liveness.beat(call, "", "", 100.0)
    call.fail(ValueError("given up"))
    assert lost(liveness, 110.0) == []
    assert len(liveness) == 0


def test_the_last_beat_is_kept_for_who_gives_the_call_up() -> None:
    liveness, call = Liveness(10.0), entry()
    liveness.beat(call, "rpc.control.a", "one", 100.0)
    liveness.beat(call, "rpc.control.b", "two", 101.0)
    heard = liveness.take(call)
    assert heard is not None
    assert (heard.control, heard.server) == ("rpc.control.b", "two")
    assert liveness.take(call) is None


def test_who_was_away_itself_gives_the_beats_that_came_meanwhile_time_to_be_read() -> None:
    liveness, call = Liveness(10.0), entry()
    liveness.beat(call, "", "", 100.0)
    late = 110.0 + LATE + 5.0
    assert lost(liveness, late) == []
    assert liveness.next() == late + 5.0
    assert lost(liveness, late + 5.0) == [call]


def test_while_the_broker_takes_nothing_silence_says_nothing() -> None:
    liveness, call = Liveness(10.0), entry()
    liveness.beat(call, "", "", 100.0)
    liveness.hold()
    assert liveness.next() is None
    assert lost(liveness, 500.0) == []
    liveness.resume(500.0)
    assert liveness.next() == 510.0
    assert lost(liveness, 510.0) == [call]


def test_with_the_session_all_is_forgotten() -> None:
    liveness = Liveness(10.0)
    liveness.beat(entry(), "", "", 100.0)
    liveness.hold()
    liveness.clear()
    assert len(liveness) == 0
    liveness.beat(entry(), "", "", 200.0)
    assert liveness.next() == 210.0


@pytest.mark.parametrize("liveness", [None, 1, 1.0, 10.0, 3_600])
def test_a_liveness_is_some_seconds_or_none(liveness: Any) -> None:
    assert LinkOptions(liveness=liveness).liveness == liveness


@pytest.mark.parametrize("liveness", [0, 0.99, -1, 3_601, float("nan"), float("inf"), "10", True, [10]], ids=repr)
def test_any_other_is_refused_by_name(liveness: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"liveness=.*from 1 to 3600, or None"):
        LinkOptions(liveness=liveness)
