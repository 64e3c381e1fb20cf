"""Replies: joined per address, published with confirms on a connection of their own, and only then the ack.

What is not confirmed yet is bounded by the prefetch, because its requests are not acked yet: when the way out stalls,
the broker delivers no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from resilient_rpc import events
from resilient_rpc.coalescer import Coalescer
from resilient_rpc.errors import ConfigurationError, ProtocolError
from resilient_rpc.hub import Events
from resilient_rpc.serving.doubts import Bans, Doubts
from resilient_rpc.serving.forwards import Forwards
from resilient_rpc.serving.job import Letter
from resilient_rpc.serving.parcels import HEADERS, TYPE, Answered, Parcel, joined, shown
from resilient_rpc.transport import filtering
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.base import DIRECT_REPLY, Delivery, Publisher, Transport, up_to
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.properties import Template, encode_headers
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.wire.filters import Filters, Message

log = logging.getLogger(__name__)
ADDRESSES = 1_000
"""Reply addresses whose pre-encoded properties are kept."""
TRIES = 3
"""How often a reply is published that the broker refuses, before it is given up."""
_NO_FILTERS = Filters()


class Outbox:
    """Lives on the server's loop."""

    def __init__(
        self,
        transport: Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        batching: Batching | None,
        backoff: Backoff,
        done: Callable[[Letter], None],
        filters: Filters | None = None,
        hub: Events | None = None,
        bans: Bans | None = None,
    ) -> None:
        self._transport, self._done, self._filters = transport, done, filters
        self._batching, self._hub = batching, hub
        self.unwanted = 0
        """Answers that no queue took: whoever asked has gone."""
        self._coalescer: Coalescer[Answered] = Coalescer(loop, self.flush)
        self.forwards = Forwards(self._coalescer.wake)
        self._unsent: deque[Parcel] = deque()
        self._unconfirmed: dict[int, Parcel] = {}
        self._templates: dict[tuple[str, str, bool], Template] = {}
        self._drained = asyncio.Event()
        self._blocked = False
        self._doubts: Doubts[Parcel] = Doubts(
            Bans() if bans is None else bans, lambda seconds: loop.call_later(seconds, self._coalescer.wake)
        )
        self._sessions: SessionLoop[Publisher] = SessionLoop(
            self._open, opened=self._opened, failed=lambda _: None, urgent=lambda: True, backoff=backoff
        )

    def start(self) -> None:
        """Begin to connect."""
        self._sessions.start()

    @property
    def session(self) -> Publisher | None:
        """The one there is now."""
        return self._sessions.session

    def answer(self, letter: Letter, data: bytes) -> None:
        """Send an encoded reply to one call of the letter."""
        if letter.ours:
            self._coalescer.add((letter, data))
            return
        letter.replies.append(data)
        self._plain(letter)

    def answer_whole(self, letter: Letter, data: bytes) -> None:
        """Send the one answer to a message that was not read. It names no call, so it cannot share a message."""
        self._unsent.append(Parcel([letter] * letter.left, data, letter.codec))
        self._coalescer.wake()

    def tell(self, message: Message) -> None:
        """Send what nobody waits for and what is old news soon: now, or not at all."""
        session = self._sessions.session
        if session is None or self._blocked or not session.writable:
            return
        if self._doubts.active and not self._doubts.harmless(message.target):
            return
        try:
            body, properties = filtering.outgoing(self._filters or _NO_FILTERS, message)
            session.publish(message.target, body, properties, mandatory=False)
        except (ProtocolError, ConfigurationError, OSError) as error:
            log.debug("not sent: %s", error)

    def skip(self, letter: Letter) -> None:
        """A call of the letter is done and gets no answer."""
        letter.left -= 1
        if not letter.left:
            self._done(letter)
        elif letter.replies:
            self._plain(letter)

    def _plain(self, letter: Letter) -> None:
        """A plain speaker gets one message when all its calls are done."""
        if len(letter.replies) < letter.left:
            return
        body = letter.codec.join(letter.replies) if letter.batch else letter.replies[0]
        self._unsent.append(Parcel([letter] * letter.left, body, letter.codec))
        letter.replies = []
        self._coalescer.wake()

    @property
    def pending(self) -> int:
        """Replies that are not confirmed."""
        waiting = len(self._unsent) + len(self._coalescer.inbox) + self._doubts.pending
        return waiting + len(self._unconfirmed) + self.forwards.pending

    async def drain(self, timeout: float) -> bool:
        """Wait until all replies are confirmed; False if they are not after `timeout` seconds."""
        until = time.monotonic() + timeout
        while self.pending:
            self._drained.clear()
            try:
                await asyncio.wait_for(self._drained.wait(), max(until - time.monotonic(), 0.0))
            except TimeoutError:
                return not self.pending
        return True

    async def close(self) -> None:
        """End the session."""
        await self._sessions.close()

    # -- out

    def flush(self) -> None:
        """Send now what there is to send, instead of in the loop's next turn."""
        if self._coalescer.inbox:
            self._unsent.extend(joined(self._coalescer.inbox, self._batching))
        self._send()

    def _send(self) -> None:
        session, unsent = self._sessions.session, self._unsent
        if session is None or self._blocked:
            return
        doubts = self._doubts if self._doubts.active else None
        while session.writable:
            if unsent:
                parcel = unsent.popleft()
                if doubts is not None and not self._trusted(parcel):
                    continue
            elif doubts is None or (parcel := doubts.due()) is None:  # type: ignore[assignment]
                break
            try:
                self._publish(session, parcel)
            except (ProtocolError, ConfigurationError) as error:  # it will never fit: nobody gets it
                log.warning("a reply was not sent: %s", error)
                self._settle(parcel)
            except OSError:  # the session has just ended: `lost` follows
                unsent.appendleft(parcel)
                return
        self.forwards.send(session)
        session.flush()

    def _trusted(self, parcel: Parcel) -> bool:
        """Whether it may be sent now; else it waits, or nobody gets it."""
        verdict = self._doubts.judge(parcel)
        if verdict is False:
            self.unwanted += len(parcel.letters)
            if self._hub is not None:
                self._hub.emit(events.ReplyRefused(reply_to=parcel.target[:80], reason="forged, or its node has gone"))
            self._settle(parcel)
        return verdict is True

    def _publish(self, session: Publisher, parcel: Parcel) -> None:
        letter = parcel.letters[-1]
        parcel.tries += 1
        body, now, correlation = parcel.body, int(time.time()), letter.correlation_id or ""
        if self._filters is not None:
            body, properties = filtering.outgoing(self._filters, shown(letter, body, correlation, now))
        else:
            properties = self._template(letter).fill(correlation, now)
        # On direct reply-to a broker before 4.2 returns beside the delivery, and later ones never do.
        mandatory = not letter.reply_to.startswith(DIRECT_REPLY)
        tag = session.publish(letter.reply_to, body, properties, mandatory=mandatory)
        self._unconfirmed[tag] = parcel

    def _template(self, letter: Letter) -> Template:
        key = (letter.reply_to, letter.codec.content_type, letter.ours)
        found = self._templates.get(key)
        if found is None:
            if len(self._templates) >= ADDRESSES:
                self._templates.clear()
            found = self._templates[key] = Template(content_type=key[1], headers=encode_headers(HEADERS), type=TYPE)
        return found

    # -- what the session reports

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker has the reply: the request may be acked."""
        unconfirmed = self._unconfirmed
        if self.forwards.pending:
            self.forwards.confirmed(tag, multiple, ok)
        if not multiple:
            parcel = unconfirmed.pop(tag, None)
            if parcel is not None:
                self._ended(parcel, ok=ok)
        else:
            for known in up_to(tag, unconfirmed):
                self._ended(unconfirmed.pop(known), ok=ok)
        if not unconfirmed and not self.pending:
            self._drained.set()

    def _ended(self, parcel: Parcel, *, ok: bool) -> None:
        if not ok and parcel.tries < TRIES:
            self._unsent.append(parcel)
            self._coalescer.wake()
        else:
            self._settle(parcel)

    def _settle(self, parcel: Parcel) -> None:
        if self._doubts.active and (freed := self._doubts.settled(parcel)) is not None:
            self._unsent += freed
            self._coalescer.wake()
        for letter in parcel.letters:
            letter.left -= 1
            if not letter.left:
                self._done(letter)

    def returned(self, correlation_id: str, code: int, text: str) -> None:  # noqa: ARG002
        """A reply whose queue is gone, or a forward. Its confirm follows."""
        for parcel in self._unconfirmed.values():
            letter = parcel.letters[-1]
            if (letter.correlation_id or "") == correlation_id and not letter.reply_to.startswith(DIRECT_REPLY):
                self.unwanted += len(parcel.letters)
                if self._hub is not None:
                    self._hub.emit(events.ReplyReturned(reply_to=letter.reply_to, calls=len(parcel.letters)))
                return
        self.forwards.returned(correlation_id)

    def delivered(self, delivery: Delivery) -> None:
        """Never: this session consumes nothing."""

    def blocked(self, reason: str | None) -> None:
        """An alarm: the replies wait, and their requests stay unacked."""
        self._blocked = reason is not None
        self._send()

    def writable(self) -> None:
        """The socket takes data again."""
        self._send()

    def lost(self, error: BaseException) -> None:
        """What was not confirmed is sent again on the next session, to whoever still waits."""
        self._sessions.lost(error)
        self._blocked = False
        self.forwards.lost()
        again = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._unsent += self._doubts.lost(error, again, [key[0] for key in self._templates])
        now = time.monotonic()
        for parcel in again:
            if max(letter.deadline for letter in parcel.letters) > now:
                self._unsent.append(parcel)
            else:
                self._settle(parcel)

    async def _open(self) -> Publisher:
        return await self._transport.publisher(self, replies=False, timeout=self._transport.connect_timeout)

    def _opened(self, _: Publisher) -> None:
        self._send()
