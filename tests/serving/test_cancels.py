from __future__ import annotations

import json
from typing import Any

import pytest

from resilient_rpc.errors import FilterRefused, MalformedMessage, Refused
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.cancels import Cancel, Early, read_cancel
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.control import CANCEL, MAX_BODY, MAX_IDS, MAX_TOKEN
from resilient_rpc.wire.filters import Filters, Message

ADDRESS = "rpc.reply.someone"
SENDER = (ADDRESS, "token")
NOBODY = (None, None)


def delivery(body: Any = (1, 2), **properties: Any) -> Delivery:
    found = {"type": CANCEL, "reply_to": ADDRESS, "correlation_id": "token", **properties}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(0, False, {name: value for name, value in found.items() if value is not None}, data)


def read(message: Delivery, filters: Filters | None = None) -> Cancel:
    return read_cancel(message, Addresses(), filters, "rpc.shop")


def test_a_cancel_names_its_sender_and_its_calls() -> None:
    assert read(delivery([1, 2, "three"])) == Cancel(SENDER, NOBODY, frozenset({1, 2, "three"}))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"\xff", b"1", b"null", b"{}", b"[null]", b"[1.5]", b"[true]", b"[-1]", b"[[1]]", b'[{"id":1}]',
        b'[""]',
        b"[" * 5_000, b"[9007199254740993]", json.dumps(["x" * 65]).encode(), json.dumps([1] * (MAX_IDS + 1)).encode(),
        b"[" + b" " * MAX_BODY + b"]",
    ],
    ids=lambda body: repr(body[:16]),
)  # fmt: skip
def test_what_is_no_short_list_of_ids_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read(delivery(body))


@pytest.mark.parametrize(
    "changed",
    [
        {"type": None}, {"type": "rpc.beat"}, {"type": 7}, {"reply_to": None}, {"reply_to": ""}, {"reply_to": 5},
        {"reply_to": "rpc.orders"}, {"reply_to": "rpc.reply." + "x" * 300}, {"correlation_id": None},
        {"correlation_id": ""}, {"correlation_id": 5}, {"correlation_id": "x" * (MAX_TOKEN + 1)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_control_message_that_is_no_cancel_of_somebody_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        read(delivery(**changed))


class Signed:
    """A filter that knows one sender."""

    def outgoing(self, message: Message) -> Message:
        return message

    def incoming(self, message: Message) -> Message:
        assert (message.direction, message.target, message.type) == ("request", "rpc.shop", CANCEL)
        if message.app_id != "alice":
            raise ValueError("unsigned")
        return message.replace(principal="alice")


def test_filters_judge_a_cancel_as_they_judge_a_request() -> None:
    filters = Filters([Signed()])
    assert read(delivery(app_id="alice"), filters).who == ("alice", None)
    with pytest.raises(FilterRefused):
        read(delivery(), filters)


def test_where_senders_have_to_be_known_the_broker_says_who_cancels() -> None:
    users = Users("server")
    found = read_cancel(delivery(user_id="alice"), Addresses(), None, "rpc.shop", users)
    assert found.who == (None, "alice")
    with pytest.raises(Refused):
        read_cancel(delivery(), Addresses(), None, "rpc.shop", users)


def cancel(*ids: int | str) -> Cancel:
    return Cancel(SENDER, NOBODY, frozenset(ids))


def test_what_was_cancelled_before_it_came_is_known_for_a_while() -> None:
    early = Early(seconds=60.0)
    early.add(cancel(1), frozenset({1}), 100.0)
    assert early.take(SENDER, NOBODY, 1, 159.0)
    assert early.take(SENDER, NOBODY, 1, 159.0), "a copy of the message comes, too"
    assert not early.take(SENDER, NOBODY, 1, 160.0)
    assert len(early.marks) == 0


def test_only_the_very_call_of_the_very_sender_is_meant() -> None:
    early = Early()
    early.add(cancel(1), frozenset({1}), 0.0)
    others = [
        (SENDER, NOBODY, 2), (SENDER, ("alice", None), 1), (SENDER, (None, "alice"), 1),
        ((ADDRESS, "other"), NOBODY, 1), (("rpc.reply.other", "token"), NOBODY, 1),
    ]  # fmt: skip
    assert not any(early.take(sender, who, id_, 1.0) for sender, who, id_ in others)


def test_of_too_many_the_oldest_are_forgotten() -> None:
    early = Early(most=2)
    for number in range(5):
        early.add(cancel(number), frozenset({number}), float(number))
    assert [number for number in range(5) if early.take(SENDER, NOBODY, number, 5.0)] == [3, 4]
    assert len(early.marks) == 2


def test_what_is_cancelled_again_is_remembered_anew() -> None:
    early = Early(seconds=60.0)
    early.add(cancel(1, 2), frozenset({1, 2}), 0.0)
    early.add(cancel(1), frozenset({1}), 50.0)
    assert early.take(SENDER, NOBODY, 1, 100.0)
    assert not early.take(SENDER, NOBODY, 2, 100.0)
