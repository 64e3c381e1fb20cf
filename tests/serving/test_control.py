from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc import events
from resilient_rpc.context import Context
from resilient_rpc.policies import Bulkhead
from resilient_rpc.serving import control as module
from resilient_rpc.serving.beats import Beat
from resilient_rpc.serving.core import Serving
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.wire.control import BEAT, CANCEL, control_exchange, is_control_queue
from resilient_rpc.wire.filters import Message
from tests.serving.bench import OURS, QUEUE, Bench, bench, call
from tests.serving.test_beats import letter
from tests.waiting import turns

EXCHANGE = control_exchange(QUEUE)
LIVE = {**OURS, "rpc-live": 1_000}


def run(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test of its own loop."""

    @functools.wraps(scenario)
    def test(**fixtures: Any) -> None:
        asyncio.run(scenario(**fixtures))

    return test


def cancel(b: Bench, ids: Any = (1,), *, to: str = "", **changed: Any) -> None:
    """By the exchange, or to one control queue."""
    fields = {"type": CANCEL, "reply_to": b.client.reply_to, "correlation_id": "token", **changed}
    properties = encode_properties(**{name: value for name, value in fields.items() if value is not None})
    body = ids if isinstance(ids, bytes) else json.dumps(ids).encode()
    if to:
        b.client.publish(to, body, properties, mandatory=False)
    else:
        b.client.announce(EXCHANGE, body, properties)


def here(serving: Serving) -> str:
    assert serving.session is not None
    return serving.session.control


async def ended(serving: Serving, **health: int) -> None:
    await turns(lambda: {name: serving.health()[name] for name in health} == health)


@run
async def test_a_long_call_has_beats_that_name_the_control_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    async with bench() as b:
        serving = await b.serve()
        b.send(call("wait"), LIVE)
        beat = (await b.received(1))[0]
        assert beat.properties["type"] == BEAT
        assert beat.properties["reply_to"] == here(serving)
        assert is_control_queue(beat.properties["reply_to"])
        assert beat.properties["correlation_id"] == "token"
        assert beat.properties["app_id"] == "server"
        assert beat.properties["expiration"] == "1000"
        assert json.loads(beat.body) == [1]
        b.gate.set()
        answered = await b.received(2)
        assert json.loads(answered[-1].body)["id"] == 1
        await turns(lambda: not serving._control.awake)


@run
async def test_a_call_that_waits_for_a_slot_has_beats_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    async with bench() as b:
        await b.serve(concurrency=1, prefetch=5)
        b.send(call("wait", id_=1), LIVE, correlation_id="token.1")
        b.send(call("wait", id_=2), LIVE, correlation_id="token.2")
        await turns(lambda: [2, 1] in [json.loads(beat.body) for beat in b.replies.deliveries])


@run
async def test_no_beat_waits_for_a_broker_that_takes_nothing() -> None:
    async with bench() as b:
        serving = await b.serve()
        b.bus.block()
        await turns(lambda: serving.outbox._blocked)
        serving._control._send(Beat(letter(address=b.client.reply_to), 1.0, [1]))
        b.bus.unblock()
        await turns(lambda: not serving.outbox._blocked)
        serving._control._send(Beat(letter(address=b.client.reply_to), 1.0, [2]))
        assert json.loads((await b.received(1))[0].body) == [2]


@run
async def test_a_running_coroutine_is_cancelled_acked_and_not_answered() -> None:
    async with bench() as b:
        stopped = asyncio.Event()

        async def patient() -> None:
            b.ran.append("patient")
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

        b.method(patient)
        serving = await b.serve()
        b.send(call("patient"), OURS)
        await turns(lambda: b.ran)
        cancel(b)
        await asyncio.wait_for(stopped.wait(), 10)
        await b.settled()
        await ended(serving, cancelled=1, running=0, unacked=0, dead_lettered=0)
        assert b.replies.deliveries == []
        assert [(e.method, e.began) for e in b.events if isinstance(e, events.CallCancelled)] == [("patient", True)]


@run
async def test_a_handler_that_does_not_let_itself_be_cancelled_is_not_answered_either() -> None:
    async with bench() as b:

        async def stubborn() -> str:
            b.ran.append("stubborn")
            try:
                await b.gate.wait()
            except asyncio.CancelledError:
                return "done all the same"
            return "never"

        b.method(stubborn)
        serving = await b.serve()
        b.send(call("stubborn"), OURS)
        await turns(lambda: b.ran)
        cancel(b)
        await ended(serving, cancelled=1, running=0)
        await b.settled()
        assert b.replies.deliveries == []


@run
async def test_work_that_waits_for_a_slot_is_not_begun() -> None:
    async with bench() as b:
        serving = await b.serve(concurrency=1, prefetch=5)
        b.send(call("wait", ["first"], 1), OURS, correlation_id="token.1")
        b.send(call("wait", ["second"], 2), OURS, correlation_id="token.2")
        await turns(lambda: serving.health()["waiting"] == 1)
        cancel(b, [2], to=here(serving))
        await ended(serving, cancelled=1, waiting=0)
        await turns(lambda: b.unacked == 1)
        b.gate.set()
        assert (await b.reply())["id"] == 1
        assert b.ran == ["first"]
        assert [e.began for e in b.events if isinstance(e, events.CallCancelled)] == [False]


@run
async def test_work_that_waits_for_its_method_alone_is_not_begun() -> None:
    async with bench() as b:

        async def single(value: int) -> int:
            b.ran.append(value)
            await b.gate.wait()
            return value

        b.method(single, concurrency=1)
        serving = await b.serve(concurrency=4, prefetch=9)
        for number in (1, 2, 3):
            b.send(call("single", [number], number), OURS, correlation_id=f"token.{number}")
        await turns(lambda: serving.health()["waiting"] == 2)
        cancel(b, [2])
        await ended(serving, cancelled=1, waiting=1)
        b.gate.set()
        assert [json.loads(d.body)["id"] for d in await b.received(2)] == [1, 3]
        await b.settled()
        assert b.ran == [1, 3]


@pytest.mark.parametrize("policies", [(), (Bulkhead(limit=5),)], ids=["plain", "policed"])
@run
async def test_a_plain_function_sees_that_nobody_waits_any_more(policies: tuple[Any, ...]) -> None:
    async with bench() as b:
        seen, begun, go = threading.Event(), threading.Event(), threading.Event()

        def block(ctx: Context) -> None:
            begun.set()
            go.wait(10)
            if ctx.cancelled:
                seen.set()

        b.method(block)
        serving = await b.serve(policies=policies)
        b.send(call("block"), OURS)
        await turns(begun.is_set)
        cancel(b)
        await ended(serving, cancelled=1, unacked=0, running=1)
        go.set()
        await turns(seen.is_set)
        await ended(serving, running=0)
        assert b.replies.deliveries == []


@run
async def test_a_call_of_a_batch_is_cancelled_alone() -> None:
    async with bench() as b:
        serving = await b.serve()
        b.send([call("wait", ["one"], 1), call("wait", ["two"], 2)], OURS)
        await turns(lambda: len(b.ran) == 2)
        cancel(b, [1])
        await ended(serving, cancelled=1, unacked=1)
        b.gate.set()
        assert (await b.reply())["id"] == 2
        await b.settled()


@run
async def test_a_cancel_that_overtakes_its_call_is_kept_for_it() -> None:
    async with bench() as b:
        serving = await b.serve()
        cancel(b, [1, 9])
        await turns(lambda: len(serving._control.early.marks) == 2)
        b.send([call("note", ["one"], 1), call("note", ["two"], 2)], OURS)
        assert (await b.reply())["id"] == 2
        await b.settled()
        assert b.ran == ["two"]
        assert serving.health()["cancelled"] == 1


@run
async def test_a_cancel_to_one_server_of_what_is_not_there_is_counted_and_not_kept() -> None:
    async with bench() as b:
        serving = await b.serve()
        cancel(b, [7, 8], to=here(serving))
        await ended(serving, cancels_ignored=2)
        assert len(serving._control.early.marks) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"reply_to": "rpc.reply.somebody-else"}, {"correlation_id": "guessed"}, {"ids": [2]}, {"ids": b"[1"},
        {"type": "rpc.call"}, {"reply_to": None}, {"correlation_id": None}, {"reply_to": "rpc.shop"},
        {"ids": list(range(1_001))}, {"ids": {"id": 1}}, {"ids": [None]},
    ],
    ids=repr,
)  # fmt: skip
@run
async def test_what_does_not_name_address_token_and_id_stops_nothing(changed: dict[str, Any]) -> None:
    async with bench() as b:
        serving = await b.serve()
        b.send(call("wait"), OURS)
        await turns(lambda: b.ran)
        ids = changed.pop("ids", [1])
        cancel(b, ids, to=here(serving), **changed)
        await turns(lambda: serving.health()["cancels_ignored"])
        assert serving.health()["cancelled"] == 0
        assert any(isinstance(event, events.CancelIgnored) for event in b.events)
        b.gate.set()
        assert (await b.reply())["id"] == 1


@run
async def test_a_plain_speakers_call_is_nobodys_to_cancel() -> None:
    async with bench() as b:
        serving = await b.serve()
        b.send(call("wait"))
        await turns(lambda: b.ran)
        cancel(b, to=here(serving))
        await ended(serving, cancels_ignored=1, cancelled=0)
        b.gate.set()
        assert (await b.reply())["id"] == 1


@run
async def test_an_empty_message_asks_for_nothing() -> None:
    async with bench() as b:
        serving = await b.serve()
        b.client.announce(EXCHANGE, b"", encode_properties())
        cancel(b, [5], to=here(serving))
        await ended(serving, cancels_ignored=1)


class Signed:
    """Names as principal what stands in `app_id`; a beat has to be meant for who asked."""

    def outgoing(self, message: Message) -> Message:
        assert message.type != BEAT or message.principal == "alice"
        return message

    def incoming(self, message: Message) -> Message:
        return message.replace(principal=message.app_id)


@run
async def test_only_who_sent_a_call_cancels_it_where_filters_know_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    async with bench() as b:
        serving = await b.serve(filters=(Signed(),))
        b.send(call("wait"), LIVE, app_id="alice")
        await turns(lambda: b.ran)
        cancel(b, to=here(serving), app_id="mallory")
        await ended(serving, cancels_ignored=1, cancelled=0)
        assert (await b.received(1))[0].properties["type"] == BEAT
        cancel(b, to=here(serving), app_id="alice")
        await ended(serving, cancelled=1, running=0)


@run
async def test_a_server_without_a_control_queue_serves_and_sends_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    async with bench() as b:
        serving = await b.serve()
        assert serving.session is not None
        serving.session.control = ""  # type: ignore[misc]  # as where the broker forbids it
        b.send(call("wait"), LIVE)
        beat = (await b.received(1))[0]
        assert "reply_to" not in beat.properties


@run
async def test_all_servers_hear_what_is_announced() -> None:
    async with bench() as b:
        servings = [await b.serve("one", concurrency=1, prefetch=1), await b.serve("two", concurrency=1, prefetch=1)]
        for number in (1, 2):
            b.send(call("wait", id_=number), OURS, correlation_id=f"token.{number}")
        await turns(lambda: len(b.ran) == 2)
        cancel(b, [1, 2])
        await turns(lambda: [serving.health()["cancelled"] for serving in servings] == [1, 1])
