from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.call import Safety
from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    BrokerBlocked,
    Certainty,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    MalformedMessage,
    NotConnected,
    PublishRejected,
    Rejected,
    RpcError,
    TooLarge,
    Unroutable,
)
from resilient_rpc.events import ConnectionStateChanged, Event, LateReply, MalformedDropped
from resilient_rpc.hub import Events
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import VirtualClock
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.link import Link
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.envelope import Request
from resilient_rpc.wire.faults import rebuild_fault
from resilient_rpc.wire.limits import Limits
from tests.transport.fakes import REPLY_TO, FakePublisher, FakeTransport, Published


class Bench:
    """A link in virtual time over a publisher that does as the test says."""

    def __init__(self, clock: VirtualClock, *openings: BaseException | None, **options: Any) -> None:
        self.clock, self.transport = clock, FakeTransport(*openings)
        self.events: list[Event] = []
        self.strays = 0
        hub = Events()
        hub.on(Event, self.events.append)
        options.setdefault("backoff", Backoff(random=lambda: 1.0))
        self.link = Link(self.transport, running_runtime(), LinkOptions(**options), hub, self._stray)

    def _stray(self, count: int) -> None:
        self.strays += count

    def entry(
        self,
        method: str = "shop.m",
        *,
        within: float = 30.0,
        safety: Safety = Safety.UNSAFE,
        size: int = 0,
        codec: Any = JSON,
    ) -> Entry:
        number = next(self.link.ids)
        route = self.link.target("rpc." + method.partition(".")[0]).route(safety, codec)
        data = codec.encode(Request("m", ["x" * size], number))
        return Entry(number, method, route, data, self.clock.now() + within)

    def submit(self, *args: Any, **how: Any) -> Entry:
        entry = self.entry(*args, **how)
        self.link.submit(entry)
        return entry

    async def sent(self, *args: Any, **how: Any) -> tuple[Entry, FakePublisher, Published]:
        """A call that was handed to the transport."""
        entry = self.submit(*args, **how)
        await settle()
        session = self.transport.sessions[-1]
        return entry, session, session.sent[-1]

    async def learned(self, method: str = "shop.m", *, room: int = 64, t: int = 1) -> FakePublisher:
        """The target is known to take batches."""
        entry, session, message = await self.sent(method)
        session.confirm()
        session.answer(message, room=room, t=t)
        await settle()
        assert entry.done()
        return session

    def empty(self) -> None:
        """Nothing is left of any call."""
        assert self.link._calls.entries == {}
        assert len(self.link._deadlines) == 0
        assert not self.link._coalescer.inbox
        assert not [entry for entry in self.link._queue if not entry.done()]
        assert self.link.pending == 0

    def states(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, ConnectionStateChanged)]


async def settle() -> None:
    """Let everything happen that can happen at once."""
    for _ in range(8):
        await asyncio.sleep(0)


def error_of(entry: Entry) -> RpcError:
    assert entry.done()
    with pytest.raises(RpcError) as caught:
        entry.result()
    return caught.value


def run(
    scenario: Callable[[Bench], Coroutine[Any, Any, None]], *openings: BaseException | None, **options: Any
) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, *openings, **options)
        await scenario(bench)
        await bench.link.close()
        bench.empty()
        assert bench.link._calls.unconfirmed == {}

    with VirtualClock() as clock:
        clock.run_async(lambda: main(clock))


class TestSending:
    def test_a_call_leaves_at_once_as_one_message(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, message = await b.sent("shop.price", within=30.0)
            assert len(session.sent) == 1
            assert message.target == "rpc.shop"
            assert message.mandatory
            assert message.headers == {"rpc-version": "1", "rpc-method": "shop.price", "rpc-calls": 1}
            properties = message.properties
            assert properties["reply_to"] == REPLY_TO
            assert properties["content_type"] == "application/json"
            assert properties["type"] == "rpc.call"
            assert properties["message_id"] == properties["correlation_id"]
            assert 29_900 < int(properties["expiration"]) <= 30_000
            assert "delivery_mode" not in properties
            assert b.link.connected
            assert b.link.pending == 1

        run(scenario)

    def test_the_time_that_is_left_is_rounded_up_to_a_millisecond(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.learned()
            _, _, message = await b.sent(within=0.0004)
            assert message.properties["expiration"] == "1"

        run(scenario)

    @pytest.mark.parametrize("safety", Safety)
    def test_a_repeatable_call_says_so_where_an_operator_and_the_next_server_see_it(self, safety: Safety) -> None:
        async def scenario(b: Bench) -> None:
            _, _, message = await b.sent(safety=safety)
            assert message.headers.get("rpc-safety") == (None if safety is Safety.UNSAFE else safety.value)

        run(scenario)

    def test_every_message_has_an_id_that_nobody_guesses_and_each_session_its_own(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, first = await b.sent()
            _, _, second = await b.sent()
            token, _, number = first.correlation_id.rpartition(".")
            assert len(token) >= 22
            assert (second.correlation_id, number) == (f"{token}.2", "1")
            session.lose()
            await asyncio.sleep(1)
            _, _, third = await b.sent()
            assert not third.correlation_id.startswith(token)

        run(scenario)

    def test_to_a_target_that_nobody_knows_every_call_travels_alone(self) -> None:
        async def scenario(b: Bench) -> None:
            for _ in range(10):
                b.submit()
            await settle()
            assert [len(message.ids) for message in b.transport.sessions[0].sent] == [1] * 10

        run(scenario)

    def test_to_one_that_is_known_they_travel_together(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entries = [b.submit(within=n + 1) for n in range(64)]
            await settle()
            message = session.sent[-1]
            assert len(session.sent) == 2
            assert message.ids == [entry.id for entry in entries]
            assert message.headers["rpc-calls"] == 64
            assert message.properties["type"] == "rpc.batch"
            assert 63_000 < int(message.properties["expiration"]) <= 64_000
            session.confirm()
            session.answer(message, 5)
            assert [JSON.anything.decode(entry.result().result) for entry in entries] == [5] * 64
            assert b.link.messages == 2

        run(scenario)

    def test_without_batching_each_travels_alone(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            for _ in range(5):
                b.submit()
            await settle()
            assert [len(message.ids) for message in session.sent] == [1] * 6

        run(scenario, batching=None)

    def test_a_target_that_turns_out_to_be_plain_is_sent_no_batch_any_more(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entry, _, message = await b.sent()
            session.answer(message, modern=False)
            assert entry.done()
            assert not entry.modern
            for _ in range(5):
                b.submit()
            await settle()
            assert [len(message.ids) for message in session.sent[2:]] == [1] * 5

        run(scenario)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a.m", "a.n", "b.m"]), st.sampled_from(list(Safety)), st.sampled_from([JSON, MSGPACK])
            ),
            max_size=40,
        )
    )
    def test_only_calls_of_the_same_target_safety_and_content_type_share_a_message(self, calls: list[Any]) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned("a.m")
            await b.learned("a.n")
            await b.learned("b.m")
            known: dict[int, Any] = {}
            for method, safety, codec in calls:
                known[b.submit(method, safety=safety, codec=codec).id] = method.partition(".")[0], safety, codec
            await settle()
            seen: list[int] = []
            for message in session.sent[3:]:
                codec = MSGPACK if message.properties["content_type"] == MSGPACK.content_type else JSON
                found = codec.anything.decode(message.body)
                ids = [item["id"] for item in (found if isinstance(found, list) else [found])]
                assert {known[id_][2] for id_ in ids} == {codec}
                assert len({known[id_] for id_ in ids}) == 1
                assert message.target == "rpc." + known[ids[0]][0]
                assert message.headers["rpc-calls"] == len(ids)
                seen.extend(ids)
            assert sorted(seen) == sorted(known)

        run(scenario)

    def test_while_the_socket_takes_nothing_the_rest_waits_and_goes_in_order(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, _ = await b.sent()
            taken = 0

            def count() -> None:
                nonlocal taken
                taken += 1
                if taken == 3:
                    session.writable = False

            session.after = count
            entries = [b.submit() for _ in range(6)]
            await settle()
            assert len(session.sent) == 4
            b.submit(within=0.5)
            await asyncio.sleep(1)
            assert len(session.sent) == 4
            session.after, session.writable = None, True
            session.events.writable()
            assert [message.ids[0] for message in session.sent[1:]] == [entry.id for entry in entries]
            session.events.writable()

        run(scenario)

    def test_a_call_that_no_frame_carries_fails_alone(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, _ = await b.sent()
            session.raises = TooLarge("no frame carries it")
            entry = b.submit()
            await settle()
            assert type(error_of(entry)) is TooLarge
            assert error_of(entry).certainty is NOT_EXECUTED
            session.raises = None
            other, _, message = await b.sent()
            assert message.correlation_id.endswith(".2")
            session.answer(message)
            assert other.done()

        run(scenario)

    def test_properties_that_cannot_be_encoded_fail_the_call_and_no_other(self) -> None:
        async def scenario(b: Bench) -> None:
            bad = b.submit("shop." + "é" * 200_000)
            good = b.submit()
            await settle()
            assert type(error_of(bad)) in {TooLarge, ConfigurationError}
            assert error_of(bad).certainty is NOT_EXECUTED
            session = b.transport.sessions[0]
            assert [message.ids for message in session.sent] == [[good.id]]

        run(scenario)

    def test_many_methods_do_not_fill_the_memory(self) -> None:
        async def scenario(b: Bench) -> None:
            for number in range(2500):
                b.submit(f"shop.m{number}")
            await settle()
            assert len(b.link._desk.templates) <= 1000

        run(scenario)


class TestAnswers:
    @pytest.mark.parametrize("modern", [True, False])
    def test_an_answer_ends_its_call(self, modern: bool) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.answer(message, {"a": 1}, modern=modern)
            assert JSON.anything.decode(entry.result().result) == {"a": 1}
            assert entry.modern is modern
            b.empty()
            session.confirm()
            assert b.strays == 0

        run(scenario)

    def test_an_answer_before_the_confirm_is_an_answer(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.answer(message)
            session.confirm(ok=False)
            entry.result()

        run(scenario)

    def test_answers_come_in_any_order_and_in_parts(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entries = [b.submit() for _ in range(6)]
            await settle()
            message = session.sent[-1]
            order = list(entries)
            random.shuffle(order)
            for entry in order[:3]:
                session.reply(message, {"jsonrpc": "2.0", "id": entry.id, "result": entry.id})
            session.reply(message, [{"jsonrpc": "2.0", "id": entry.id, "result": entry.id} for entry in order[3:]])
            assert [JSON.anything.decode(entry.result().result) for entry in entries] == [entry.id for entry in entries]

        run(scenario)

    def test_the_answer_says_its_own_content_type(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            body = MSGPACK.encode({"jsonrpc": "2.0", "id": entry.id, "result": b"\xff"})
            session.reply(message, body, content_type="application/msgpack")
            assert entry.codec is MSGPACK
            assert MSGPACK.anything.decode(entry.result().result) == b"\xff"

        run(scenario)

    def test_late_duplicate_unknown_and_foreign_replies_are_counted_and_dropped(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.answer(message, 1)
            session.answer(message, 2)  # duplicate
            assert JSON.anything.decode(entry.result().result) == 1
            late, _, late_message = await b.sent(within=0.5)
            await asyncio.sleep(1)
            session.answer(late_message)  # late
            assert isinstance(error_of(late), DeadlineExceeded)
            waiting, _, last = await b.sent()
            answer = {"jsonrpc": "2.0", "id": waiting.id, "result": "forged"}
            token = last.correlation_id.rpartition(".")[0]
            for correlation in ("", "x", token[:-1], token.swapcase(), "." + last.correlation_id, str(waiting.id)):
                session.reply(correlation, answer)
            session.reply("x", b"garbage")
            session.reply(last, {"jsonrpc": "2.0", "id": 999, "result": 1})
            session.reply(last, {"jsonrpc": "2.0", "id": "1", "result": 1})
            session.reply(last, {"jsonrpc": "2.0", "result": 1})
            session.reply(last, [])
            assert not waiting.done()
            assert b.strays == 2 + 7 + 3
            assert sum(event.count for event in b.events if isinstance(event, LateReply)) == b.strays
            session.answer(last, "true")
            assert JSON.anything.decode(waiting.result().result) == "true"

        run(scenario)

    def test_a_reply_without_or_with_a_strange_correlation_id_is_dropped(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            body = {"jsonrpc": "2.0", "id": entry.id, "result": 1}
            session.reply(message, body, correlation_id=None)
            session.reply(message, body, correlation_id=b"\xff")
            session.reply(message, body, correlation_id=5)
            assert b.strays == 3
            assert not entry.done()

        run(scenario)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"", "application/json"), (b"garbage", "application/json"), (b"[" * 100_000, "application/json"),
            (b"5", "application/json"), (b"\x00", "application/msgpack"), (b"{}", "text/plain"),
            (b"{}", "application/x-pickle"),
            (b'{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}', "application/json"),
        ],
    )  # fmt: skip
    def test_a_reply_that_cannot_be_read_ends_its_calls_and_nobody_knows_if_they_were_executed(
        self, body: bytes, content_type: str
    ) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            other, _, _ = await b.sent()
            session.confirm()
            session.reply(message, body, content_type=content_type)
            error = error_of(entry)
            assert isinstance(error, MalformedMessage)
            assert error.certainty is UNKNOWN
            assert not other.done()
            assert any(isinstance(event, MalformedDropped) for event in b.events)

        run(scenario)

    @pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "9" * 100, "²", "99"])
    def test_garbage_for_no_message_ends_no_call(self, number: str) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.confirm()
            token = message.correlation_id.rpartition(".")[0]
            session.reply(f"{token}.{number}", b"garbage")
            session.reply(
                f"{token}.{number}", {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "m"}}
            )
            assert not entry.done()

        run(scenario)

    @pytest.mark.parametrize("confirmed", [True, False])
    @pytest.mark.parametrize("modern", [True, False])
    def test_an_error_without_id_is_for_all_calls_of_its_message(self, confirmed: bool, modern: bool) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entries = [b.submit() for _ in range(3)]
            await settle()
            other, _, _ = await b.sent()
            message = session.sent[-2]
            if confirmed:
                session.confirm(multiple=True)
            session.reply(
                message, {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "m"}}, modern=modern
            )
            for entry in entries:
                answer = entry.result()
                assert answer.error is not None
                assert entry.modern is modern, "its data can be trusted only if it is one of ours"
                error = rebuild_fault(entry.codec, answer.error, {}, ours=entry.modern)
                assert error.certainty is (NOT_EXECUTED if modern else UNKNOWN)
            assert not other.done()
            assert b.strays == 0

        run(scenario)

    def test_a_reply_over_the_limit_is_not_decoded(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.reply(message, {"jsonrpc": "2.0", "id": entry.id, "result": "x" * 400})
            assert error_of(entry) is not None
            assert "limit of 400" in str(error_of(entry))
            assert error_of(entry).certainty is not NOT_EXECUTED

        run(scenario, limits=Limits(max_body=400))

    @settings(max_examples=60, deadline=None)
    @given(
        st.binary(max_size=40), st.sampled_from(["application/json", "application/msgpack", None, "x"]), st.booleans()
    )
    def test_no_reply_raises(self, body: bytes, content_type: str | None, modern: bool) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.reply(message, body, content_type=content_type, modern=modern)
            if entry.done():
                error = error_of(entry) if entry._error is not None else None
                assert error is None or error.certainty is UNKNOWN

        run(scenario)


class TestConfirms:
    def test_a_refused_message_fails_its_calls_and_no_other(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            pair = [b.submit(), b.submit()]
            await settle()
            other, _, _ = await b.sent()
            session.confirm(2, ok=False)
            for entry in pair:
                assert type(error_of(entry)) is PublishRejected
                assert error_of(entry).certainty is UNKNOWN
                assert error_of(entry).retryable
            assert not other.done()

        run(scenario)

    def test_multiple_confirms_all_up_to_its_tag(self) -> None:
        async def scenario(b: Bench) -> None:
            entries = [b.submit(within=1) for _ in range(5)]
            await settle()
            session = b.transport.sessions[0]
            session.confirm(1)
            session.confirm(4, multiple=True)
            session.confirm(4, multiple=True)
            session.confirm(77)
            session.confirm(2)
            assert list(b.link._calls.unconfirmed) == [5]
            await asyncio.sleep(2)
            assert [error_of(entry).stage for entry in entries] == [*["reply"] * 4, "publish"]  # type: ignore[attr-defined]
            session.confirm(5)

        run(scenario)

    def test_multiple_refuses_all_up_to_its_tag(self) -> None:
        async def scenario(b: Bench) -> None:
            entries = [b.submit() for _ in range(4)]
            await settle()
            b.transport.sessions[0].confirm(3, multiple=True, ok=False)
            assert [type(error_of(entry)) for entry in entries[:3]] == [PublishRejected] * 3
            assert not entries[3].done()

        run(scenario)

    @pytest.mark.parametrize("then", ["confirm", "nack", "nothing"])
    def test_a_returned_message_was_not_executed(self, then: str) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            pair = [b.submit(), b.submit()]
            await settle()
            session.events.returned(session.sent[-1].correlation_id, 312, "NO_ROUTE")
            if then != "nothing":
                session.confirm(ok=then == "confirm")
            for entry in pair:
                error = error_of(entry)
                assert type(error) is Unroutable
                assert error.certainty is NOT_EXECUTED
                assert "rpc.shop" in str(error)

        run(scenario)

    @pytest.mark.parametrize("correlation", ["", "x", "t.9", "t.x", "." * 300])
    def test_a_return_of_what_is_not_known_is_ignored(self, correlation: str) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, _ = await b.sent()
            session.events.returned(correlation, 312, "NO_ROUTE")
            assert not entry.done()

        run(scenario)


EVENTS: dict[str, Callable[[Bench, FakePublisher, Entry], Any]] = {
    "deadline": lambda b, s, e: asyncio.sleep(31),
    "lost": lambda b, s, e: s.lose(),
    "blocked": lambda b, s, e: s.events.blocked("low on memory"),
    "nack": lambda b, s, e: s.confirm(ok=False),
    "returned": lambda b, s, e: s.events.returned(s.sent[-1].correlation_id, 312, "NO_ROUTE") if s.sent else None,
    "close": lambda b, s, e: b.link.close(),
    "cancel": lambda b, s, e: b.link.forget(e, DeadlineExceeded("given up")),
}
# What is told of a call at each stage when something happens to it; None: it goes on.
TABLE: dict[tuple[str, str], tuple[type[RpcError], Certainty] | None] = {
    ("connecting", "deadline"): (NotConnected, NOT_EXECUTED),
    ("connecting", "close"): (ConnectionLost, NOT_EXECUTED),
    ("connecting", "cancel"): (DeadlineExceeded, UNKNOWN),
    ("held", "deadline"): (DeadlineExceeded, NOT_EXECUTED),
    ("held", "lost"): None,
    ("held", "blocked"): (BrokerBlocked, NOT_EXECUTED),
    ("held", "close"): (ConnectionLost, NOT_EXECUTED),
    ("held", "cancel"): (DeadlineExceeded, UNKNOWN),
    ("sent", "deadline"): (DeadlineExceeded, UNKNOWN),
    ("sent", "lost"): (ConnectionLost, UNKNOWN),
    ("sent", "blocked"): None,
    ("sent", "nack"): (PublishRejected, UNKNOWN),
    ("sent", "returned"): (Unroutable, NOT_EXECUTED),
    ("sent", "close"): (ConnectionLost, UNKNOWN),
    ("sent", "cancel"): (DeadlineExceeded, UNKNOWN),
    ("confirmed", "deadline"): (DeadlineExceeded, UNKNOWN),
    ("confirmed", "lost"): (ConnectionLost, UNKNOWN),
    ("confirmed", "blocked"): None,
    ("confirmed", "close"): (ConnectionLost, UNKNOWN),
    ("confirmed", "cancel"): (DeadlineExceeded, UNKNOWN),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("stage", "event"), TABLE, ids=str)
def test_what_is_told_of_a_call_follows_from_how_far_it_came(stage: str, event: str, size: int) -> None:
    async def scenario(b: Bench) -> None:
        if stage == "connecting":
            b.transport.gate = asyncio.Event()
            session = FakePublisher(b.link, replies=True)
        else:
            session = await b.learned()
        session.writable = stage != "held"
        entries = [b.submit() for _ in range(size)]
        await settle()
        if stage == "confirmed":
            session.confirm()
        for entry in entries if event == "cancel" else entries[:1]:
            happened = EVENTS[event](b, session, entry)
            if happened is not None:
                await happened
        await settle()
        expected = TABLE[stage, event]
        for entry in entries:
            if expected is None:
                assert not entry.done()
            else:
                error = error_of(entry)
                assert (type(error), error.certainty) == expected
        if expected is not None:
            b.empty()
        elif event == "lost":
            await asyncio.sleep(1)
            assert len(b.transport.sessions) == 2
            assert b.transport.sessions[1].sent[-1].ids in ([entry.id for entry in entries], [entries[-1].id])

    run(scenario)


@pytest.mark.parametrize(("stage", "where"), [("held", "publish"), ("sent", "publish"), ("confirmed", "reply")])
def test_the_deadline_says_where_the_time_went(stage: str, where: str) -> None:
    async def scenario(b: Bench) -> None:
        session = await b.learned()
        session.writable = stage != "held"
        entry = b.submit(within=1)
        await settle()
        if stage == "confirmed":
            session.confirm()
        await asyncio.sleep(1.1)
        error = error_of(entry)
        assert isinstance(error, DeadlineExceeded)
        assert error.stage == where

    run(scenario)


class TestConnections:
    def test_a_call_waits_for_the_connection_and_the_error_names_what_is_wrong_with_it(self) -> None:
        async def scenario(b: Bench) -> None:
            entry = b.submit(within=3)
            await asyncio.sleep(4)
            error = error_of(entry)
            assert type(error) is NotConnected
            assert "refused" in str(error)
            assert isinstance(error.__cause__, OSError)
            b.transport.openings.clear()
            later = b.submit()
            await asyncio.sleep(3)
            assert b.transport.sessions[0].sent[-1].ids == [later.id]
            assert b.states()[-1] == "connected"
            assert set(b.states()[:-1]) == {"failed"}

        run(scenario, *[ConnectionRefusedError("refused")] * 30)

    def test_what_waited_through_an_outage_leaves_in_order_and_without_the_expired(self) -> None:
        async def scenario(b: Bench) -> None:
            expired = b.submit(within=0.5)
            entries = [b.submit() for _ in range(5)]
            await asyncio.sleep(5)
            assert expired.done()
            assert [message.ids[0] for message in b.transport.sessions[0].sent] == [entry.id for entry in entries]

        run(scenario, OSError(), OSError(), OSError(), OSError())

    def test_a_configuration_error_ends_all_calls_at_once_and_is_tried_again(self) -> None:
        async def scenario(b: Bench) -> None:
            entries = [b.submit(), b.submit()]
            await settle()
            for entry in entries:
                assert type(error_of(entry)) is ConfigurationError
                assert "bad password" in str(error_of(entry))
            b.empty()
            await asyncio.sleep(1)
            _, session, _ = await b.sent()
            assert len(session.sent) == 1

        run(scenario, ConfigurationError("bad password"))

    def test_a_long_outage_leaves_no_trace_of_the_calls_that_ended_in_it(self) -> None:
        async def scenario(b: Bench) -> None:
            traces = []
            for _ in range(50):
                for _ in range(20):
                    entry = b.submit(within=0.05)
                    traces.append(weakref.ref(entry))
                del entry
                await asyncio.sleep(0.1)
            b.empty()
            gc.collect()
            assert sum(trace() is not None for trace in traces) < 100

        run(scenario, *[OSError("down")] * 1000)

    def test_when_nobody_waits_any_more_the_attempts_are_not_urgent(self) -> None:
        async def scenario(b: Bench) -> None:
            b.submit(within=1)
            await asyncio.sleep(200)
            before = b.transport.attempts
            await asyncio.sleep(100)
            assert b.transport.attempts - before <= 11

        run(scenario, *[OSError("down")] * 1000)

    def test_a_session_that_ended_unheard_keeps_what_was_not_sent(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, _ = await b.sent()
            session.raises = ConnectionResetError("cut")
            entries = [b.submit() for _ in range(3)]
            await settle()
            assert not any(entry.done() for entry in entries)
            session.lose()
            await asyncio.sleep(1)
            assert [message.ids[0] for message in b.transport.sessions[1].sent] == [entry.id for entry in entries]

        run(scenario)

    def test_replies_to_the_session_before_are_strays(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, session, message = await b.sent()
            session.lose()
            await asyncio.sleep(1)
            new, _, _ = await b.sent()
            b.transport.sessions[1].reply(message, {"jsonrpc": "2.0", "id": new.id, "result": 1})
            assert not new.done()
            assert b.strays == 1
            assert isinstance(error_of(entry).__cause__, ConnectionResetError)
            assert b.states() == ["connected", "lost", "connected"]

        run(scenario)

    def test_an_alarm_refuses_at_once_until_it_ends(self) -> None:
        async def scenario(b: Bench) -> None:
            waiting, session, message = await b.sent()
            session.events.blocked("low on memory")
            refused = b.submit()
            await settle()
            assert type(error_of(refused)) is BrokerBlocked
            assert "low on memory" in str(error_of(refused))
            session.answer(message)
            waiting.result()
            session.events.blocked(None)
            _, _, last = await b.sent()
            assert len(session.sent) == 2
            assert last.ids
            assert b.states() == ["connected", "blocked", "unblocked"]

        run(scenario)

    def test_an_alarm_ends_with_its_connection(self) -> None:
        async def scenario(b: Bench) -> None:
            _, session, _ = await b.sent()
            session.events.blocked("low on memory")
            session.lose()
            await asyncio.sleep(1)
            await b.sent()
            assert len(b.transport.sessions[1].sent) == 1

        run(scenario)


class TestLimits:
    def test_no_more_calls_wait_than_may(self) -> None:
        async def scenario(b: Bench) -> None:
            entries = [b.submit() for _ in range(5)]
            await settle()
            assert [entry.done() for entry in entries] == [False] * 3 + [True] * 2
            for entry in entries[3:]:
                assert isinstance(error_of(entry), Rejected)
                assert error_of(entry).certainty is NOT_EXECUTED
            session = b.transport.sessions[0]
            session.answer(session.sent[0])
            assert not b.submit().done()
            await settle()
            assert len(session.sent) == 4

        run(scenario, max_pending=3)

    def test_a_call_that_is_given_up_at_once_is_never_sent(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.learned()
            entry = b.submit()
            b.link.forget(entry, DeadlineExceeded("given up"))
            b.link.forget(entry, DeadlineExceeded("twice"))
            await settle()
            assert len(b.transport.sessions[0].sent) == 1
            assert str(error_of(entry)) == "given up"

        run(scenario)

    def test_a_call_whose_time_is_up_is_never_sent(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entries = [b.submit(within=0.0), b.submit(within=-1.0)]
            await settle()
            assert len(session.sent) == 1
            for entry in entries:
                assert isinstance(error_of(entry), DeadlineExceeded)
                assert error_of(entry).certainty is NOT_EXECUTED

        run(scenario)

    def test_a_closed_link_refuses(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.learned()
            await b.link.close()
            entry = b.submit()
            await settle()
            assert type(error_of(entry)) is ConnectionLost
            assert error_of(entry).certainty is NOT_EXECUTED
            b.link.forget(entry, DeadlineExceeded("x"))
            assert b.transport.sessions[0].closed
            assert not b.link.connected

        run(scenario)

    def test_a_link_that_was_never_used_can_be_closed(self) -> None:
        async def scenario(b: Bench) -> None:
            await asyncio.sleep(1)
            assert b.transport.attempts == 0

        run(scenario)

    def test_starting_connects_without_a_call(self) -> None:
        async def scenario(b: Bench) -> None:
            b.link.start()
            await settle()
            assert b.link.connected
            assert b.transport.sessions[0].sent == []

        run(scenario)


ACTS = [
    "submit",
    "submit",
    "submit",
    "answer",
    "confirm",
    "nack",
    "return",
    "lose",
    "block",
    "unblock",
    "stop",
    "go",
    "forget",
    "wait",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 50)), max_size=40), st.booleans())
def test_whatever_happens_every_call_ends_once_by_its_deadline_and_nothing_is_left(
    acts: list[tuple[str, int]], batching: bool
) -> None:
    async def scenario(b: Bench) -> None:
        entries: list[Entry] = []
        for act, number in acts:
            session = b.transport.sessions[-1] if b.transport.sessions and b.link.connected else None
            if act == "submit":
                entries.append(b.submit(f"shop.m{number % 3}", within=0.1 + number / 10))
            elif act == "wait":
                await asyncio.sleep(number / 20)
            elif act == "forget" and entries:
                b.link.forget(entries[number % len(entries)], DeadlineExceeded("given up"))
            elif session is not None and act in {"block", "unblock"}:
                session.events.blocked("alarm" if act == "block" else None)
            elif session is not None and act in {"stop", "go"}:
                session.writable = act == "go"
                if session.writable:
                    session.events.writable()
            elif session is not None and act == "lose":
                session.lose()
            elif session is not None and session.sent:
                message = session.sent[number % len(session.sent)]
                if act == "answer":
                    session.answer(message)
                elif act == "return":
                    session.events.returned(message.correlation_id, 312, "NO_ROUTE")
                else:
                    session.confirm(message.tag, multiple=number % 2 == 0, ok=act == "confirm")
            await settle()
        await asyncio.sleep(6)
        assert all(entry.done() for entry in entries)
        b.empty()

    run(scenario, batching=Batching() if batching else None)
