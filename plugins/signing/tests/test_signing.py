from __future__ import annotations

import hashlib
import hmac
import logging
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import ConfigurationError, Filter, Message, Refused
from resilient_rpc_signing import HEADER, Signing
from resilient_rpc_signing.canonical import canonical
from resilient_rpc_signing.seen import Seen

OLD, NEW = b"o" * 32, b"n" * 32
KEYS = {"old": OLD, "new": NEW}
NOW = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def signing(clock: Clock, keys: dict[str, bytes] | None = None, **settings: Any) -> Signing:
    return Signing(keys or {"old": OLD}, clock=clock, **settings)


def request(**changes: Any) -> Message:
    return Message(
        direction="request",
        body=b'{"jsonrpc":"2.0"}',
        target="rpc.orders",
        content_type="application/json",
        headers={"rpc-version": "1", "rpc-method": "orders.create", "rpc-calls": 1},
        correlation_id="token.7",
        reply_to="amq.rabbitmq.reply-to",
        type="rpc.call",
        expiration=30_000,
        timestamp=int(NOW),
        message_id="token.7",
    ).replace(**changes)


def reply(**changes: Any) -> Message:
    return request(
        direction="reply",
        target="amq.rabbitmq.reply-to.a.b",
        reply_to=None,
        type="rpc.reply",
        expiration=None,
        headers={"rpc-version": "1"},
    ).replace(**changes)


def refusal(filter_: Signing, message: Message) -> str:
    with pytest.raises(Refused) as refused:
        filter_.incoming(message)
    text = str(refused.value)
    told = "".join(traceback.format_exception(refused.value))
    for key in KEYS.values():
        assert key.decode() not in told
        assert key.hex() not in told
    return text


class TestAcceptance:
    def test_what_is_signed_is_accepted_and_its_key_named(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(request())
        seen = signing(clock).incoming(sent)
        assert seen.principal == "old"
        assert seen.body == request().body

    def test_the_signature_is_hmac_sha256_of_the_canonical_form(self, clock: Clock) -> None:
        version, key_id, at, mac = signing(clock).outgoing(request()).headers[HEADER].split(";")
        expected = hmac.new(OLD, canonical(request(), "old", int(NOW * 1000)), hashlib.sha256).hexdigest()
        assert (version, key_id, at, mac) == ("1", "old", str(int(NOW * 1000)), expected)

    def test_the_broker_may_write_the_address_where_its_name_stood(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(request())
        signing(clock).incoming(sent.replace(reply_to="amq.rabbitmq.reply-to.g1h2.key=="))
        answer = signing(clock).outgoing(reply())
        signing(clock).incoming(answer.replace(target="amq.rabbitmq.reply-to"))

    def test_the_broker_may_add_headers_of_its_own(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(request())
        signing(clock).incoming(sent.replace(headers={**sent.headers, "x-delivery-count": 2, "x-death": [{}]}))

    @pytest.mark.parametrize("signs", ["old", "new"])
    def test_any_of_the_keys_is_accepted(self, clock: Clock, signs: str) -> None:
        sent = signing(clock, KEYS, signs=signs).outgoing(request())
        assert signing(clock, KEYS, signs="new").incoming(sent).principal == signs

    def test_a_reply_is_signed_with_the_key_of_who_asked(self, clock: Clock) -> None:
        server = signing(clock, KEYS, signs="new")
        sent = server.outgoing(reply(principal="old"))
        assert signing(clock, {"old": OLD}).incoming(sent).principal == "old"
        for stranger in (None, "gone"):
            assert signing(clock, {"new": NEW}).incoming(server.outgoing(reply(principal=stranger))).principal == "new"

    def test_a_request_is_signed_with_the_one_key_that_signs(self, clock: Clock) -> None:
        sent = signing(clock, KEYS, signs="new").outgoing(request(principal="old"))
        assert signing(clock, {"new": NEW}).incoming(sent).principal == "new"

    def test_a_message_without_any_property_can_be_signed(self, clock: Clock) -> None:
        bare = Message(direction="request", body=b"", target="rpc.orders")
        assert signing(clock).incoming(signing(clock).outgoing(bare)).principal == "old"

    def test_it_is_a_filter(self, clock: Clock) -> None:
        assert isinstance(signing(clock), Filter)


CHANGES: dict[str, Any] = {
    "body": b'{"jsonrpc":"2.0 "}',
    "target": "rpc.audit",
    "content_type": "application/msgpack",
    "content_encoding": "gzip",
    "correlation_id": "token.8",
    "reply_to": "rpc.reply.mine",
    "type": "rpc.cast",
    "expiration": 60_000,
    "timestamp": 5,
    "message_id": None,
    "app_id": "",
    "priority": 0,
    "direction": "reply",
}


class TestForgeries:
    @pytest.mark.parametrize("name", CHANGES)
    def test_a_change_of_any_part_is_found(self, clock: Clock, name: str) -> None:
        sent = signing(clock).outgoing(request())
        said = refusal(signing(clock), sent.replace(**{name: CHANGES[name]}))
        assert said == "the signature with the key 'old' does not match the message"

    @pytest.mark.parametrize(
        "headers",
        [
            {"rpc-version": "2", "rpc-method": "orders.create", "rpc-calls": 1},
            {"rpc-version": "1", "rpc-method": "orders.create"},
            {"rpc-version": "1", "rpc-method": "orders.create", "rpc-calls": "1"},
            {"rpc-version": "1", "rpc-method": "orders.create", "rpc-calls": 1, "rpc-safety": "read_only"},
        ],
    )
    def test_a_change_of_a_header_of_ours_is_found(self, clock: Clock, headers: dict[str, Any]) -> None:
        sent = signing(clock).outgoing(request())
        said = refusal(signing(clock), sent.replace(headers={**headers, HEADER: sent.headers[HEADER]}))
        assert "does not match" in said

    def test_a_request_is_no_reply(self, clock: Clock) -> None:
        """What a client sent, thrown back at it as an answer."""
        sent = signing(clock).outgoing(request())
        assert "does not match" in refusal(signing(clock), sent.replace(direction="reply"))

    def test_a_reply_answers_one_request(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(reply())
        assert "does not match" in refusal(signing(clock), sent.replace(correlation_id="token.8"))

    def test_the_key_is_part_of_what_is_signed(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(request())
        renamed = sent.headers[HEADER].replace("old", "twin")
        both = signing(clock, {"old": OLD, "twin": OLD}, signs="old")
        assert "does not match" in refusal(both, sent.replace(headers={**sent.headers, HEADER: renamed}))

    def test_the_time_is_part_of_what_is_signed(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(request())
        version, key_id, at, mac = sent.headers[HEADER].split(";")
        later = ";".join((version, key_id, str(int(at) + 1), mac))
        assert "does not match" in refusal(signing(clock), sent.replace(headers={**sent.headers, HEADER: later}))

    def test_another_key_of_the_same_name_is_found(self, clock: Clock) -> None:
        sent = signing(clock, {"old": NEW}).outgoing(request())
        assert "does not match" in refusal(signing(clock), sent)

    def test_an_unknown_key_is_named(self, clock: Clock) -> None:
        sent = signing(clock, {"other": NEW}).outgoing(request())
        assert refusal(signing(clock), sent) == "signed with the key 'other', which is not known here"

    def test_what_is_not_signed_is_refused(self, clock: Clock) -> None:
        assert refusal(signing(clock), request()) == "the request is not signed"
        assert refusal(signing(clock), reply()) == "the reply is not signed"

    def test_what_is_not_signed_is_accepted_where_nothing_is_required_and_proves_nothing(self, clock: Clock) -> None:
        lenient = signing(clock, require=False)
        assert lenient.incoming(request()).principal is None
        wrong = signing(clock, {"old": NEW}).outgoing(request())
        assert "does not match" in refusal(lenient, wrong)

    @pytest.mark.parametrize(
        "text",
        ["", "1", "1;old;5", "1;;5;" + "0" * 64, "2;old;5;" + "0" * 64, "1;old;-5;" + "0" * 64,
         "1;old;05;" + "0" * 64, "1;old;" + "9" * 17 + ";" + "0" * 64, "1;old;5;" + "0" * 63, "1;old;5;" + "G" * 64,
         "1;o\nld;5;" + "0" * 64, "1;old;5;" + "0" * 64 + "\n", "1;old;\u0665;" + "0" * 64, 5, b"1", None, ["1"], {}],
    )  # fmt: skip
    def test_what_is_no_signature_is_malformed(self, clock: Clock, text: Any) -> None:
        said = refusal(signing(clock), request(headers={HEADER: text}))
        assert said in {"the signature is malformed", "the request is not signed"}
        assert (said == "the request is not signed") == (text is None)

    @pytest.mark.parametrize("value", [1.5, [1], {"a": 1}, True])
    def test_a_header_that_cannot_be_signed_is_refused_and_not_sent(self, clock: Clock, value: Any) -> None:
        sent = signing(clock).outgoing(request())
        headers = {**sent.headers, "rpc-other": value}
        assert refusal(signing(clock), sent.replace(headers=headers)).startswith("a header of the message: a ")
        with pytest.raises(ConfigurationError, match="cannot be signed"):
            signing(clock).outgoing(request(headers={"rpc-other": value}))


class TestTime:
    @pytest.mark.parametrize(("late", "good"), [(-60, True), (-61, False), (0, True), (90, True), (91, False)])
    def test_a_request_is_good_for_its_time_to_live_and_the_window(self, clock: Clock, late: int, good: bool) -> None:
        sent = signing(clock).outgoing(request())
        clock.now += late
        if good:
            signing(clock).incoming(sent)
        else:
            assert refusal(signing(clock), sent) == (
                "signed 61 s from now: the clocks differ by more than 60 s"
                if late < 0
                else "signed 91 s ago: too old by 1 s"
            )

    @pytest.mark.parametrize(
        ("max_age", "late", "good"), [(0, 60, True), (0, 61, False), (300, 360, True), (300, 361, False)]
    )
    def test_a_request_without_one_is_good_for_the_window_and_the_greatest_age(
        self, clock: Clock, max_age: int, late: int, good: bool
    ) -> None:
        sent = signing(clock).outgoing(request(expiration=None))
        clock.now += late
        filter_ = signing(clock, max_age=max_age)
        if good:
            filter_.incoming(sent)
        else:
            assert "too old" in refusal(filter_, sent)

    def test_the_greatest_age_is_not_for_replies(self, clock: Clock) -> None:
        sent = signing(clock).outgoing(reply())
        clock.now += 61
        assert "too old" in refusal(signing(clock, max_age=300), sent)

    def test_a_request_that_comes_again_is_a_replay(self, clock: Clock) -> None:
        server = signing(clock)
        sent = signing(clock).outgoing(request())
        server.incoming(sent)
        for late in (0, 30, 59):
            clock.now = NOW + late
            assert refusal(server, sent) == "the request was seen before: it is a replay"
        clock.now = NOW + 91
        assert "too old" in refusal(server, sent)

    def test_what_the_broker_delivers_again_is_none(self, clock: Clock) -> None:
        server = signing(clock)
        sent = signing(clock).outgoing(request())
        server.incoming(sent)
        server.incoming(sent.replace(redelivered=True))
        assert "replay" in refusal(server, sent)

    def test_a_refused_message_does_not_count_as_seen(self, clock: Clock) -> None:
        server = signing(clock)
        sent = signing(clock).outgoing(request())
        refusal(server, sent.replace(body=b"forged"))
        server.incoming(sent)

    def test_a_reply_may_come_twice(self, clock: Clock) -> None:
        """The server sends it again when its confirm was lost; the client's table takes one."""
        client = signing(clock)
        sent = signing(clock).outgoing(reply())
        client.incoming(sent)
        client.incoming(sent)


class TestSeen:
    def test_memory_is_bounded_and_what_is_forgotten_first_expires_first(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = Seen(10)
        with caplog.at_level(logging.WARNING):
            for number in range(100):
                assert seen.first(b"%d" % number, 100.0 + number, 50.0)
        assert len(seen) <= 10
        assert not seen.first(b"99", 199.0, 50.0)
        assert seen.first(b"0", 100.0, 50.0)
        assert len(caplog.records) == 1

    def test_what_has_expired_is_forgotten(self) -> None:
        seen = Seen(1000)
        for second in range(1000):
            assert seen.first(b"mac", second + 10.0, float(second))
            assert len(seen) <= 12

    def test_one_group_alone_may_be_over_the_bound(self) -> None:
        seen = Seen(10)
        for number in range(20):
            assert seen.first(b"%d" % number, 100.0, 50.0)
        assert not seen.first(b"0", 100.0, 50.0)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"keys": {}}, "at least one"),
            ({"keys": None}, "give a map"),
            ({"keys": {"a": "x" * 32}}, "give bytes, not str"),
            ({"keys": {"a": b"x" * 31}}, "31 bytes; give at least 32"),
            ({"keys": {"a;b": OLD}}, "no key id"),
            ({"keys": {"": OLD}}, "no key id"),
            ({"keys": {5: OLD}}, "no key id"),
            ({"keys": KEYS}, "signs=''"),
            ({"signs": "new"}, "signs='new'"),
            ({"require": 1}, "require=1"),
            ({"window": 0}, "window=0"),
            ({"window": float("inf")}, "window=inf"),
            ({"window": True}, "window=True"),
            ({"max_age": -1}, "max_age=-1"),
            ({"max_age": "5"}, "max_age='5'"),
            ({"remember": 0}, "remember=0"),
            ({"clock": 5}, "clock=5"),
        ],
    )
    def test_a_wrong_setting_is_named(self, settings: dict[str, Any], text: str) -> None:
        settings.setdefault("keys", {"old": OLD})
        with pytest.raises(ConfigurationError) as wrong:
            Signing(**settings)
        assert text in str(wrong.value)
        assert OLD.decode() not in str(wrong.value)

    def test_it_shows_no_key(self) -> None:
        assert "ooo" not in repr(Signing({"old": OLD}))
        assert "signs='old'" in repr(Signing({"old": OLD}))

    def test_the_map_of_keys_is_its_own(self) -> None:
        keys = {"old": OLD}
        filter_ = Signing(keys)
        keys["evil"] = NEW
        assert list(filter_.keys) == ["old"]


TEXTS = st.none() | st.text(max_size=8)
NUMBERS = st.none() | st.integers(0, 2**63)
MESSAGES = st.builds(
    Message,
    direction=st.sampled_from(["request", "reply"]),
    body=st.binary(max_size=20),
    target=st.text(max_size=8),
    content_type=TEXTS,
    content_encoding=TEXTS,
    headers=st.dictionaries(
        st.sampled_from(["rpc-version", "rpc-method", "rpc-", "x-death"]),
        st.text(max_size=5) | st.integers() | st.binary(max_size=5) | st.none(),
    ),
    correlation_id=TEXTS,
    reply_to=TEXTS,
    type=TEXTS,
    expiration=NUMBERS,
    timestamp=NUMBERS,
    message_id=TEXTS,
    app_id=TEXTS,
    priority=NUMBERS,
)


def fields(message: Message) -> dict[str, Any]:
    found = {name: getattr(message, name) for name in message.__struct_fields__}
    found["headers"] = {name: value for name, value in message.headers.items() if name.startswith("rpc-")}
    return found


class TestHostile:
    @given(MESSAGES, MESSAGES)
    def test_two_messages_have_the_same_bytes_only_if_they_are_the_same(self, one: Message, other: Message) -> None:
        assert (canonical(one, "k", 1) == canonical(other, "k", 1)) == (fields(one) == fields(other))

    @given(MESSAGES)
    def test_whatever_is_signed_is_accepted(self, message: Message) -> None:
        clock = Clock()
        assert signing(clock).incoming(signing(clock).outgoing(message)).principal == "old"

    @given(MESSAGES, st.text() | st.binary() | st.integers() | st.none() | st.lists(st.text()))
    def test_whatever_stands_in_the_header_ends_in_a_refusal(self, message: Message, junk: Any) -> None:
        with pytest.raises(Refused):
            signing(Clock()).incoming(message.replace(headers={**message.headers, HEADER: junk}))

    @given(MESSAGES, st.integers(0, 2**16), st.integers(1, 255))
    def test_a_signature_with_any_byte_changed_is_refused(self, message: Message, where: int, by: int) -> None:
        clock = Clock()
        sent = signing(clock).outgoing(message)
        text = bytearray(sent.headers[HEADER].encode())
        text[where % len(text)] ^= by
        with pytest.raises(Refused):
            signing(clock).incoming(sent.replace(headers={**sent.headers, HEADER: text.decode("latin-1")}))

    @given(MESSAGES, st.data())
    def test_a_body_with_any_byte_changed_is_refused(self, message: Message, data: st.DataObject) -> None:
        clock = Clock()
        sent = signing(clock).outgoing(message)
        other = data.draw(st.binary(max_size=20).filter(lambda body: body != message.body))
        with pytest.raises(Refused):
            signing(clock).incoming(sent.replace(body=other))
