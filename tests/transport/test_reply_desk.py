"""A link under each reply strategy: what waits over a reconnect, which address a request carries, what is released."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_rpc.errors import UNKNOWN, ConnectionLost, DeadlineExceeded, RpcError
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.reply_queues import ReplyQueues, ReplyQueueTaken, ReplyStrategy
from tests.transport.fakes import FakePublisher
from tests.transport.test_link import Bench, error_of, run, settle

NAMED = Named(app="shop")


class LeasingFake(FakePublisher):
    """With as many queues as the test allows."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reply_to, self.addresses = "", ()
        self.leased: list[str] = []
        self.released: list[str] = []

    def lease(self) -> str:
        self.leased.append(f"amq.gen-{len(self.leased)}")
        return self.leased[-1]

    def release(self, address: str) -> None:
        self.released.append(address)


def queues_of(session: FakePublisher) -> ReplyQueues:
    assert isinstance(session.replies, ReplyQueues)
    return session.replies


async def next_session(b: Bench) -> FakePublisher:
    session = await b.transport.session(len(b.transport.sessions) + 1)
    await settle()
    return session


class TestNamed:
    def test_a_confirmed_call_is_answered_on_the_next_session_and_an_unconfirmed_one_is_unknown(self) -> None:
        async def scenario(b: Bench) -> None:
            confirmed, first, question = await b.sent("shop.a")
            first.confirm()
            unconfirmed, _, other = await b.sent("shop.b")
            name = queues_of(first).name
            first.lose()
            error = error_of(unconfirmed)
            assert (type(error), error.certainty) == (ConnectionLost, UNKNOWN)
            assert not confirmed.done()
            second = await next_session(b)
            assert (queues_of(second).name, queues_of(second).epoch) == (name, 1)
            second.answer(other, "late")
            assert b.strays == 1
            second.answer(question, "here")
            assert bytes(confirmed.result().result) == b'"here"'

        run(scenario, replies=NAMED)

    def test_messages_of_the_next_session_have_numbers_of_their_own(self) -> None:
        async def scenario(b: Bench) -> None:
            old, first, question = await b.sent("shop.a")
            first.confirm()
            first.lose()
            second = await next_session(b)
            new, _, other = await b.sent("shop.a")
            assert (question.correlation_id.partition(".")[2], other.correlation_id.partition(".")[2]) == ("1", "2")
            assert question.correlation_id.partition(".")[0] == other.correlation_id.partition(".")[0]
            second.confirm(1, ok=False)
            assert (new.done(), old.done()) == (True, False)
            third, _, message = await b.sent("shop.a")
            second.events.returned(message.correlation_id, 312, "NO_ROUTE")
            second.confirm(2)
            assert (third.done(), old.done()) == (True, False)
            second.reply(question, b"garbage")
            assert old.done()
            assert error_of(old).certainty is UNKNOWN

        run(scenario, replies=NAMED)

    def test_what_waits_for_a_queue_that_is_gone_is_told_at_the_next_session(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, first, question = await b.sent()
            first.confirm()
            first.lose()
            b.transport.opened = lambda session: setattr(session, "kept", False)
            second = await next_session(b)
            error = error_of(entry)
            assert (type(error), error.certainty) == (ConnectionLost, UNKNOWN)
            assert "reply queue is gone" in str(error)
            _, _, message = await b.sent()
            assert message.correlation_id.partition(".")[2] == "1"
            assert message.correlation_id.partition(".")[0] != question.correlation_id.partition(".")[0]
            second.answer(question)
            assert b.strays == 1
            second.confirm()
            second.answer(message)

        run(scenario, replies=NAMED)

    def test_it_still_ends_by_its_deadline(self) -> None:
        async def scenario(b: Bench) -> None:
            entry, first, _ = await b.sent(within=5.0)
            first.confirm()
            b.transport.openings = [ConnectionRefusedError("down")] * 1000
            first.lose()
            await asyncio.sleep(6.0)
            error = error_of(entry)
            assert isinstance(error, DeadlineExceeded)
            assert (error.stage, error.certainty) == ("reply", UNKNOWN)

        run(scenario, replies=NAMED)

    def test_calls_that_were_joined_share_the_fate_of_their_message(self) -> None:
        async def scenario(b: Bench) -> None:
            session = await b.learned()
            entries = [b.submit("shop.m") for _ in range(3)]
            await settle()
            assert len(session.sent[-1].ids) == 3
            first, *rest = entries
            session.reply(session.sent[-1], {"jsonrpc": "2.0", "id": first.id, "result": 1})
            session.lose()
            await next_session(b)
            assert bytes(first.result().result) == b"1"
            assert [type(error_of(entry)) for entry in rest] == [ConnectionLost] * 2

        run(scenario, replies=NAMED)

    def test_a_name_that_is_taken_is_given_up_for_another(self) -> None:
        async def scenario(b: Bench) -> None:
            before = b.link._desk.queues
            assert before is not None
            b.submit()
            session = await b.transport.session()
            assert queues_of(session).name != before.name
            assert queues_of(session).epoch == 0

        taken: RpcError = ReplyQueueTaken("405")
        run(scenario, taken, replies=NAMED)


@pytest.mark.parametrize("strategy", [Direct(), Exclusive(), Pool()], ids=["direct", "exclusive", "pool"])
def test_without_a_queue_that_outlives_the_session_all_that_was_sent_is_unknown(strategy: ReplyStrategy) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.opened = lambda session: setattr(session, "addresses", ("amq.gen-a", "amq.gen-b"))
        entry, first, _ = await b.sent()
        first.confirm()
        first.lose()
        assert error_of(entry).certainty is UNKNOWN
        second = await next_session(b)
        assert not second.kept

    run(scenario, replies=strategy)


def test_a_pool_takes_its_addresses_in_turn() -> None:
    async def scenario(b: Bench) -> None:
        b.transport.opened = lambda session: setattr(session, "addresses", ("amq.gen-a", "amq.gen-b", "amq.gen-c"))
        entries: list[Entry] = []
        for _ in range(5):
            entry, session, message = await b.sent()
            session.confirm()
            session.answer(message)
            entries.append(entry)
        assert [message.properties["reply_to"][-1] for message in session.sent] == ["a", "b", "c", "a", "b"]
        assert b.link._replies.address == ""
        assert all(entry.done() for entry in entries)

    run(scenario, replies=Pool(size=3))


class TestPerCall:
    @staticmethod
    def leasing(b: Bench) -> None:
        async def publisher(events: Any, *, replies: Any, timeout: float) -> LeasingFake:
            session = LeasingFake(events, replies=replies)
            b.transport.sessions.append(session)
            return session

        b.transport.publisher = publisher  # type: ignore[method-assign]

    def test_each_call_has_a_queue_and_gives_it_back_however_it_ends(self) -> None:
        async def scenario(b: Bench) -> None:
            self.leasing(b)
            answered, session, message = await b.sent()
            assert isinstance(session, LeasingFake)
            session.answer(message)
            assert answered.done()
            assert session.released == ["amq.gen-0"]
            b.submit()
            await settle()
            session.events.returned(session.sent[-1].correlation_id, 312, "NO_ROUTE")
            assert session.released == ["amq.gen-0", "amq.gen-1"]
            b.submit(within=1.0)
            await asyncio.sleep(2.0)
            assert session.released[2:] == ["amq.gen-2"]
            given_up = b.submit()
            await settle()
            b.link.forget(given_up, TimeoutError())
            await settle()
            assert session.released[3:] == ["amq.gen-3"]
            b.submit()
            await settle()
            session.lose()
            assert session.released[4:] == ["amq.gen-4"]
            assert [m.properties["reply_to"] for m in session.sent] == session.leased

        run(scenario, replies=PerCall())

    def test_calls_are_not_joined(self) -> None:
        async def scenario(b: Bench) -> None:
            self.leasing(b)
            session = await b.learned()
            for _ in range(5):
                b.submit()
            await settle()
            assert [len(message.ids) for message in session.sent] == [1] * 6

        run(scenario, replies=PerCall())

    def test_a_queue_whose_request_could_not_be_sent_is_used_for_the_next(self) -> None:
        async def scenario(b: Bench) -> None:
            self.leasing(b)
            session = await b.learned()
            assert isinstance(session, LeasingFake)
            session.raises = ConnectionError("ended")
            b.submit()
            await settle()
            session.raises = None
            b.submit()
            await settle()
            assert session.leased == ["amq.gen-0", "amq.gen-1", "amq.gen-2"]
            assert [m.properties["reply_to"] for m in session.sent] == session.leased

        run(scenario, replies=PerCall())

    def test_calls_wait_while_no_queue_is_ready(self) -> None:
        async def scenario(b: Bench) -> None:
            self.leasing(b)
            session = await b.learned()
            session.writable = False
            entry = b.submit()
            await settle()
            assert len(session.sent) == 1
            session.writable = True
            session.events.writable()
            assert len(session.sent) == 2
            session.answer(session.sent[-1])
            assert entry.done()

        run(scenario, replies=PerCall())
