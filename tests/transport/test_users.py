"""Whose word is believed about the sender of a message, and what is said of one that is sent on."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.errors import NOT_EXECUTED, Refused
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers
from resilient_rpc.transport.users import USER, Users

SERVER = Users("server")
NOT_A_TABLE = b"\0\0\0\x0c" + USER.encode()


def properties(user: str | None, headers: dict[str, Any] | bytes | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {} if user is None else {"user_id": user}
    if headers is not None:
        found["headers"] = headers if isinstance(headers, bytes) else encode_headers(headers)
    return found


def sent_on(user: str | None, headers: dict[str, Any] | bytes) -> tuple[str | None, dict[str, Any]]:
    """The user and the headers of what is sent on."""
    delivery = Delivery(1, False, properties(user, headers), b"")
    found = decode_properties(SERVER.sent_on(delivery, {"rpc-dead-reason": "failed"}, drop=("x-old",)))
    return found.get("user_id"), decode_headers(found["headers"])


@pytest.mark.parametrize("headers", [None, {}, {"rpc-version": "1"}, {"x": USER}])
def test_the_sender_is_whom_the_broker_names(headers: Any) -> None:
    assert SERVER.sender(properties("joe", headers)) == "joe"


def test_of_what_a_colleague_sends_on_it_is_whom_the_colleague_names() -> None:
    assert SERVER.sender(properties("server", {USER: "joe"})) == "joe"
    assert SERVER.sender(properties("server")) == "server"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (properties(None), "user_id=True"),
        (properties(""), "user_id=True"),
        (properties(None, {USER: "joe"}), "user_id=True"),
        (properties(None, {"user_id": "joe"}), "user_id=True"),
        (properties("jo\ufffd"), "UTF-8"),
        (properties("mallory", {USER: "joe"}), "'mallory' says that somebody else"),
        (properties("server", {USER: 5}), "not the name of a user"),
        (properties("server", {USER: ""}), "not the name of a user"),
        (properties("server", {USER: "x" * 256}), "not the name of a user"),
        (properties("server", NOT_A_TABLE), "cannot be read"),
    ],
)
def test_who_is_not_known_is_refused(found: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        SERVER.sender(found)
    assert caught.value.certainty is NOT_EXECUTED


@pytest.mark.parametrize(
    ("user", "headers", "named"),
    [
        ("joe", {}, {USER: "joe"}),
        ("server", {USER: "joe"}, {USER: "joe"}),
        (None, {}, {}),
        (None, {USER: "joe"}, {}),
        ("mallory", {USER: "joe"}, {}),
    ],
)
def test_what_is_sent_on_names_its_sender_and_nobody_who_is_not_believed(
    user: str | None, headers: dict[str, Any], named: dict[str, Any]
) -> None:
    vouched, found = sent_on(user, {**headers, "x-old": 1, "x-other": 2})
    assert found == {"x-other": 2, "rpc-dead-reason": "failed", **named}
    assert vouched == ("server" if named else None)


def test_sent_on_twice_it_is_still_the_first_sender() -> None:
    _, once = sent_on("joe", {})
    assert sent_on("server", once) == ("server", once)


def test_who_does_not_know_its_own_name_believes_no_colleague_and_names_nobody() -> None:
    users = Users(None)
    assert users.sender(properties("joe")) == "joe"
    with pytest.raises(Refused):
        users.sender(properties("server", {USER: "joe"}))
    delivery = Delivery(1, False, properties("joe", {USER: "ann"}), b"")
    assert not users.can_send_on(delivery)
    assert "user_id" not in decode_properties(users.sent_on(delivery, {}))
    assert users.can_send_on(Delivery(1, False, properties(None), b""))


def test_headers_that_cannot_be_read_name_nobody() -> None:
    assert sent_on("joe", NOT_A_TABLE) == (None, {"rpc-dead-reason": "failed"})
