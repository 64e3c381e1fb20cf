"""The posts of a link: sent on its session, beside the calls, and settled by what that session reports. On its loop."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from resilient_rpc.coalescer import Coalescer
from resilient_rpc.errors import ConfigurationError, ProtocolError, PublishRejected, RpcError
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.transport import failures, filtering
from resilient_rpc.transport.base import Delivery, Publisher
from resilient_rpc.transport.deadlines import Deadlines
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.post import Post, interrupted, no_such_exchange
from resilient_rpc.wire.filters import Filters


class Way(Protocol):
    """What the posts need of their link."""

    published: int
    """The number of the last message."""

    @property
    def session(self) -> Publisher | None:
        """The session there is now."""

    @property
    def alarm(self) -> str | None:
        """Why the broker takes nothing for now."""

    closed: bool
    """It is over."""

    @property
    def trouble(self) -> BaseException | None:
        """Why there was no session, the last time that one was opened."""

    @property
    def reply_to(self) -> str:
        """The address for the next message that is to be answered."""

    def connect(self) -> None:
        """Somebody wants a session."""

    def sent(self, post: Post) -> None:
        """It was published, with that address if it is to be answered."""

    def ended(self, post: Post) -> None:
        """Nothing is to come for it any more."""


class Posts:
    """See the module."""

    def __init__(self, way: Way, runtime: AsyncioRuntime, options: LinkOptions, filters: Filters | None) -> None:
        self._way, self._options, self._now = way, options, runtime.now
        self._filters = filters or Filters()
        self._loop = runtime.loop
        self._coalescer: Coalescer[Post] = Coalescer(runtime.loop, self._flush)
        self._unsent: deque[Post] = deque()
        self.unconfirmed: dict[int, Post] = {}
        self.open: dict[str, Post] = {}
        """By correlation id, until they are settled."""
        self._deadlines: Deadlines[Post] = Deadlines(runtime.loop, runtime.now, self._expired)
        self._tasks: set[asyncio.Task[None]] = set()
        self.submit = self._coalescer.add  # takes a post, from any thread

    def forget(self, post: Post, error: BaseException) -> None:
        """Its caller gave up; from any thread."""
        if post.fail(error) and not self._way.closed:
            self._coalescer.add(post)

    # -- out

    def _flush(self) -> None:
        inbox, most = self._coalescer.inbox, self._options.max_pending
        while inbox:
            post = inbox.popleft()
            if post.done():
                self._drop(post)
            elif self._way.closed:
                post.fail(failures.too_late())
            elif len(self.open) >= most:
                post.fail(failures.too_many(most))
            else:
                self.open[post.correlation] = post
                self._deadlines.add(post)
                self._unsent.append(post)
        self.resume()

    def resume(self) -> None:
        """Send what waits, now that there may be a session that takes it."""
        if self._unsent:
            self._send()

    def _send(self) -> None:
        session = self._way.session
        if session is None:
            if len(self._unsent) > 2 * len(self.open) + 100:  # most of it ended while there was no connection
                self._unsent = deque(post for post in self._unsent if not post.done())
            self._way.connect()
            return
        if self._way.alarm is not None:
            self.refuse(self._way.alarm)
            return
        while self._unsent and session.writable:
            post = self._unsent.popleft()
            if post.done():
                self._drop(post)
            elif post.topic:
                self._start(self._emit(session, post))
            elif post.exchange:
                self._start(self._published_if_known(session, post))
            elif not self._publish(session, post):
                self._unsent.appendleft(post)
                break
        session.flush()

    def _publish(self, session: Publisher, post: Post) -> bool:
        """Hand it over; False: the session has ended, and nothing was sent."""
        try:
            body, properties = self._encoded(post)
            if post.exchange:
                session.announce(post.exchange, body, properties, mandatory=True)
            else:
                session.publish(post.message.target, body, properties, mandatory=True)
        except (ProtocolError, ConfigurationError) as error:
            self._end(post, error)
            return True
        except OSError:  # `lost` follows
            return False
        self._way.published += 1
        self._way.sent(post)
        post.sent = True
        self.unconfirmed[self._way.published] = post
        return True

    def _encoded(self, post: Post) -> tuple[bytes, bytes]:
        left = max(math.ceil((post.deadline - self._now()) * 1000), 1)
        message = post.message
        message = message.replace(
            correlation_id=post.correlation,
            message_id=message.message_id or post.correlation,
            reply_to=self._way.reply_to if post.replies else None,
            timestamp=message.timestamp or int(time.time()),
            expiration=left if post.expires else message.expiration,
        )
        return filtering.outgoing(self._filters if post.filtered else Filters(), message)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _emit(self, session: Publisher, post: Post) -> None:
        def sent() -> None:
            post.sent = True

        try:
            body, properties = self._encoded(post)
            routed = await session.emit(post.exchange, post.topic, body, properties, sent=sent)
        except (ConfigurationError, ProtocolError, PublishRejected) as error:
            self._end(post, error)
        except (OSError, RpcError) as error:
            if post.sent or session is self._way.session:
                self._end(post, interrupted(post, error))
            elif not post.done():  # the session has ended: on the next one
                self._unsent.append(post)
                self._way.connect()
        else:
            post.taken = True
            post.set(routed)
            self._drop(post)

    async def _published_if_known(self, session: Publisher, post: Post) -> None:
        """What is published to an exchange that does not exist ends the channel, and all calls on it: ask before."""
        try:
            known = await session.reaches(post.exchange)
        except (OSError, RpcError) as error:
            if isinstance(error, ConfigurationError):
                self._end(post, error)
            elif not post.done():  # the session has ended: on the next one
                self._unsent.append(post)
                self._way.connect()
            return
        if not known:
            self._end(post, no_such_exchange(post.label, post.exchange))
        elif not post.done() and (session is not self._way.session or not self._publish(session, post)):
            self._unsent.append(post)

    # -- reports of the session

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """See `PublisherEvents`."""
        unconfirmed = self.unconfirmed
        tags = list(itertools.takewhile(lambda known: known <= tag, unconfirmed)) if multiple else (tag,)
        for known in tags:
            post = unconfirmed.pop(known, None)
            if post is None:
                continue
            if not ok:
                self._end(post, failures.nacked())
            else:
                post.taken = True
                post.confirmed()
                self._drop_if_done(post)

    def returned(self, correlation: str, code: int, text: str) -> None:
        """See `PublisherEvents`."""
        post = self.open.get(correlation)
        if post is not None:
            post.returned(code, text)
            self._drop_if_done(post)

    def delivered(self, correlation: str, delivery: Delivery) -> bool:
        """Something came back; whether to one of these. Raises `ProtocolError` for what no filter accepts."""
        post = self.open.get(correlation)
        if post is None or not post.replies:
            return False
        if post.filtered:
            self._options.limits.check_body(len(delivery.body), "the reply")
            delivery, _ = filtering.incoming(self._filters, delivery, "reply", "")
        post.replied(delivery)
        self._drop_if_done(post)
        return True

    def lost(self, error: BaseException) -> None:
        """The session ended: nobody knows what became of what was sent; the rest waits for the next one."""
        self.unconfirmed.clear()
        for post in list(self.open.values()):
            if post.sent:
                self._end(post, interrupted(post, error))
        if self._unsent:
            self._way.connect()

    def refuse(self, reason: str) -> None:
        """The broker takes nothing for now."""
        waiting, self._unsent = self._unsent, deque()
        for post in waiting:
            self._end(post, failures.broker_blocked(reason))

    def failed(self, error: ConfigurationError) -> None:
        """There will be no session: waiting does not help."""
        waiting, self._unsent = self._unsent, deque()
        for post in waiting:
            self._end(post, error)

    def close(self) -> None:
        """End all."""
        self._flush()
        self._deadlines.close()
        for task in self._tasks:
            task.cancel()
        for post in list(self.open.values()):
            self._end(post, failures.client_closed(sent=post.sent))
        self._unsent.clear()
        self.unconfirmed.clear()

    # -- the end of a post

    def _end(self, post: Post, error: BaseException) -> None:
        post.fail(error)
        self._drop(post)

    def _drop_if_done(self, post: Post) -> None:
        if post.done():
            self._drop(post)

    def _drop(self, post: Post) -> None:
        if self.open.pop(post.correlation, None) is not None and post.sent and post.replies:
            self._way.ended(post)
        post.bucket.pop(post.id, None)

    def _expired(self, post: Post) -> None:
        post.expired(connected=self._way.session is not None, cause=self._way.trouble)
        self._drop(post)
