from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    BrokerBlocked,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    PublishRejected,
    Rejected,
    TooLarge,
    Unroutable,
)
from resilient_rpc.events import MalformedDropped, MessageRefused
from resilient_rpc.pending import Pending
from resilient_rpc.transport.post import Post, Question, Survey
from resilient_rpc.wire.filters import Message
from tests.transport.fakes import FakePublisher
from tests.transport.test_link import Bench, error_of, run, settle

EXCHANGE = "rpc.shop.all"


def message(body: bytes = b"{}", target: str = "rpc.shop") -> Message:
    return Message(direction="request", body=body, target=target, content_type="application/json")


def cast(b: Bench, within: float = 30.0, body: bytes = b"{}") -> Post:
    post = Post("shop.m", message(body), b.clock.now() + within)
    b.link.posts.submit(post)
    return post


def question(b: Bench, within: float = 30.0) -> Question:
    post = Question("queue", message(target="queue"), b.clock.now() + within, most=100)
    b.link.posts.submit(post)
    return post


def survey(b: Bench, expect: int | None = None, within: float = 30.0) -> Survey:
    post = Survey(
        "shop.m", message(target=EXCHANGE), b.clock.now() + within, exchange=EXCHANGE, expect=expect,
        read=lambda delivery: [("one", delivery.body)],
    )  # fmt: skip
    b.link.posts.submit(post)
    return post


async def session_of(b: Bench) -> FakePublisher:
    """A session that knows the exchange."""
    b.link.start()
    await settle()
    session = b.transport.sessions[-1]
    session.exchanges.add(EXCHANGE)
    return session


def nothing_left(b: Bench) -> None:
    assert b.link.posts.open == {}
    assert b.link.posts.unconfirmed == {}
    assert len(b.link.posts._deadlines) == 0


def result(post: Pending[Any]) -> Any:
    assert post.done()
    return post.result()


def test_a_cast_ends_with_its_confirm() -> None:
    async def scenario(b: Bench) -> None:
        session, post = await session_of(b), cast(b)
        await settle()
        [sent] = session.sent
        assert (sent.target, sent.mandatory) == ("rpc.shop", True)
        assert sent.properties["message_id"] == sent.correlation_id
        assert "reply_to" not in sent.properties
        assert not post.done()
        session.confirm()
        assert result(post) is None
        nothing_left(b)

    run(scenario)


def test_posts_and_calls_share_the_numbers_of_their_session() -> None:
    async def scenario(b: Bench) -> None:
        session = await session_of(b)
        first, call, second = cast(b), b.submit(), cast(b)
        await settle()
        assert [sent.target for sent in session.sent] == ["rpc.shop"] * 3
        request = next(sent for sent in session.sent if sent.body != b"{}")
        assert request.correlation_id.endswith(f".{request.tag}")
        session.confirm(3, multiple=True)
        assert result(first) is None
        assert result(second) is None
        session.answer(request)
        assert call.done()
        nothing_left(b)

    run(scenario)


def test_what_the_broker_refuses_or_returns() -> None:
    async def scenario(b: Bench) -> None:
        session, nacked, returned, asked = await session_of(b), cast(b), cast(b), question(b)
        await settle()
        session.confirm(1, ok=False)
        assert type(error_of(nacked)) is PublishRejected
        for sent in session.sent[1:]:
            session.events.returned(sent.correlation_id, 312, "NO_ROUTE")
        session.confirm(3, multiple=True)
        assert type(error_of(returned)) is Unroutable
        assert "no queue 'queue'" in str(error_of(asked))
        session.events.returned("nobody's", 312, "NO_ROUTE")
        nothing_left(b)

    run(scenario)


def test_a_question_ends_with_the_first_answer_that_has_its_id() -> None:
    async def scenario(b: Bench) -> None:
        session, post, other = await session_of(b), question(b), cast(b)
        await settle()
        asked, told = session.sent
        assert asked.properties["reply_to"] == session.reply_to
        session.reply(told.correlation_id, b"nobody asked")
        session.reply("guessed.1", b"forged")
        assert not post.done()
        session.reply(asked.correlation_id, b"answer", modern=False)
        session.reply(asked.correlation_id, b"late", modern=False)
        assert result(post) == b"answer"
        assert b.strays == 3
        session.confirm(2, multiple=True)
        assert other.done()
        large = question(b)
        await settle()
        session.reply(session.sent[-1].correlation_id, b"x" * 101)
        assert type(error_of(large)) is TooLarge
        session.confirm(3)
        nothing_left(b)

    run(scenario)


def test_deadlines_say_how_far_it_came() -> None:
    async def scenario(b: Bench) -> None:
        session = await session_of(b)
        unconfirmed, unanswered, unheard = cast(b, within=1.0), question(b, within=1.0), survey(b, within=1.0)
        await settle()
        session.confirm(2)
        await asyncio.sleep(1.1)
        for post, stage in ((unconfirmed, "publish"), (unanswered, "reply"), (unheard, "publish")):
            error = error_of(post)
            assert isinstance(error, DeadlineExceeded)
            assert (error.stage, error.certainty) == (stage, UNKNOWN)
        session.writable = False
        unsent = cast(b, within=1.0)
        await asyncio.sleep(1.1)
        assert error_of(unsent).certainty is NOT_EXECUTED
        session.writable = True
        session.events.writable()
        assert len(session.sent) == 3
        session.confirm(3, multiple=True)
        nothing_left(b)

    run(scenario)


def test_without_a_connection_it_waits_until_its_deadline() -> None:
    async def scenario(b: Bench) -> None:
        post, patient = cast(b, within=1.0), cast(b, within=100.0)
        await asyncio.sleep(1.1)
        assert type(error_of(post)) is NotConnected
        await asyncio.sleep(90.0)
        assert [sent.target for sent in b.transport.sessions[-1].sent] == ["rpc.shop"]
        b.transport.sessions[-1].confirm()
        assert result(patient) is None

    run(scenario, *[OSError("refused")] * 8)


def test_those_that_end_while_there_is_no_connection_are_let_go() -> None:
    async def scenario(b: Bench) -> None:
        b.transport.gate = asyncio.Event()
        for _ in range(20):
            for _ in range(50):
                cast(b, within=0.1)
            await asyncio.sleep(0.2)
        assert len(b.link.posts._unsent) <= 200
        b.transport.gate.set()

    run(scenario)


def test_a_connection_that_is_refused_for_good_ends_what_waits() -> None:
    async def scenario(b: Bench) -> None:
        post = cast(b)
        await settle()
        assert type(error_of(post)) is ConfigurationError
        nothing_left(b)

    run(scenario, ConfigurationError("403"))


def test_in_an_alarm_nothing_is_sent() -> None:
    async def scenario(b: Bench) -> None:
        session = await session_of(b)
        session.writable = False
        waiting = cast(b)
        await settle()
        session.events.blocked("low on memory")
        session.writable = True
        later = cast(b)
        await settle()
        assert {type(error_of(waiting)), type(error_of(later))} == {BrokerBlocked}
        session.events.blocked(None)
        after = cast(b)
        await settle()
        session.confirm()
        assert result(after) is None
        assert len(session.sent) == 1

    run(scenario)


def test_a_session_that_ends_takes_along_what_was_sent_and_nothing_else() -> None:
    async def scenario(b: Bench) -> None:
        session, sent = await session_of(b), cast(b)
        await settle()
        session.raises = ConnectionError("the session has ended")
        unsent = cast(b)
        await settle()
        session.lose()
        assert (type(error_of(sent)), error_of(sent).certainty) == (ConnectionLost, UNKNOWN)
        await asyncio.sleep(1.0)
        assert len(b.transport.sessions[-1].sent) == 1
        b.transport.sessions[-1].confirm()
        assert result(unsent) is None
        nothing_left(b)

    run(scenario)


def test_a_survey_asks_for_its_exchange_first_and_again_on_the_next_session() -> None:
    async def scenario(b: Bench) -> None:
        session = await session_of(b)
        session.gate = asyncio.Event()
        post, given_up = survey(b, expect=2), survey(b)
        await settle()
        b.link.posts.forget(given_up, given_up.given_up())
        session.lose()
        session.gate.set()
        await asyncio.sleep(1.0)
        again = b.transport.sessions[-1]
        assert again is not session
        assert type(error_of(post)) is Unroutable  # that one does not know it
        again.exchanges.add(EXCHANGE)
        known = survey(b, expect=2)
        await settle()
        [asked] = again.sent
        assert asked.properties["expiration"].isdigit()
        again.confirm()
        again.reply(asked, b"1")
        assert not known.done()
        again.reply(asked, b"2")
        assert result(known) == [("one", b"1"), ("one", b"2")]
        late = survey(b, within=1.0)
        await settle()
        again.reply(again.sent[-1], b"3")
        await asyncio.sleep(1.1)
        assert result(late) == [("one", b"3")]
        again.confirm(2)
        nothing_left(b)

    run(scenario)


def test_too_many_too_large_and_too_late() -> None:
    async def scenario(b: Bench) -> None:
        session, first, second = await session_of(b), cast(b), cast(b)
        await settle()
        assert type(error_of(second)) is Rejected
        session.confirm()
        session.raises = TooLarge("a body")
        large = cast(b)
        await settle()
        assert type(error_of(large)) is TooLarge
        session.raises, open_ = None, cast(b)
        await settle()
        await b.link.close()
        assert first.done()
        assert (type(error_of(open_)), error_of(open_).certainty) == (ConnectionLost, UNKNOWN)
        late = cast(b)
        await settle()
        assert error_of(late).certainty is NOT_EXECUTED
        nothing_left(b)

    run(scenario, max_pending=1)


def test_whose_caller_has_gone_leaves_nothing() -> None:
    async def scenario(b: Bench) -> None:
        session, post = await session_of(b), question(b)
        await settle()
        b.link.posts.forget(post, post.given_up())
        unsent = cast(b)
        b.link.posts.forget(unsent, unsent.given_up())
        await settle()
        assert error_of(unsent).certainty is NOT_EXECUTED
        assert error_of(post).certainty is UNKNOWN
        session.confirm(1)
        assert len(session.sent) == 1
        nothing_left(b)

    run(scenario)


class Marks:
    """A filter that marks what is sent, and refuses what is not marked."""

    def outgoing(self, message: Message) -> Message:
        return message.replace(headers={**message.headers, "marked": 1})

    def incoming(self, message: Message) -> Message:
        if not message.body.startswith(b"marked"):
            raise ValueError("who are you?")
        return message


def test_filters_see_casts_and_surveys_and_leave_questions_alone() -> None:
    async def scenario(b: Bench) -> None:
        session, post, asked, told = await session_of(b), survey(b, expect=1), question(b), cast(b)
        await settle()
        marked = {sent.target: "marked" in sent.headers for sent in session.sent}
        assert marked == {EXCHANGE: True, "queue": False, "rpc.shop": True}
        by_target = {sent.target: sent for sent in session.sent}
        session.reply(by_target["queue"], b"bare")
        assert result(asked) == b"bare"
        session.reply(by_target[EXCHANGE], b"bare")
        assert not post.done()
        session.reply(by_target[EXCHANGE], b"marked")
        assert result(post) == [("one", b"marked")]
        session.confirm(3, multiple=True)
        assert told.done()
        assert [type(event) for event in b.events if isinstance(event, MessageRefused | MalformedDropped)] == [
            MessageRefused
        ]

    run(scenario, filters=(Marks(),))


@pytest.mark.parametrize("size", [0, 1])
def test_an_answer_of_an_allowed_size(size: int) -> None:
    async def scenario(b: Bench) -> None:
        session, post = await session_of(b), question(b)
        await settle()
        session.reply(session.sent[0], b"x" * (99 + size))
        assert len(result(post)) == 99 + size
        session.confirm()

    run(scenario)
