from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.errors import FilterRefused, MalformedMessage, TooLarge
from resilient_rpc.transport import filtering
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers
from resilient_rpc.wire.filters import Filters, Message

HEADERS = {"rpc-version": "1", "deep": {"a": [1, None]}}
EVERYTHING: dict[str, Any] = {
    "content_type": "application/json",
    "content_encoding": "identity",
    "correlation_id": "token.7",
    "reply_to": "amq.rabbitmq.reply-to",
    "type": "rpc.call",
    "expiration": 1500,
    "timestamp": 1_700_000_000,
    "message_id": "token.7",
    "user_id": "guest",
    "app_id": "shop",
    "priority": 3,
    "delivery_mode": 2,
}


class Changes:
    """Puts these fields into whatever passes; keeps what it saw."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.seen: list[Message] = []

    def outgoing(self, message: Message) -> Message:
        self.seen.append(message)
        return message.replace(**self.changes)

    incoming = outgoing


def delivery(**properties: Any) -> Delivery:
    properties.setdefault("headers", encode_headers(HEADERS))
    return Delivery(4, True, properties, b"body", "rpc.shop")


def test_what_is_sent_is_what_a_filter_sees_on_the_other_side() -> None:
    message = Message(direction="request", body=b"body", target="rpc.shop", headers=HEADERS, **EVERYTHING)
    body, encoded = filtering.outgoing(Filters([Changes()]), message)
    witness = Changes()
    arrived = Delivery(1, False, decode_properties(encoded), body, "rpc.shop")
    filtering.incoming(Filters([witness]), arrived, "request", "rpc.shop")
    [seen] = witness.seen
    for name in Message.__struct_fields__:
        assert getattr(seen, name) == getattr(message, name), name


def test_a_filter_changes_body_content_and_headers_and_nothing_else() -> None:
    message = Message(direction="request", body=b"body", target="rpc.shop", headers=HEADERS, **EVERYTHING)
    changed = dict.fromkeys(("correlation_id", "reply_to", "type", "message_id", "app_id", "user_id"), "forged")
    filters = Filters(
        [Changes(body=b"other", content_type="text/plain", content_encoding="gzip", headers={"a": 1}, **changed)]
    )
    body, encoded = filtering.outgoing(filters, message)
    found = decode_properties(encoded)
    assert body == b"other"
    assert (found["content_type"], found["content_encoding"]) == ("text/plain", "gzip")
    assert decode_headers(found["headers"]) == {"a": 1}
    assert {found[name] for name in changed} == {EVERYTHING[name] for name in changed}


def test_what_arrives_is_read_as_the_filter_leaves_it() -> None:
    filters = Filters([Changes(body=b"plain", content_encoding=None, headers={"rpc-version": "2"}, principal="key-1")])
    seen, left = filtering.incoming(filters, delivery(content_encoding="gzip"), "reply", "address")
    assert (seen.body, left.principal, seen.tag, seen.redelivered) == (b"plain", "key-1", 4, True)
    assert seen.properties["content_encoding"] is None
    assert decode_headers(seen.properties["headers"]) == {"rpc-version": "2"}


def test_headers_that_nobody_touched_are_not_encoded_again() -> None:
    came = delivery()
    seen, left = filtering.incoming(Filters([Changes()]), came, "reply", "address")
    assert seen.properties["headers"] is came.properties["headers"]
    assert left.principal is None


def test_a_message_without_any_property_can_be_filtered() -> None:
    witness = Changes()
    filtering.incoming(Filters([witness]), Delivery(1, False, {}, b""), "request", "rpc.shop")
    assert witness.seen[0].headers == {}
    assert witness.seen[0].expiration is None


@pytest.mark.parametrize("expiration", ["", "soon", "-1", "1.5", "²", "9" * 16])
def test_a_strange_expiration_is_refused(expiration: str) -> None:
    with pytest.raises(MalformedMessage, match="milliseconds"):
        filtering.incoming(Filters([Changes()]), delivery(expiration=expiration), "request", "rpc.shop")


def test_headers_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        filtering.incoming(Filters([Changes()]), delivery(headers=b"\x00\x00\x00\x09x"), "request", "rpc.shop")


def test_headers_of_a_filter_that_cannot_be_encoded_are_its_fault() -> None:
    with pytest.raises(FilterRefused, match="headers"):
        filtering.incoming(Filters([Changes(headers={"a": object()})]), delivery(), "request", "rpc.shop")


def test_headers_of_a_filter_that_are_too_large_are_not_sent() -> None:
    message = Message(direction="request", body=b"", target="rpc.shop")
    with pytest.raises(TooLarge):
        filtering.outgoing(Filters([Changes(headers={"a": "x" * 70_000})]), message)
