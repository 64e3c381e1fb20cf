"""A dead letter as an operator sees it: labelled by a server of ours, or by the broker. Nothing in it is trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from resilient_rpc.errors import MalformedMessage
from resilient_rpc.transport import deadletters as names
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers

MAX_SHOWN = 200
MAX_STACK = 4_096


class _Named(msgspec.Struct):
    method: str


_named = msgspec.json.Decoder(_Named | list[_Named])


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """Its label. Texts are printable and bounded, whatever came."""

    reason: str
    method: str
    """Of its first call; empty if nobody can say."""
    calls: int
    queue: str
    """Where it was sent to first."""
    when: datetime | None
    attempts: int | None
    exception: str
    stack: tuple[str, ...]
    server: str
    partial: bool
    """It holds calls, too, that were run: it could not be cut."""
    message_id: str

    @property
    def forced_only(self) -> bool:
        """Whether a replay may do again what was done once."""
        return self.reason == "interrupted" or self.partial


def read(delivery: Delivery) -> DeadLetter:
    """The label of a message in a dead queue."""
    try:
        headers = decode_headers(delivery.properties.get("headers", b""))
    except MalformedMessage:
        headers = {}
    death = _death(headers)
    return DeadLetter(
        reason=_text(headers.get(names.REASON) or headers.get("x-first-death-reason") or "unknown"),
        method=_text(headers.get("rpc-method") or _method_of(delivery.body)),
        calls=_count(headers.get("rpc-calls")) or 1,
        queue=_text(headers.get(names.QUEUE) or headers.get("x-first-death-queue") or death.get("queue") or ""),
        when=_time(headers.get(names.TIME)) or _time(death.get("time")),
        attempts=_count(headers.get(names.ATTEMPTS)),
        exception=_text(headers.get(names.EXCEPTION) or ""),
        stack=tuple(_text(line) for line in str(headers.get(names.STACK) or "")[:MAX_STACK].splitlines()),
        server=_text(headers.get(names.SERVER) or ""),
        partial=headers.get(names.PARTIAL) is True,
        message_id=_text(delivery.properties.get("message_id") or _made_id(delivery)),
    )


def shown_time(when: datetime | None) -> str:
    """For tables: UTC to the second."""
    return "-" if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: Any) -> str:
    text = str(value)[:MAX_SHOWN]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The broker's latest note."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return {}


def _method_of(body: bytes) -> str:
    """From the body, where no header says it."""
    try:
        found = _named.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    if isinstance(found, list):
        return str(found[0].method) if found else ""
    return str(found.method)


def _made_id(delivery: Delivery) -> str:
    """The same each time it is replayed, for a message that came without one."""
    encoded: bytes = delivery.properties.get("headers", b"")
    return "dead-" + hashlib.sha256(len(encoded).to_bytes(8, "big") + encoded + delivery.body).hexdigest()[:32]
