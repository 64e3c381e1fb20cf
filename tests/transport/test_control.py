from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.errors import UNKNOWN, DeadlineExceeded, ServerLost
from resilient_rpc.events import MalformedDropped
from resilient_rpc.replies import Exclusive
from resilient_rpc.transport import control as module
from resilient_rpc.transport.entry import Entry
from resilient_rpc.wire.codec import JSON
from resilient_rpc.wire.control import BEAT, CANCEL, CONTENT_TYPE, MAX_BODY
from resilient_rpc.wire.filters import Message
from tests.transport.fakes import REPLY_TO, FakePublisher, Published
from tests.transport.test_link import Bench, error_of, run, settle

EXCHANGE = "rpc.shop.control"
HERE = "rpc.control." + "a" * 22
GONE = DeadlineExceeded("given up")


def scene(
    scenario: Callable[[Bench], Coroutine[Any, Any, None]], *openings: BaseException | None, **options: Any
) -> None:
    options.setdefault("liveness", 10.0)
    run(scenario, *openings, **options)


def beat(session: FakePublisher, message: Published, ids: Any = None, **properties: Any) -> None:
    """Have a server say that it has the calls of a message."""
    token = message.correlation_id.partition(".")[0]
    fields = {"type": BEAT, "reply_to": HERE, "app_id": "one", **properties}
    session.reply(token, message.ids if ids is None else ids, **fields)


def cancels(session: FakePublisher) -> list[tuple[str, list[int]]]:
    """Where they went, and what they named."""
    return [
        (each.target, JSON.anything.decode(each.body)) for each in session.sent if each.properties["type"] == CANCEL
    ]


async def later(b: Bench, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await settle()


async def pending(b: Bench, **how: Any) -> tuple[Entry, FakePublisher, Published]:
    """A call to a service that has a control exchange."""
    entry, session, message = await b.sent(**how)
    session.exchanges.add(EXCHANGE)
    session.confirm()
    return entry, session, message


class TestBeats:
    def test_every_request_says_for_how_long_a_server_may_be_silent(self) -> None:
        async def scenario(b: Bench) -> None:
            _, _, message = await b.sent()
            assert message.headers["rpc-live"] == 2_500

        scene(scenario, liveness=2.5)

    def test_a_filter_sees_it_too(self) -> None:
        class Sees:
            def outgoing(self, message: Message) -> Message:
                assert message.headers["rpc-live"] == 10_000
                return message

            def incoming(self, message: Message) -> Message:
                return message

        async def scenario(b: Bench) -> None:
            _, _, message = await b.sent()
            assert message.headers["rpc-live"] == 10_000

        scene(scenario, filters=(Sees(),))

    def test_without_a_beat_only_the_deadline_ends_a_call(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, _, _ = await pending(b, within=100.0)
            await later(b, 99.0)
            assert not entry.done()
            await later(b, 2.0)
            assert type(error_of(entry)) is DeadlineExceeded

        scene(scenario)

    def test_a_call_whose_server_falls_silent_fails_at_once(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            for _ in range(3):
                await later(b, 5.0)
                beat(session, message)
            await later(b, 9.9)
            assert not entry.done()
            await later(b, 0.2)
            error = error_of(entry)
            assert isinstance(error, ServerLost)
            assert (error.server, error.certainty, error.retryable, error.counted) == ("one", UNKNOWN, True, True)
            assert "'one' has been silent for 10 s" in str(error)
            assert cancels(session) == [(EXCHANGE, [entry.id])], "who gets the message next need not begin"

        scene(scenario)

    def test_an_answer_ends_the_watch(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            beat(session, message)
            session.answer(message, 7)
            await later(b, 20.0)
            assert entry.outcome().error is None
            assert cancels(session) == []

        scene(scenario)

    def test_a_beat_is_believed_of_calls_to_its_own_target_alone(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            _, _, other = await b.sent("billing.m", within=100.0)
            beat(session, other, ids=message.ids)
            beat(session, message, ids=[*message.ids, 999, "1"], correlation_id=None)
            session.reply("made-up", message.ids, type=BEAT, reply_to=HERE)
            await later(b, 30.0)
            assert not entry.done()
            assert len(b.link._control._liveness) == 0
            assert b.strays == 2

        scene(scenario)

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[null]", b"[" * 3_000, b"[1.5]", b"x", b"[" + b" " * MAX_BODY + b"]"], ids=str
    )
    def test_a_beat_that_cannot_be_read_is_dropped_and_ends_nothing(self, body: bytes) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            beat(session, message, ids=body)
            await later(b, 30.0)
            assert not entry.done()
            assert any(isinstance(event, MalformedDropped) for event in b.events)

        scene(scenario)

    def test_who_did_not_ask_for_beats_takes_no_notice_of_them(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            beat(session, message)
            b.link.blocked("an alarm")
            b.link.blocked(None)
            await later(b, 50.0)
            assert not entry.done()
            assert "rpc-live" not in message.headers

        scene(scenario, liveness=None)

    def test_in_an_alarm_nobody_is_taken_for_lost(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b, within=100.0)
            beat(session, message)
            await later(b, 5.0)
            b.link.blocked("low on memory")
            await later(b, 30.0)
            assert not entry.done()
            b.link.blocked(None)
            await later(b, 9.0)
            assert not entry.done()
            await later(b, 1.1)
            assert isinstance(error_of(entry), ServerLost)

        scene(scenario)


class TestCancels:
    def test_a_call_that_had_a_beat_is_cancelled_where_it_is(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            b.link.forget(entry, GONE)
            await later(b, 0.0)
            assert cancels(session) == [(HERE, [entry.id])]
            sent = session.sent[-1]
            assert sent.correlation_id == message.correlation_id.partition(".")[0]
            assert sent.properties["reply_to"] == REPLY_TO == message.properties["reply_to"]
            assert sent.properties["content_type"] == CONTENT_TYPE
            assert sent.headers == {"rpc-version": "1"}
            assert not sent.mandatory
            assert session.asked == []

        scene(scenario, app_id="shop-web")

    def test_before_a_beat_all_servers_are_told_once_it_is_known_that_they_can_be(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, _ = await pending(b)
            again, _, _ = await b.sent()
            b.link.forget(entry, GONE)
            b.link.forget(again, GONE)
            await later(b, 0.0)
            assert session.asked == [EXCHANGE]
            assert cancels(session) == [(EXCHANGE, [entry.id, again.id])]
            third, _, message = await b.sent()
            assert message.correlation_id.endswith(".4"), "the cancel was a message of this session, too"
            session.answer(message, 7)
            await settle()
            assert third.done()

        scene(scenario)

    def test_a_service_without_a_control_exchange_is_left_in_peace(self) -> None:
        async def scenario(b: Bench) -> None:
            for _ in range(3):
                entry, session, _ = await b.sent()
                b.link.forget(entry, GONE)
                await later(b, 1.0)
            assert (cancels(session), session.asked) == ([], [EXCHANGE])
            await later(b, module.ASK_AGAIN)
            session.exchanges.add(EXCHANGE)
            entry, _, _ = await b.sent()
            b.link.forget(entry, GONE)
            await later(b, 0.0)
            assert cancels(session) == [(EXCHANGE, [entry.id])]

        scene(scenario)

    @pytest.mark.parametrize("named", ["rpc.orders", "rpc.control.short", "", None, "amq.gen-x", HERE + "\n"])
    def test_nothing_is_sent_to_a_queue_that_is_no_control_queue(self, named: str | None) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message, reply_to=named)
            b.link.forget(entry, GONE)
            await later(b, 0.0)
            assert cancels(session) == [(EXCHANGE, [entry.id])]

        scene(scenario)

    def test_there_are_at_most_ten_in_a_second_and_each_names_all_there_are(self) -> None:
        async def scenario(b: Bench) -> None:
            entries = []
            for _ in range(100):
                entry, session, message = await pending(b)
                beat(session, message)
                entries.append(entry)
            for entry in entries:
                b.link.forget(entry, GONE)
                await later(b, 0.01)
            await later(b, 1.0)
            found = cancels(session)
            assert 2 <= len(found) <= 11
            assert [id_ for _, ids in found for id_ in ids] == [entry.id for entry in entries]

        scene(scenario)

    def test_what_was_not_sent_or_has_ended_by_itself_is_not_cancelled(self) -> None:
        async def scenario(b: Bench) -> None:
            unsent = b.entry()
            b.link.submit(unsent)
            b.link.forget(unsent, GONE)
            await settle()
            late, session, _ = await pending(b, within=1.0)
            await later(b, 2.0)
            assert type(error_of(late)) is DeadlineExceeded, "its server knows the deadline, too"
            answered, _, message = await b.sent()
            session.answer(message, 7)
            await settle()
            b.link.forget(answered, GONE)
            await later(b, 1.0)
            assert (cancels(session), session.asked) == ([], [])

        async def opened(b: Bench) -> None:
            b.link.start()
            await settle()
            await scenario(b)

        scene(opened)

    def test_after_a_lost_connection_nobody_knows_the_calls_any_more(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            session.gate = asyncio.Event()
            second, _, _ = await b.sent()
            b.link.forget(second, GONE)
            await settle()
            session.lose()
            session.gate.set()
            await settle()
            b.link.forget(entry, GONE)
            await later(b, 2.0)
            assert cancels(session) == []
            assert b.link._control._cancels.count == 0
            assert b.link._control._asking == {}

        scene(scenario)

    def test_who_closes_tells_those_that_can_be_told_without_waiting(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            unheard, _, _ = await b.sent()
            await b.link.close()
            assert cancels(session) == [(HERE, [entry.id])]
            assert session.asked == []
            assert unheard.done()
            assert session.closed

        scene(scenario)

    def test_who_closes_does_not_wait_for_an_answer_about_an_exchange(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, _ = await pending(b)
            session.gate = asyncio.Event()
            b.link.forget(entry, GONE)
            await settle()
            await b.link.close()
            await settle()
            assert [task for task in asyncio.all_tasks() if task.get_name() == "rpc-control"] == []

        scene(scenario)

    def test_a_cancel_waits_while_the_session_takes_nothing(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            session.writable = False
            b.link.forget(entry, GONE)
            await later(b, 1.0)
            assert cancels(session) == []
            session.writable = True
            await later(b, 1.0)
            assert cancels(session) == [(HERE, [entry.id])]

        scene(scenario)

    def test_in_an_alarm_nobody_is_told_and_who_closes_does_not_wait_for_a_full_socket(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            second, _, _ = await b.sent()
            beat(session, message, ids=[entry.id, second.id])
            b.link.blocked("an alarm")
            b.link.forget(entry, GONE)
            await later(b, 1.0)
            b.link.blocked(None)
            session.writable = False
            await b.link.close()
            assert second.done()
            assert cancels(session) == []

        scene(scenario)

    def test_a_filter_that_refuses_a_cancel_ends_nothing_else(self) -> None:
        class Refuses:
            def outgoing(self, message: Message) -> Message:
                if message.type == CANCEL:
                    assert (message.direction, message.target) == ("request", "rpc.shop")
                    raise ValueError("not this one")
                return message

            def incoming(self, message: Message) -> Message:
                return message

        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            b.link.forget(entry, GONE)
            await later(b, 1.0)
            _, _, next_ = await b.sent()
            assert cancels(session) == []
            assert next_.correlation_id.endswith(".2")

        scene(scenario, filters=(Refuses(),))

    def test_a_storm_of_unknown_fate_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_HELD", 2)

        async def scenario(b: Bench) -> None:
            entries = []
            for _ in range(4):
                entry, session, _ = await pending(b)
                entries.append(entry)
            for entry in entries:
                b.link.forget(entry, GONE)
            await later(b, 1.0)
            assert cancels(session) == [(EXCHANGE, [entries[0].id, entries[1].id])]

        scene(scenario)

    def test_every_way_of_receiving_replies_says_where_they_were_to_go(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await pending(b)
            beat(session, message)
            b.link.forget(entry, GONE)
            await later(b, 0.0)
            assert session.sent[-1].properties["reply_to"] == message.properties["reply_to"]

        scene(scenario, replies=Exclusive())
