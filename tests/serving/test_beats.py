from __future__ import annotations

import itertools
import math
import time
from typing import Any, cast

import pytest

from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.serving.beats import Beats, liveness
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import encode_headers
from resilient_rpc.wire.codec import JSON
from resilient_rpc.wire.control import MAX_IDS

_numbers = itertools.count(1)


def letter(
    live: Any = 4_000, *, arrived: float = 0.0, address: str = "r", link: str = "t", ours: bool = True
) -> Letter:
    table = {"rpc-version": "1"} if live is None else {"rpc-version": "1", "rpc-live": live}
    delivery = Delivery(1, False, {"headers": encode_headers(table)}, b"")
    made = Letter(cast("Any", None), delivery, reply_to=address, correlation_id=f"{link}.1", codec=JSON, ours=ours)
    made.arrived = arrived
    return made


def job(of: Letter, id_: Any = 1) -> Job:
    context = Context("wait", time.monotonic() + 60, Safety.UNSAFE)
    return Job(of, next(_numbers), cast("Any", None), (), {}, context, id_)


def ids(beats: Beats, jobs: list[Job], now: float) -> list[list[int | str]]:
    return [beat.ids for beat in beats.due(jobs, now)]


def test_a_call_is_spoken_of_from_half_of_its_callers_liveness_on_and_every_half_after_that() -> None:
    beats, jobs = Beats(), [job(letter(4_000))]
    told = [now for now in (0.25, 1.0, 1.75, 2.0, 2.25, 3.75, 4.0, 4.25, 6.0) if ids(beats, jobs, now)]
    assert told == [2.0, 4.0, 6.0]


def test_a_call_that_has_ended_is_not_spoken_of_any_more() -> None:
    beats, one, two = Beats(), letter(), letter()
    jobs = [job(one, 1), job(two, 2)]
    assert ids(beats, jobs, 2.0) == [[1, 2]]
    assert ids(beats, jobs[1:], 4.0) == [[2]]
    jobs[1].finished = True
    assert ids(beats, jobs[1:], 6.0) == []
    assert ids(beats, [], 8.0) == []


def test_calls_of_one_address_and_token_share_a_message_and_no_others_do() -> None:
    beats = Beats()
    stranger = letter()
    stranger.principal = "bob"
    jobs = [
        job(letter(), 1), job(letter(address="s"), 2), job(letter(link="u"), 3), job(letter(), 4), job(stranger, 5),
    ]  # fmt: skip
    assert ids(beats, jobs, 2.0) == [[1, 4], [2], [3], [5]]


def test_the_calls_of_a_batch_are_spoken_of_together() -> None:
    beats, batch = Beats(), letter()
    jobs = [job(batch, n) for n in range(3)]
    assert ids(beats, jobs, 2.0) == [[0, 1, 2]]
    assert ids(beats, jobs, 2.25) == []


def test_a_message_names_so_many_calls_and_no_more() -> None:
    beats, jobs = Beats(), [job(letter(), n) for n in range(MAX_IDS + 1)]
    assert [len(named) for named in ids(beats, jobs, 2.0)] == [MAX_IDS, 1]


def test_old_news_is_dropped_by_the_broker() -> None:
    (beat,) = Beats().due([job(letter(4_000))], 2.0)
    assert beat.seconds == 4.0


@pytest.mark.parametrize("live", [None, 999, 0, -1, 3_600_001, "4000", 4000.0, True, [4000]], ids=repr)
def test_who_does_not_say_a_sensible_liveness_hears_nothing(live: Any) -> None:
    made = letter(live)
    assert liveness(made.delivery) == math.inf
    assert ids(Beats(), [job(made)], 1e9) == []


def test_headers_that_cannot_be_read_are_no_liveness() -> None:
    broken = encode_headers({"rpc-live": 4_000})[:-1]
    assert liveness(Delivery(1, False, {"headers": broken}, b"")) == math.inf


@pytest.mark.parametrize("id_", [None, 1.5, "", "x" * 65, -1, 2**53 + 1, object()], ids=lambda value: f"{value!r:.10}")
def test_a_call_that_cannot_be_named_is_not_spoken_of(id_: Any) -> None:
    assert ids(Beats(), [job(letter(), id_)], 2.0) == []


def test_a_plain_speaker_and_who_wants_no_reply_hear_nothing() -> None:
    jobs = [job(letter(ours=False)), job(letter(address=""))]
    assert ids(Beats(), jobs, 2.0) == []
