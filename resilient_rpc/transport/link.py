"""A link: one session, the calls that wait on it, and the batches in which they travel. Lives on one loop.

A caller encodes its request in its own thread and hands an `Entry` over (`submit`); the link joins what a tick
brought, publishes it, and settles each entry: with its answer, or with an error that says how far the call came. While
there is no session the entries wait in the queue, until their deadline at most.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from resilient_rpc import events
from resilient_rpc.call import Safety
from resilient_rpc.coalescer import Coalescer
from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    BrokerBlocked,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    FilterRefused,
    MalformedMessage,
    NotConnected,
    ProtocolError,
    PublishRejected,
    Rejected,
    RpcError,
    Unroutable,
)
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.transport import filtering
from resilient_rpc.transport.base import Delivery, Publisher, Transport
from resilient_rpc.transport.batching import Route, Target, plan
from resilient_rpc.transport.deadlines import Deadlines
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.templates import Templates, headers_of, type_of
from resilient_rpc.wire.codec import Codec, codec_for, read_answers
from resilient_rpc.wire.envelope import Answer
from resilient_rpc.wire.filters import Filters, Message

AT_ONCE = 4_096
"""Calls that are grouped at once: of a flood that the socket cannot take, the rest is not looked at again and again."""


class Link:
    """See the module."""

    def __init__(
        self,
        transport: Transport,
        runtime: AsyncioRuntime,
        options: LinkOptions,
        hub: events.Events,
        stray: Callable[[int], None],
    ) -> None:
        self._options, self._hub, self._now = options, hub, runtime.now
        self.runtime = runtime
        self._transport, self._count_stray = transport, stray
        self._coalescer: Coalescer[Entry] = Coalescer(runtime.loop, self._flush)
        self._queue: deque[Entry] = deque()
        self._table: dict[int, Entry] = {}
        self._unconfirmed: dict[int, Sequence[Entry]] = {}
        self._deadlines: Deadlines[Entry] = Deadlines(runtime.loop, runtime.now, self._expired)
        self._targets: dict[str, Target] = {}
        self.routes: dict[tuple[str, Safety], tuple[Route, str]] = {}
        self._templates = Templates(options.app_id)
        self._filters = Filters(options.filters) if options.filters else None
        self._blocked: str | None = None
        self._tokens: dict[str, Target] = {}
        """A secret for each target and session: who serves one of them cannot answer calls to another."""
        self._published = 0
        self._closed = False
        self._sessions: SessionLoop[Publisher] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=self._waiting, backoff=options.backoff
        )
        self.ids = itertools.count(1)  # next() on it is atomic
        self.submit = self._coalescer.add  # takes a call, from any thread
        self.messages = 0

    # -- from any thread

    def forget(self, entry: Entry, error: BaseException) -> None:
        """Its caller gave up."""
        if entry.fail(error) and not self._closed:
            self._coalescer.add(entry)

    def target(self, queue: str) -> Target:
        """What is known of a queue's servers."""
        found = self._targets.get(queue)
        return found if found is not None else self._targets.setdefault(queue, Target(queue))

    @property
    def pending(self) -> int:
        """Calls that wait on it."""
        return len(self._table) + len(self._coalescer.inbox)

    @property
    def connected(self) -> bool:
        """Whether it has a session now."""
        return self._sessions.session is not None

    # -- out

    def _flush(self) -> None:
        inbox, table, queue, watch = self._coalescer.inbox, self._table, self._queue, self._deadlines.add
        most = self._options.max_pending
        while inbox:
            entry = inbox.popleft()
            if entry.done():  # its caller gave it up
                self._drop(entry)
            elif self._closed:
                entry.fail(ConnectionLost("the client is closed", certainty=NOT_EXECUTED))
            elif len(table) >= most:
                entry.fail(Rejected(f"{most} calls wait on this link already (max_pending)"))
            else:
                table[entry.id] = entry
                watch(entry)  # before back-pressure can hold it
                queue.append(entry)
        if queue:
            self._send()

    def _send(self) -> None:
        session = self._sessions.session
        if session is None:
            if len(self._queue) > 2 * len(self._table) + 100:  # most of it ended while there was no connection
                self._queue = deque(entry for entry in self._queue if not entry.done())
            self._sessions.start()
            self._sessions.hurry()
            return
        if self._blocked is not None:
            self._refuse_queue(self._blocked)
            return
        queue = self._queue
        while queue:
            waiting = [entry for entry in _take(queue, AT_ONCE) if not entry.done()]
            groups = self._group(waiting)
            for position, group in enumerate(groups):
                # Where the socket is full, the rest goes when it takes data again; at an end, on the next session.
                if not session.writable or not self._publish(session, group):
                    queue.extendleft(entry for rest in reversed(groups[position:]) for entry in reversed(rest))
                    session.flush()
                    return
        session.flush()

    def _group(self, entries: Sequence[Entry]) -> Sequence[Sequence[Entry]]:
        batching = self._options.batching
        if batching is None or len(entries) <= 1:
            return [(entry,) for entry in entries]
        routes = {entry.route for entry in entries}
        groups: list[Sequence[Entry]] = []
        now = self._now()
        for route in routes:
            same = entries if len(routes) == 1 else [entry for entry in entries if entry.route is route]
            if route.target.modern:
                route.target.refresh(now)
                groups.extend(plan(route.target, same, batching))
            else:
                groups.extend([entry] for entry in same)
        return groups

    def _publish(self, session: Publisher, group: Sequence[Entry]) -> bool:
        """Hand a message over; False: the session has ended, and nothing was sent."""
        first = group[0]
        if len(group) == 1:
            body, latest = first.data, first.deadline
        else:
            body = first.route.codec.join([entry.data for entry in group])
            latest = max([entry.deadline for entry in group])
        left = latest - self._now()
        if left <= 0:
            for entry in group:
                self._expired(entry)
            return True
        number = self._published + 1  # the tag that this session will give it
        try:
            token = first.route.target.token or self._introduce(first.route.target)
            correlation, expiration = f"{token}.{number}", math.ceil(left * 1000)
            if self._filters is not None:
                message = self._message(session, group, body, correlation, expiration)
                body, properties = filtering.outgoing(self._filters, message)
            else:
                template = self._templates.get(first.method, len(group), first.route)
                properties = template.fill(correlation, int(time.time()), expiration)
            tag = session.publish(first.route.target.name, body, properties, mandatory=True)
        except (ProtocolError, ConfigurationError) as error:
            self._fail(group, error)
            return True
        except OSError:  # `lost` follows
            return False
        self._published = tag
        self.messages += 1
        for entry in group:
            entry.message = tag
            entry.data = b""
        self._unconfirmed[tag] = group
        return True

    def _message(
        self, session: Publisher, group: Sequence[Entry], body: bytes, correlation: str, expiration: int
    ) -> Message:
        """What filters are shown; the properties are those of the templates."""
        first, count = group[0], len(group)
        return Message(
            direction="request",
            body=body,
            target=first.route.target.name,
            content_type=first.route.codec.content_type,
            headers=headers_of(first.method, count, first.route),
            correlation_id=correlation,
            reply_to=session.reply_to,
            type=type_of(count),
            expiration=expiration,
            timestamp=int(time.time()),
            message_id=correlation,
            app_id=self._options.app_id,
        )

    def _introduce(self, target: Target) -> str:
        token = target.token = secrets.token_urlsafe(16)
        self._tokens[token] = target
        return token

    # -- in: reports of the session

    def delivered(self, delivery: Delivery) -> None:
        """A reply."""
        properties = delivery.properties
        correlation = properties.get("correlation_id")
        if not isinstance(correlation, str) or (target := self._tokens.get(correlation.partition(".")[0])) is None:
            self._stray(1)
            return
        try:
            if self._filters is not None:
                self._options.limits.check_body(len(delivery.body), "the reply")
                delivery, _ = filtering.incoming(self._filters, delivery, "reply", self._templates.reply_to)
                properties = delivery.properties
            codec = codec_for(properties.get("content_type"), properties.get("content_encoding"))
            self._options.limits.check_body(len(delivery.body), "the reply")
            answers = read_answers(codec, delivery.body)
        except ProtocolError as error:
            self._malformed(correlation, error)
            return
        modern = b"rpc-version" in properties.get("headers", b"")
        table, method, learn = self._table, "", None
        for answer in answers:
            entry = table.get(answer.id)  # type: ignore[arg-type]  # any id may come; others are not in it
            if entry is None or entry.route.target is not target:
                self._unmatched(answer, correlation, codec, modern=modern)
                continue
            del table[entry.id]
            entry.bucket.pop(entry.id, None)
            if entry.method != method:
                method = entry.method
                target.modern = modern
                learn = target.learner(method, self._now()) if modern else None
            if learn is not None:
                learn(answer)
            entry.modern, entry.codec = modern, codec
            entry.answer(answer)

    def _unmatched(self, answer: Answer, correlation: str, codec: Codec, *, modern: bool) -> None:
        if answer.id is None and answer.error is not None:  # the server could not read the message that it answers
            found = self._of_message(correlation)
            for entry in found:
                self._drop(entry)
                entry.modern, entry.codec = modern, codec
                entry.answer(answer)
            if found:
                return
        self._stray(1)

    def _of_message(self, correlation: str) -> Sequence[Entry]:
        token, _, number = correlation.partition(".")
        if not number.isdecimal() or len(number) > 20:  # noqa: PLR2004 - digits of 2**64
            return ()
        tag = int(number)
        found = self._unconfirmed.get(tag) or [e for e in self._table.values() if e.message == tag]
        return found if found and found[0].route.target is self._tokens.get(token) else ()

    def _malformed(self, correlation: str, error: ProtocolError) -> None:
        failure: ProtocolError
        if isinstance(error, FilterRefused):
            self._hub.emit(events.MessageRefused(filter=error.filter, reason=str(error)))
            failure = FilterRefused(f"the reply was refused: {error}", filter=error.filter, certainty=UNKNOWN)
            failure.__cause__ = error.__cause__
        else:
            self._hub.emit(events.MalformedDropped(reason=str(error)))
            failure = MalformedMessage(f"the reply cannot be read: {error}", certainty=UNKNOWN)
        self._fail(self._of_message(correlation), failure)

    def _stray(self, count: int) -> None:
        self._count_stray(count)
        if self._hub.wants(events.LateReply):
            self._hub.emit(events.LateReply(count=count))

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker took, or refused, what was published."""
        unconfirmed = self._unconfirmed
        tags = list(itertools.takewhile(lambda known: known <= tag, unconfirmed)) if multiple else (tag,)
        for known in tags:
            group = unconfirmed.pop(known, ())
            if not ok:
                self._fail(group, PublishRejected("the broker refused the message (basic.nack)"))

    def returned(self, correlation_id: str, code: int, text: str) -> None:
        """No such queue."""
        group = self._of_message(correlation_id)
        if group:
            queue = group[0].route.target.name
            self._fail(group, Unroutable(f"no queue {queue!r}: no server of this service has run here ({code} {text})"))

    def blocked(self, reason: str | None) -> None:
        """The broker takes nothing for now, or goes on."""
        self._blocked = reason
        self._hub.emit(events.ConnectionStateChanged(state="blocked" if reason is not None else "unblocked"))
        if reason is not None:
            self._refuse_queue(reason)
        elif self._queue:
            self._send()

    def _refuse_queue(self, reason: str) -> None:
        queue, self._queue = self._queue, deque()
        self._fail(queue, BrokerBlocked(f"the broker accepts no messages for now: {reason}"))

    def writable(self) -> None:
        """The socket takes data again."""
        if self._queue:
            self._send()

    def lost(self, error: BaseException) -> None:
        """The session ended: what was sent gets no answer any more; what was not waits for the next session."""
        self._sessions.lost(error)
        self._blocked = None
        self._unconfirmed.clear()
        gone = [entry for entry in self._table.values() if entry.message]
        failure = ConnectionLost(f"the connection was lost while the call was on its way: {error}")
        failure.__cause__ = error
        self._fail(gone, failure)
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))
        if self._queue:
            self._sessions.hurry()

    # -- the session

    async def _open(self) -> Publisher:
        return await self._transport.publisher(self, replies=True, timeout=self._transport.connect_timeout)

    def _opened(self, session: Publisher) -> None:
        for target in self._tokens.values():
            target.token = ""
        self._tokens.clear()
        self._published = 0
        self._templates.reset(session.reply_to)
        self._hub.emit(events.ConnectionStateChanged(state="connected"))
        if self._queue:
            self._send()

    def _failed(self, error: BaseException) -> None:
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):  # waiting will not help
            queue, self._queue = self._queue, deque()
            self._fail(queue, error)

    def _waiting(self) -> bool:
        return bool(self._table)

    # -- the end of a call

    def _fail(self, group: Sequence[Entry] | deque[Entry], error: RpcError) -> None:
        for entry in group:
            self._drop(entry)
            entry.fail(error)

    def _drop(self, entry: Entry) -> None:
        self._table.pop(entry.id, None)
        entry.bucket.pop(entry.id, None)

    def _expired(self, entry: Entry) -> None:
        self._drop(entry)
        entry.fail(self._why_expired(entry))

    def _why_expired(self, entry: Entry) -> RpcError:
        if not entry.message:
            if not self.connected:
                cause = self._sessions.last_error
                error: RpcError = NotConnected(
                    f"{entry.method}: no connection by the deadline: {cause or 'connecting'}"
                )
                error.__cause__ = cause
                return error
            return DeadlineExceeded(
                f"{entry.method}: not sent by the deadline", stage="publish", certainty=NOT_EXECUTED
            )
        if entry.message in self._unconfirmed:
            return DeadlineExceeded(f"{entry.method}: the broker did not confirm it by the deadline", stage="publish")
        return DeadlineExceeded(f"{entry.method}: no answer by the deadline", stage="reply")

    def start(self) -> None:
        """Begin to connect; on the link's loop."""
        self._sessions.start()

    async def close(self) -> None:
        """End the session; what still waits fails."""
        self._closed = True
        self._flush()
        self._deadlines.close()
        for entry in list(self._table.values()):
            certainty = None if entry.message else NOT_EXECUTED
            self._fail((entry,), ConnectionLost("the client was closed", certainty=certainty))
        self._queue.clear()
        self._unconfirmed.clear()
        await self._sessions.close()


def _take(queue: deque[Entry], most: int) -> list[Entry]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
