"""Who sent a message: by the broker's word, or by that of a colleague who has sent it on.

The broker takes the property ``user_id`` only from a connection of that very user. So whoever sends a message on cannot
keep it: it puts its own name there, and the sender's into a header. That header is believed from colleagues alone, who
connect as the same user: anybody can write a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient_rpc.errors import MalformedMessage, Refused
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.deadletters import copied
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.transport.tables import MAX_SHORT

USER = "x-rpc-user"
"""The sender of a message that was sent on. No `rpc-` header: signatures cover those."""
_USER = USER.encode()


class Users:
    """What somebody who connects as `own` believes of messages, and says of those that are sent on."""

    def __init__(self, own: str | None) -> None:
        """`own`: None where a certificate names the user, which nobody but the broker knows then."""
        self._own = own

    def can_send_on(self, delivery: Delivery) -> bool:
        """Whether its sender would not be lost."""
        return self._own is not None or "user_id" not in delivery.properties

    def sender(self, properties: Mapping[str, Any]) -> str:
        """The user who sent a message. Raises `Refused` if that is not known, or cannot be believed."""
        user: str | None = properties.get("user_id")
        if not user:
            raise Refused(
                "the request does not say who sends it (property user_id), and this server does not serve strangers: "
                "use Client(user_id=True), or set user_id to the connection's user"
            )
        if "\ufffd" in user:  # two names that are not UTF-8 would look the same
            raise Refused("the user_id of the request is not UTF-8")
        if _USER not in properties.get("headers", b""):
            return user
        return self._named(user, properties["headers"])

    def _named(self, user: str, encoded: bytes) -> str:
        try:
            headers = decode_headers(encoded)
        except MalformedMessage:
            raise Refused("the headers of the request cannot be read") from None
        if USER not in headers:
            return user
        named = headers[USER]
        if user != self._own:
            raise Refused(f"{user!r} says that somebody else sends the request ({USER}): only servers of it may")
        if not isinstance(named, str) or not 0 < len(named) <= MAX_SHORT:
            raise Refused(f"{USER} is not the name of a user")
        return named

    def sent_on(
        self, delivery: Delivery, headers: Mapping[str, Any], *, drop: tuple[str, ...] = (), **changes: Any
    ) -> bytes:
        """As `transport.deadletters.copied`, with the sender's name; without any, if it is not known."""
        own: str | None = None
        if self._own is not None and "user_id" in delivery.properties:
            try:
                headers = {**headers, USER: self.sender(delivery.properties)}
                own = self._own
            except Refused:  # what is not believed here is not vouched for either
                pass
        return copied(delivery, headers, drop=(*drop, USER), user_id=own, **changes)
