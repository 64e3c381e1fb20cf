"""The calls that a link has taken on and not ended: by their id, and by the message in which they travel."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Sequence

from resilient_rpc.errors import RpcError
from resilient_rpc.transport import failures
from resilient_rpc.transport.batching import Target
from resilient_rpc.transport.entry import Entry

MAX_DIGITS = 20
"""Of a message's number: those of 2**64."""


class Outstanding:
    """See the module. A message is known by its number, and to others by its correlation id, ``<token>.<number>``."""

    __slots__ = ("entries", "tokens", "unconfirmed")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.unconfirmed: dict[int, Sequence[Entry]] = {}
        """What travels in each message that the broker has not taken yet."""
        self.tokens: dict[str, Target] = {}
        """A secret for each target and session: who serves one of them cannot answer calls to another."""

    def introduce(self, target: Target) -> str:
        """The token of a target on the session there is now."""
        token = target.token = secrets.token_urlsafe(16)
        self.tokens[token] = target
        return token

    def renew(self) -> None:
        """A new session has begun: its messages are numbered from 1 again, under other tokens."""
        for target in self.tokens.values():
            target.token = ""
        self.tokens.clear()

    def of_message(self, correlation: str) -> Sequence[Entry]:
        """The calls that travel in a message; none, if its token is not that of their target."""
        token, _, number = correlation.partition(".")
        if not number.isdecimal() or len(number) > MAX_DIGITS:
            return ()
        tag = int(number)
        found = self.unconfirmed.get(tag) or [e for e in self.entries.values() if e.message == tag]
        return found if found and found[0].route.target is self.tokens.get(token) else ()

    # -- reports of the session (`transport.base.PublisherEvents`)

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker took, or refused, what was published."""
        unconfirmed = self.unconfirmed
        tags = list(itertools.takewhile(lambda known: known <= tag, unconfirmed)) if multiple else (tag,)
        for known in tags:
            group = unconfirmed.pop(known, ())
            if not ok:
                self.fail(group, failures.nacked())

    def returned(self, correlation_id: str, code: int, text: str) -> None:
        """No such queue."""
        group = self.of_message(correlation_id)
        if group:
            self.fail(group, failures.returned(group[0].route.target.name, code, text))

    def lost(self, error: BaseException) -> None:
        """The session ended: what was sent gets no answer any more."""
        self.unconfirmed.clear()
        gone = [entry for entry in self.entries.values() if entry.message]
        self.fail(gone, failures.connection_lost(error))

    # -- the end of a call

    def drop(self, entry: Entry) -> None:
        """It has ended, or is about to: forget it, and its deadline."""
        self.entries.pop(entry.id, None)
        entry.bucket.pop(entry.id, None)

    def fail(self, group: Iterable[Entry], error: RpcError) -> None:
        """End each of them."""
        for entry in group:
            self.drop(entry)
            entry.fail(error)

    def close(self) -> None:
        """End all."""
        for entry in list(self.entries.values()):
            self.fail((entry,), failures.client_closed(sent=bool(entry.message)))
        self.unconfirmed.clear()
