"""A link: one session, the calls that wait on it, and the batches in which they travel. Lives on one loop.

A caller encodes its request in its own thread and hands an `Entry` over (`submit`); the link joins what a tick
brought, publishes it, and settles each entry: with its answer, or with an error that says how far the call came. While
there is no session the entries wait in the queue, until their deadline at most.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from resilient_rpc import events
from resilient_rpc.call import Safety
from resilient_rpc.coalescer import Coalescer
from resilient_rpc.errors import ConfigurationError, ProtocolError, RpcError
from resilient_rpc.hub import Events
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.transport import failures, filtering
from resilient_rpc.transport.base import Publisher, Transport
from resilient_rpc.transport.batching import Route, Target, grouped
from resilient_rpc.transport.cancels import Pace
from resilient_rpc.transport.control import Control
from resilient_rpc.transport.correlation import ids_of, suffix_of
from resilient_rpc.transport.deadlines import Deadlines
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.outstanding import Outstanding
from resilient_rpc.transport.post import Post
from resilient_rpc.transport.posts import Posts
from resilient_rpc.transport.refusals import Refusals
from resilient_rpc.transport.replies import Replies
from resilient_rpc.transport.reply_desk import ReplyDesk
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.templates import Templates, headers_of, type_of
from resilient_rpc.transport.vacancy import Vacancies
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
        hub: Events,
        stray: Callable[[int], None],
        pace: Pace | None = None,
    ) -> None:
        self._options, self._hub, self._now = options, hub, runtime.now
        self.runtime = runtime
        self._transport = transport
        self._coalescer: Coalescer[Entry] = Coalescer(runtime.loop, self._flush)
        self._queue: deque[Entry] = deque()
        self._suffix = suffix_of(options.correlation)
        self._calls = Outstanding(survives=options.replies.survives, suffixed=self._suffix is not None)
        self._deadlines: Deadlines[Entry] = Deadlines(runtime.loop, runtime.now, self._expired)
        self._targets: dict[str, Target] = {}
        self.routes: dict[tuple[str, Safety, int], tuple[Route, str]] = {}
        self._desk = ReplyDesk(options.replies, lambda: Templates(options.app_id, options.user_id, options.liveness))
        batching = None if options.replies.alone else options.batching
        self._batching = batching.within(options.limits) if batching is not None else None
        self._filters = Filters(options.filters) if options.filters else None
        self._blocked: str | None = None
        self._replies = Replies(self._calls, options, filters=self._filters, hub=hub, now=runtime.now, stray=stray)
        self._control = Control(
            self._calls,
            options,
            runtime,
            hub,
            filters=self._filters,
            pace=pace or Pace(),
            session=lambda: self._sessions.session if self._blocked is None else None,
            addresses=self._desk.addresses_of,
            sent=self._count,
        )
        self._replies.beat = self._control.beat
        self.published = 0
        """Messages on the session there is now."""
        self.closed = False
        self.posts = Posts(self, runtime, options, self._filters)
        """The messages that are not calls."""
        self._calls.posts = self.posts
        self._posted, self._earlier = 0, 0
        self._refusals = Refusals(runtime.now, self._renew)
        self._calls.refused = self._refused
        self._ending: set[asyncio.Task[None]] = set()
        self._vacancies: Vacancies | None = None
        if options.when_no_server == "fail":
            self._vacancies = Vacancies(self._calls, runtime, lambda: self._sessions.session)
        self._sessions: SessionLoop[Publisher] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=self._waiting, backoff=options.backoff
        )
        self.ids = ids_of(options.correlation)
        self.submit = self._coalescer.add  # takes a call, from any thread
        self.delivered = self._replies.delivered  # reports of the session; more of them below
        self.confirmed, self.returned = self._calls.confirmed, self._calls.returned
        self.messages = 0

    # -- from any thread

    def forget(self, entry: Entry, error: BaseException) -> None:
        """Its caller gave up."""
        if entry.fail(error) and not self.closed:
            self._coalescer.add(entry)

    def target(self, queue: str) -> Target:
        """What is known of a queue's servers."""
        found = self._targets.get(queue)
        return found if found is not None else self._targets.setdefault(queue, Target(queue))

    @property
    def pending(self) -> int:
        """Calls that wait on it."""
        return len(self._calls.entries) + len(self._coalescer.inbox) + len(self.posts.open)

    @property
    def connected(self) -> bool:
        """Whether it has a session now."""
        return self._sessions.session is not None

    # -- for its posts

    @property
    def session(self) -> Publisher | None:
        """See `Way`."""
        return self._sessions.session

    @property
    def alarm(self) -> str | None:
        """See `Way`."""
        return self._blocked

    @property
    def trouble(self) -> BaseException | None:
        """See `Way`."""
        return self._sessions.last_error

    @property
    def reply_to(self) -> str:
        """See `Way`."""
        return self._desk.templates.reply_to

    def sent(self, post: Post) -> None:
        """See `Way`."""
        self._posted += 1
        if self._desk.leases is not None and post.replies:
            self._desk.leases.sent(post)

    def ended(self, post: Post) -> None:
        """See `Way`."""
        if self._desk.leases is not None:
            self._desk.leases.ended(post)

    def connect(self) -> None:
        """See `Way`."""
        self._sessions.start()
        self._sessions.hurry()

    # -- out

    def _flush(self) -> None:
        inbox, table, queue, watch = self._coalescer.inbox, self._calls.entries, self._queue, self._deadlines.add
        most = self._options.max_pending
        while inbox:
            entry = inbox.popleft()
            if entry.done():  # its caller gave it up
                self._control.given_up(entry)
                self._calls.drop(entry)
            elif self.closed:
                entry.fail(failures.too_late())
            elif len(table) >= most:
                entry.fail(failures.too_many(most))
            else:
                table[entry.id] = entry
                watch(entry)  # before back-pressure can hold it
                queue.append(entry)
        if queue:
            self._send()
            if self._vacancies is not None:
                self._vacancies.poke()

    def _send(self) -> None:
        session = self._sessions.session
        if session is None:
            if len(self._queue) > 2 * len(self._calls.entries) + 100:  # most of it ended while there was no connection
                self._queue = deque(entry for entry in self._queue if not entry.done())
            self.connect()
            return
        if self._blocked is not None:
            self._refuse_queue(self._blocked)
            return
        queue = self._queue
        while queue:
            waiting = [entry for entry in _take(queue, AT_ONCE) if not entry.done()]
            groups = grouped(waiting, self._batching, self._now)
            for position, group in enumerate(groups):
                # Where the socket is full, the rest goes when it takes data again; at an end, on the next session.
                if not session.writable or not self._publish(session, group):
                    queue.extendleft(entry for rest in reversed(groups[position:]) for entry in reversed(rest))
                    session.flush()
                    return
        session.flush()

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
        number = self.published + 1  # the tag that this session will give it, after those of the sessions before
        try:
            token = first.route.target.token or self._calls.introduce(first.route.target)
            correlation, expiration = f"{token}.{number}", math.ceil(left * 1000)
            if self._suffix is not None:
                correlation = f"{correlation}.{self._suffix(first.id)}"
            if self._filters is not None:
                message = self._message(group, body, correlation, expiration)
                body, properties = filtering.outgoing(self._filters, message)
            else:
                template = self._desk.templates.get(first.method, len(group), first.route)
                properties = template.fill(correlation, int(time.time()), expiration)
            session.publish(first.route.target.name, body, properties, mandatory=True)
        except (ProtocolError, ConfigurationError) as error:
            self._calls.fail(group, error)
            return True
        except OSError:  # `lost` follows
            return False
        self.published = number
        self.messages += 1
        for entry in group:
            entry.message = number
            entry.data = b""
        self._calls.unconfirmed[number] = group
        if self._desk.leases is not None:
            self._desk.leases.sent(first)
        return True

    def _message(self, group: Sequence[Entry], body: bytes, correlation: str, expiration: int) -> Message:
        """What filters are shown; the properties are those of the templates."""
        first, count = group[0], len(group)
        return Message(
            direction="request",
            body=body,
            target=first.route.target.name,
            content_type=first.route.codec.content_type,
            headers=headers_of(first.method, count, first.route, self._options.liveness),
            correlation_id=correlation,
            reply_to=self._desk.templates.reply_to,
            type=type_of(count),
            priority=first.route.priority or None,
            expiration=expiration,
            timestamp=int(time.time()),
            message_id=correlation,
            user_id=self._options.user_id,
            app_id=self._options.app_id,
        )

    def _count(self) -> None:
        self.published += 1

    # -- in: reports of the session

    def blocked(self, reason: str | None) -> None:
        """The broker takes nothing for now, or goes on."""
        self._blocked = reason
        self._control.blocked(reason)
        self._hub.emit(events.ConnectionStateChanged(state="blocked" if reason is not None else "unblocked"))
        if reason is not None:
            self._refuse_queue(reason)
            self.posts.refuse(reason)
        else:
            self._resume()

    def _refuse_queue(self, reason: str) -> None:
        queue, self._queue = self._queue, deque()
        self._calls.fail(queue, failures.broker_blocked(reason))

    def writable(self) -> None:
        """The socket takes data again."""
        self._resume()

    def _resume(self) -> None:
        if self._queue:
            self._send()
        self.posts.resume()

    def lost(self, error: BaseException) -> None:
        """The session ended: what was sent gets no answer any more; what was not waits for the next session.

        Where replies arrive at a queue that outlives the session, what the broker has confirmed still waits.
        """
        self._sessions.lost(error)
        self._blocked = None
        self._calls.lost(error)
        self.posts.lost(error)
        self._control.renew()
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))
        if self._queue:
            self._sessions.hurry()

    def _refused(self, count: int) -> None:
        published = self.messages + self._posted - self._earlier
        self._refusals.refused(count, published - self._calls.open)

    def _renew(self) -> None:
        """Give the session up for another one."""
        session = self._sessions.session
        if session is None:
            return
        self.lost(failures.all_refused())
        task = self.runtime.loop.create_task(session.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # -- the session

    async def _open(self) -> Publisher:
        replies, timeout = self._desk.queues or True, self._transport.connect_timeout
        return await self._transport.publisher(self, replies=replies, timeout=timeout)

    def _opened(self, session: Publisher) -> None:
        self.published = self.published if session.kept else 0
        self._calls.renew(self.published)
        self._refusals.begin()
        self._earlier = self.messages + self._posted
        self._control.renew()
        self._desk.opened(session)
        self._replies.address = self._desk.address
        self._calls.ended = self._desk.leases.ended if self._desk.leases is not None else None
        self._hub.emit(events.ConnectionStateChanged(state="connected"))
        self._resume()

    def _failed(self, error: BaseException) -> None:
        self._desk.refused(error)
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):  # waiting will not help
            queue, self._queue = self._queue, deque()
            self._calls.fail(queue, error)
            self.posts.failed(error)

    def _waiting(self) -> bool:
        return bool(self._calls.entries or self.posts.open)

    # -- the end of a call

    def _expired(self, entry: Entry) -> None:
        self._calls.drop(entry)
        entry.fail(self._why_expired(entry))

    def _why_expired(self, entry: Entry) -> RpcError:
        if entry.message in self._calls.unconfirmed:
            return failures.not_confirmed(entry.method)
        if entry.message:
            return failures.not_answered(entry.method)
        if self.connected:
            return failures.not_sent(entry.method)
        return failures.not_connected(entry.method, self._sessions.last_error)

    def start(self) -> None:
        """Begin to connect; on the link's loop."""
        self._sessions.start()

    async def close(self) -> None:
        """End the session; what still waits fails."""
        self.closed = True
        self._flush()
        self.posts.close()
        if self._vacancies is not None:
            self._vacancies.close()
        self._deadlines.close()
        self._control.close()
        self._calls.close()
        self._queue.clear()
        await self._sessions.close()
        if self._ending:
            await asyncio.wait(self._ending)


def _take(queue: deque[Entry], most: int) -> list[Entry]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
