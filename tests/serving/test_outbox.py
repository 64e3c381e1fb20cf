from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.events import ReplyRefused
from resilient_rpc.hub import Events
from resilient_rpc.serving import outbox
from resilient_rpc.serving.job import Letter
from resilient_rpc.serving.outbox import TRIES, Outbox
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.batching import Batching
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.filters import Message
from tests.serving.test_doubts import address, blame
from tests.transport.fakes import FakePublisher, FakeTransport
from tests.waiting import PATIENCE, turns


class Bench:
    """An outbox over a publisher that does as the test says, and the letters that it is done with."""

    def __init__(self, batching: Batching | None = None) -> None:
        self.transport = FakeTransport()
        self.done: list[Letter] = []
        self.outbox = Outbox(
            self.transport,  # type: ignore[arg-type]
            asyncio.get_running_loop(),
            batching=batching,
            backoff=Backoff(base=0.001, cap=0.001),
            done=self.done.append,
        )
        self.outbox.start()

    def letter(
        self,
        number: int = 1,
        *,
        ours: bool = True,
        left: int = 1,
        batch: bool = False,
        within: float = 60.0,
        reply_to: str = "rpc.reply.x",
    ) -> Letter:
        made = Letter(
            cast("Any", None),
            Delivery(number, False, {}, b""),
            reply_to=reply_to,
            correlation_id=f"t.{number}",
            codec=JSON,
            ours=ours,
        )
        made.left, made.batch, made.deadline = left, batch, time.monotonic() + within
        return made

    def answer(self, *letters: Letter, data: bytes = b'{"id":1}') -> None:
        for letter in letters:
            self.outbox.answer(letter, data)

    async def sent(self, count: int, session: int = 1) -> FakePublisher:
        found = await self.transport.session(session)
        await turns(lambda: len(found.sent) >= count)
        assert len(found.sent) == count
        return found


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]], batching: Batching | None = None) -> None:
    async def main() -> None:
        bench = Bench(batching)
        await scenario(bench)
        await bench.outbox.close()

    asyncio.run(main())


def test_a_letter_is_done_when_its_reply_is_confirmed_and_not_before() -> None:
    async def scenario(b: Bench) -> None:
        letter = b.letter()
        b.answer(letter)
        session = await b.sent(1)
        [message] = session.sent
        assert (message.target, message.correlation_id, message.mandatory) == ("rpc.reply.x", "t.1", True)
        assert message.properties["type"] == "rpc.reply"
        assert b.outbox.pending == 1
        assert b.done == []
        session.confirm()
        assert b.done == [letter]
        assert b.outbox.pending == 0
        session.confirm(1)
        session.confirm(99)
        assert b.done == [letter]

    run(scenario)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["confirm", "all", "nack", "lose", "answer"]), st.integers(0, 20)), max_size=30)
)
def test_whatever_becomes_of_the_messages_every_letter_is_done_with_once(acts: list[tuple[str, int]]) -> None:
    async def scenario(b: Bench) -> None:
        letters: list[Letter] = []
        for act, number in acts:
            session = b.transport.sessions[-1] if b.transport.sessions else None
            if act == "answer":
                letters.append(b.letter(len(letters) + 1))
                b.answer(letters[-1])
            elif session is None or session.closed:
                pass
            elif act == "lose":
                session.lose()
            elif session.sent:
                tag = 1 + number % len(session.sent)
                session.confirm(tag, multiple=act == "all", ok=act != "nack")
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            while b.outbox.pending:
                session = b.transport.sessions[-1] if b.transport.sessions else None
                if session is not None and session.sent and not session.closed:
                    session.confirm(len(session.sent), multiple=True)
                await asyncio.sleep(0.0005)
        assert sorted(letter.tag for letter in b.done) == [letter.tag for letter in letters]

    run(scenario)


def test_multiple_confirms_all_up_to_its_tag() -> None:
    async def scenario(b: Bench) -> None:
        letters = [b.letter(n) for n in range(5)]
        b.answer(*letters)
        session = await b.sent(5)
        session.confirm(3, multiple=True)
        assert b.done == letters[:3]

    run(scenario)


def test_a_reply_that_is_refused_is_sent_again_and_given_up_in_the_end() -> None:
    async def scenario(b: Bench) -> None:
        letter = b.letter()
        b.answer(letter)
        for number in range(1, TRIES + 1):
            session = await b.sent(number)
            assert b.done == []
            session.confirm(ok=False)
        assert b.done == [letter]
        await asyncio.sleep(0.002)
        assert len(b.transport.sessions[0].sent) == TRIES

    run(scenario)


@pytest.mark.parametrize("error", [TooLarge("no frame carries it"), ConfigurationError("no such")])
def test_a_reply_that_never_fits_holds_nobody_up(error: Exception) -> None:
    async def scenario(b: Bench) -> None:
        session = await b.transport.session()
        session.raises = error
        bad = b.letter(1)
        b.answer(bad)
        await turns(lambda: b.done == [bad])
        session.raises = None
        b.answer(b.letter(2))
        assert (await b.sent(1)).sent[0].correlation_id == "t.2"

    run(scenario)


def test_a_session_that_ended_unheard_keeps_its_replies_in_order_for_the_next_one() -> None:
    async def scenario(b: Bench) -> None:
        session = await b.transport.session()
        session.raises = ConnectionResetError("cut")
        b.answer(*[b.letter(n) for n in range(1, 4)])
        await turns(lambda: not b.outbox._coalescer.inbox)
        session.lose()
        again = await b.sent(3, session=2)
        assert [message.correlation_id for message in again.sent] == ["t.1", "t.2", "t.3"]

    run(scenario)


def test_after_a_loss_only_those_are_answered_again_who_still_wait() -> None:
    async def scenario(b: Bench) -> None:
        waits, gone = b.letter(1), b.letter(2, within=-1.0)
        b.answer(waits, gone)
        session = await b.sent(2)
        session.lose()
        assert b.done == [gone]
        again = await b.sent(1, session=2)
        assert again.sent[0].correlation_id == "t.1"
        again.confirm()
        assert b.done == [gone, waits]

    run(scenario)


def test_while_the_socket_takes_nothing_or_an_alarm_is_on_replies_wait() -> None:
    async def scenario(b: Bench) -> None:
        session = await b.transport.session()
        session.writable = False
        b.answer(b.letter(1))
        await asyncio.sleep(0.002)
        assert session.sent == []
        session.writable = True
        session.events.writable()
        await b.sent(1)
        session.events.blocked("alarm")
        b.answer(b.letter(2))
        await asyncio.sleep(0.002)
        assert len(session.sent) == 1
        session.events.blocked(None)
        await b.sent(2)
        session.events.returned("t.1", 312, "NO_ROUTE")
        session.events.delivered(cast("Any", None))

    run(scenario)


@pytest.mark.parametrize(
    ("most", "size", "expected"), [(64, 10_000, [6]), (4, 10_000, [4, 2]), (64, 20, [2, 2, 2]), (64, 1, [1] * 6)]
)
def test_replies_of_one_tick_share_messages_within_the_limits(most: int, size: int, expected: list[int]) -> None:
    async def scenario(b: Bench) -> None:
        await b.transport.session()
        letter = b.letter(1, left=6, batch=True)
        b.answer(*[letter] * 6)
        session = await b.sent(len(expected))
        assert [len(message.ids) for message in session.sent] == expected
        session.confirm(len(expected), multiple=True)
        assert b.done == [letter]

    run(scenario, Batching(max_calls=most, max_bytes=size))


def test_content_types_do_not_mix() -> None:
    async def scenario(b: Bench) -> None:
        await b.transport.session()
        first, second = b.letter(1, batch=True), b.letter(2, batch=True)
        second.codec = MSGPACK
        b.outbox.answer(first, b"1")
        b.outbox.answer(second, b"\x02")
        b.outbox.answer(first, b"3")
        session = await b.sent(2)
        assert {message.body for message in session.sent} == {b"[1,3]", b"\x02"}

    run(scenario, Batching())


def test_many_addresses_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ADDRESSES", 5)

    async def scenario(b: Bench) -> None:
        for number in range(12):
            letter = b.letter(number)
            letter.reply_to = f"rpc.reply.{number}"
            b.answer(letter)
        session = await b.sent(12)
        assert [message.target for message in session.sent] == [f"rpc.reply.{number}" for number in range(12)]
        assert len(b.outbox._templates) <= 5

    run(scenario)


def test_draining_waits_for_the_confirms_but_not_for_ever() -> None:
    async def scenario(b: Bench) -> None:
        assert await b.outbox.drain(0.0)
        b.answer(b.letter(1))
        session = await b.sent(1)
        assert not await b.outbox.drain(0.01)
        draining = asyncio.create_task(b.outbox.drain(PATIENCE))
        await asyncio.sleep(0)
        session.confirm()
        assert await draining

    run(scenario)


def test_what_wants_no_answer_is_done_with_at_once() -> None:
    async def scenario(b: Bench) -> None:
        letter = b.letter(1, left=2, ours=False, batch=True)
        b.outbox.skip(letter)
        assert b.done == []
        b.outbox.skip(letter)
        assert b.done == [letter]
        other = b.letter(2, left=2, ours=False, batch=True)
        b.answer(other)
        b.outbox.skip(other)
        session = await b.sent(1)
        session.confirm()
        assert b.done == [letter, other]

    run(scenario)


def test_an_address_that_costs_the_connection_is_given_up_and_nobody_elses_reply_is_lost() -> None:
    async def scenario(b: Bench) -> None:
        refused: list[ReplyRefused] = []
        b.outbox._hub = Events()
        b.outbox._hub.on(ReplyRefused, refused.append)
        forged = b.letter(1, reply_to="amq.rabbitmq.reply-to.junk.junk")
        good = [b.letter(n, reply_to=address(number=n)) for n in (2, 3)]
        b.answer(forged, *good)
        session = await b.sent(3)
        session.lose(blame())
        session = await b.sent(1, session=2)
        session.confirm()
        session = await b.sent(3, session=2)
        assert [message.target for message in session.sent] == [each.reply_to for each in (*good, forged)]
        session.confirm(2)
        assert b.done == good
        b.outbox.tell(Message(direction="reply", body=b"", target=forged.reply_to, content_type="", headers={}))
        assert len(session.sent) == 3, "no beat is worth a connection"
        session.lose(blame())
        await turns(lambda: len(b.done) == 3)
        b.answer(b.letter(4, reply_to=address(number=9)))
        await b.sent(1, session=3)
        assert b.outbox.unwanted == len(refused) == 1

    run(scenario)


def test_what_waits_for_its_trial_is_pending_and_is_looked_at_again_when_one_is_due() -> None:
    async def scenario(b: Bench) -> None:
        first = await b.transport.session(1)
        first.lose(blame())
        session = await b.transport.session(2)
        for n in range(1, 7):
            b.answer(b.letter(n, reply_to=f"amq.rabbitmq.reply-to.junk{n}.k"))
        for n in range(1, 5):
            await b.sent(n, session=2)
            session.confirm()
        await turns(lambda: b.outbox.pending == 2)
        assert len(session.sent) == 4
        b.outbox._doubts._trials._as_of -= 10.0
        b.outbox._coalescer.wake()
        await b.sent(5, session=2)

    run(scenario)
