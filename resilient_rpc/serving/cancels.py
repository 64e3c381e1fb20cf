"""Cancels that arrive: which calls a sender may stop, and those that were stopped before they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resilient_rpc.errors import MalformedMessage
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.transport import filtering
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.control import CANCEL, MAX_BODY, MAX_TOKEN, read_ids
from resilient_rpc.wire.filters import Filters

Sender = tuple[str, str]
"""The reply address and the token before the dot of the correlation ids: `Letter.address`."""
Who = tuple[str | None, str | None]
"""Who sends it, as far as a filter, and the broker, have proof of it: `Letter.principal` and `Letter.user`."""
REMEMBERED = 10_000
"""Cancelled calls that have not come here."""
FOR = 60.0
"""Seconds for which they are remembered."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """What a message asks for."""

    sender: Sender
    who: Who
    ids: frozenset[int | str]


def read_cancel(
    delivery: Delivery, addresses: Addresses, filters: Filters | None, queue: str, users: Users | None = None
) -> Cancel:
    """What a control message asks for; `users`, where senders have to be known to the broker.

    Raises `MalformedMessage`, `FilterRefused` or `Refused` for what is no cancel of somebody.
    """
    principal, user = None, None
    if len(delivery.body) > MAX_BODY:
        raise MalformedMessage(f"a control message of {len(delivery.body)} bytes, more than {MAX_BODY}")
    if filters is not None:
        delivery, seen = filtering.incoming(filters, delivery, "request", queue)
        principal = seen.principal
    properties = delivery.properties
    if users is not None:
        user = users.sender(properties)
    if properties.get("type") != CANCEL:
        raise MalformedMessage(f"a control message of type {properties.get('type')!r:.40}")
    address, token = properties.get("reply_to"), properties.get("correlation_id")
    if not isinstance(address, str) or not addresses.accept(address):
        raise MalformedMessage(f"a cancel with the reply address {address!r:.80}")
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN:
        raise MalformedMessage("a cancel without the token of its calls")
    return Cancel((address, token), (principal, user), frozenset(read_ids(delivery.body)))


class Early:
    """Calls that were cancelled before they came: bounded, and forgotten after a while. It knows no clock."""

    def __init__(self, most: int = REMEMBERED, seconds: float = FOR) -> None:
        self._most, self._seconds = most, seconds
        self.marks: dict[tuple[Sender, Who, Any], float] = {}
        """Until when each is remembered, in the order in which they end."""

    def add(self, cancel: Cancel, ids: frozenset[int | str], now: float) -> None:
        """Remember those of its calls that are not here."""
        marks = self.marks
        for id_ in ids:
            mark = (cancel.sender, cancel.who, id_)
            marks.pop(mark, None)
            marks[mark] = now + self._seconds
        self._forget(now)

    def take(self, sender: Sender, who: Who, id_: Any, now: float) -> bool:
        """Whether a call that has come was cancelled before. Its copies, if there are any, are, too."""
        self._forget(now)
        return (sender, who, id_) in self.marks

    def _forget(self, now: float) -> None:
        marks = self.marks
        while marks:
            first = next(iter(marks))
            if len(marks) <= self._most and marks[first] > now:
                return
            del marks[first]
