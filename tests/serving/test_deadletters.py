"""Dead letters of a server: how they are labelled, and what holds where nothing can be cut out, or sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.errors import (
    ApplicationError,
    Draining,
    Expired,
    Interrupted,
    InvalidParams,
    MalformedMessage,
    MethodNotFound,
    Overloaded,
    TooLarge,
)
from resilient_rpc.events import DeadLettered
from resilient_rpc.serving.deadletters import LABELLED, DeadLetters, reason_of
from resilient_rpc.serving.forwards import Forwards
from resilient_rpc.serving.job import Letter
from resilient_rpc.transport.base import Delivery, QueueSpec
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.properties import decode_headers, encode_properties
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.codec import JSON
from tests.serving.bench import OURS, QUEUE, Bench, bench, call, notification
from tests.serving.test_door import Witness
from tests.waiting import turns

DEAD = "rpc.shop.dead"


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await scenario(made)

    asyncio.run(main())


def letters(b: Bench) -> list[tuple[bytes, dict[str, Any]]]:
    """What lies in the dead queue."""
    return [(d.body, decode_headers(d.properties["headers"])) for d in b.bus.queue(DEAD).messages()]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Interrupted("x"), "interrupted"),
        (Expired("x"), "expired"),
        (MalformedMessage("x"), "malformed"),
        (TooLarge("x"), "malformed"),
        (MethodNotFound("x"), "refused"),
        (InvalidParams("x"), "refused"),
        (Overloaded("x"), "refused"),
        (Draining("x"), "refused"),
        (ApplicationError("x"), "failed"),
        (KeyError("x"), "failed"),
        (asyncio.CancelledError(), "failed"),
    ],
)
def test_the_reason_follows_from_the_error(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


def test_behind_filters_a_batch_is_kept_whole_and_marked() -> None:
    async def scenario(b: Bench) -> None:
        await b.serve(filters=(Witness(),))
        batch = [notification("note", [1]), notification("fail")]
        b.send(batch, OURS, reply_to=None)
        await b.settled()
        [(body, headers)] = letters(b)
        assert body.startswith(b"[")
        assert b'"note"' in body
        assert headers["rpc-dead-partial"] is True

    run(scenario)


def test_a_batch_that_is_dead_as_a_whole_is_not_partial() -> None:
    async def scenario(b: Bench) -> None:
        await b.serve(filters=(Witness(),))
        b.send([notification("nope"), notification("fail")], OURS, reply_to=None)
        await b.settled()
        [(_, headers)] = letters(b)
        assert "rpc-dead-partial" not in headers
        assert headers["rpc-dead-reason"] == "refused"

    run(scenario)


def test_what_may_have_been_begun_rules_over_other_reasons() -> None:
    async def scenario(b: Bench) -> None:
        async def interrupt() -> None:
            raise Interrupted("cut short")

        b.method(interrupt)
        await b.serve()
        b.send([notification("nope"), notification("interrupt")], OURS, reply_to=None)
        await b.settled()
        assert b.dead() == ["interrupted"]

    run(scenario)


def test_headers_that_are_broken_name_no_method_and_spoil_nothing() -> None:
    async def scenario(b: Bench) -> None:
        await b.serve()
        b.bus.publish(QUEUE, b"garbage", encode_properties(headers=b"\x00\x00\x00\x05\x04abcd"))
        await b.settled()
        assert [event.method for event in b.events if isinstance(event, DeadLettered)] == [""]
        [(body, headers)] = letters(b)
        assert (body, headers["rpc-dead-reason"]) == (b"garbage", "malformed")

    run(scenario)


def test_a_flood_of_what_nobody_can_be_told_of_is_buried_by_the_broker_but_for_the_first() -> None:
    async def scenario(b: Bench) -> None:
        serving = await b.serve()
        for _ in range(LABELLED):
            b.send(b"garbage", reply_to=None)
        b.send(notification("nope"), reply_to=None)
        b.send(notification("fail"), reply_to=None)
        b.send([notification("nope"), notification("note")], reply_to=None)
        await b.settled()
        reasons = Counter(headers.get("rpc-dead-reason", "") for _, headers in letters(b))
        assert reasons == {"malformed": LABELLED, "failed": 1, "": 1, "refused": 1}, "what was begun, or is cut, is not"
        assert serving.health()["dead_lettered"] == LABELLED + 3
        assert Counter(b.dead()) == {"malformed": LABELLED, "refused": 2, "failed": 1}

    run(scenario)


def test_where_the_broker_would_drop_it_every_letter_is_labelled() -> None:
    async def scenario(b: Bench) -> None:
        serving = await b.serve()
        other = QueueSpec(name=QUEUE, service="shop", arguments={"x-dead-letter-exchange": None})
        for queue, whole in ((QueueSpec(name=QUEUE, service="shop"), False), (other, True)):
            users, forwards = Users(None), serving.outbox.forwards
            dead = DeadLetters(queue, "server", forwards, users, b.hub, lambda *_: None, cuttable=True)
            sent = forwards.pending
            for _ in range(2 * LABELLED):
                letter = Letter(
                    b.client, Delivery(1, False, {}, b"x"), reply_to="", correlation_id="", codec=JSON, ours=False
                )
                letter.deaths.append((-1, "malformed", None))
                dead.bury(letter)
            assert (forwards.pending - sent == 2 * LABELLED) is whole
        await turns(lambda: not serving.outbox.pending)

    run(scenario)


def test_what_cannot_be_sent_takes_the_way_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Forwards.add

    def refuse(self: Forwards, forward: Any) -> None:
        forward.target = "gone"
        add(self, forward)

    async def scenario(b: Bench) -> None:
        await b.serve()
        monkeypatch.setattr(Forwards, "add", refuse)
        b.send(b"garbage", reply_to=None)
        await b.settled()
        [(body, headers)] = letters(b)
        assert (body, headers["x-first-death-reason"]) == (b"garbage", "rejected")

    run(scenario)


def test_neither_an_alarm_nor_a_lost_consumer_makes_a_second_letter() -> None:
    async def scenario(b: Bench) -> None:
        serving = await b.serve()
        b.bus.block()
        b.send(b"garbage", reply_to=None)
        b.bus.unblock()
        await b.settled()
        assert len(letters(b)) == serving.health()["dead_lettered"] == 1
        b.drop(MemoryConsumer)
        await turns(lambda: b.bus.queue(QUEUE).consumers == 1)
        await b.settled()
        assert len(letters(b)) == 1

    run(scenario)


def test_an_answered_call_has_no_dead_letter_even_beside_dead_ones() -> None:
    async def scenario(b: Bench) -> None:
        await b.serve()
        assert (await b.ask([call("echo", [1], 7), notification("fail")]))[0]["result"] == 1
        [(body, headers)] = letters(b)
        assert b'"fail"' in body
        assert b'"echo"' not in body
        assert headers["rpc-calls"] == 1

    run(scenario)
