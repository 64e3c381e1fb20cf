"""The calls that a link has taken on and not ended: by their id, and by the message in which they travel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

from resilient_rpc.errors import RpcError
from resilient_rpc.transport import failures
from resilient_rpc.transport.base import up_to
from resilient_rpc.transport.batching import Target
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.posts import Posts

MAX_DIGITS = 20
"""Of a message's number: those of 2**64."""


class Outstanding:
    """See the module. A message is known by its number, and to others by its correlation id, ``<token>.<number>``."""

    __slots__ = ("_before", "_suffixed", "_survives", "ended", "entries", "posts", "refused", "tokens", "unconfirmed")

    def __init__(self, *, survives: bool = False, suffixed: bool = False) -> None:
        """`survives`: calls that the broker has outlive the session on which they were sent.

        `suffixed`: something follows on the number in correlation ids, behind another dot.
        """
        self._survives, self._suffixed = survives, suffixed
        self._before = 0
        """Messages that earlier sessions have sent: the tags of each session begin at 1."""
        self.ended: Callable[[Entry], None] | None = None
        """Is told of each call that has ended."""
        self.refused: Callable[[int], None] | None = None
        """Is told how many messages the broker has just refused."""
        self.entries: dict[int, Entry] = {}
        self.unconfirmed: dict[int, Sequence[Entry]] = {}
        """What travels in each message that the broker has not taken yet."""
        self.posts: Posts | None = None
        """What shares the session with them, and its numbers."""
        self.tokens: dict[str, Target] = {}
        """A secret for each target and reply queue: who serves one of them cannot answer calls to another."""

    def introduce(self, target: Target) -> str:
        """The token of a target, as long as replies arrive where they arrive now."""
        token = target.token = secrets.token_urlsafe(16)
        self.tokens[token] = target
        return token

    def renew(self, before: int = 0) -> None:
        """A new session has begun. `before`: so many messages were sent whose replies arrive on it.

        Without any, messages are numbered from 1 again, under other tokens, and what still waits for a reply to an
        earlier session waits in vain.
        """
        self._before = before
        if before:
            return
        self.fail([entry for entry in self.entries.values() if entry.message], failures.reply_queue_gone())
        for target in self.tokens.values():
            target.token = ""
        self.tokens.clear()

    def of_message(self, correlation: str) -> Sequence[Entry]:
        """The calls that travel in a message; none, if its token is not that of their target."""
        token, _, number = correlation.partition(".")
        if self._suffixed:
            number = number.partition(".")[0]
        if not number.isdecimal() or len(number) > MAX_DIGITS:
            return ()
        tag = int(number)
        found = self.unconfirmed.get(tag) or [e for e in self.entries.values() if e.message == tag]
        return found if found and found[0].route.target is self.tokens.get(token) else ()

    @property
    def open(self) -> int:
        """Messages that the broker has neither taken nor refused."""
        return len(self.unconfirmed) + (len(self.posts.unconfirmed) if self.posts is not None else 0)

    # -- reports of the session (`transport.base.PublisherEvents`)

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker took, or refused, what was published."""
        unconfirmed = self.unconfirmed
        tag += self._before
        open_ = 0 if ok else self.open
        for known in up_to(tag, unconfirmed) if multiple else (tag,):
            group = unconfirmed.pop(known, ())
            if not ok:
                self.fail(group, failures.nacked())
        if self.posts is not None and self.posts.unconfirmed:
            self.posts.confirmed(tag, multiple, ok)
        if not ok and self.refused is not None:
            self.refused(open_ - self.open)

    def returned(self, correlation_id: str, code: int, text: str) -> None:
        """No such queue."""
        group = self.of_message(correlation_id)
        if group:
            self.fail(group, failures.returned(group[0].route.target.name, code, text))
        elif self.posts is not None:
            self.posts.returned(correlation_id, code, text)

    def lost(self, error: BaseException) -> None:
        """The session ended: what was sent gets no answer any more, or nobody knows whether it does."""
        if self._survives:
            gone = [entry for group in self.unconfirmed.values() for entry in group]
        else:
            gone = [entry for entry in self.entries.values() if entry.message]
        self.unconfirmed.clear()
        self.fail(gone, failures.connection_lost(error))

    # -- the end of a call

    def drop(self, entry: Entry) -> None:
        """It has ended, or is about to: forget it, and its deadline."""
        self.entries.pop(entry.id, None)
        entry.bucket.pop(entry.id, None)
        if self.ended is not None:
            self.ended(entry)

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
