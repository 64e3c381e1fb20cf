"""Control: the client's half of liveness and cancellation. Belongs to one link, on its loop.

What servers say of running calls arrives as beats; what callers have given up leaves as cancels. Both are a courtesy:
nothing waits for them, and no call fails because one could not be sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from resilient_rpc import events
from resilient_rpc.errors import ConfigurationError, MalformedMessage, ProtocolError, RpcError
from resilient_rpc.hub import Events
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.transport import failures, filtering
from resilient_rpc.transport.base import Delivery, Publisher
from resilient_rpc.transport.batching import Target
from resilient_rpc.transport.cancels import INTERVAL, Cancels, Pace, Way
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.liveness import Liveness
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.outstanding import Outstanding
from resilient_rpc.wire.control import CANCEL, CONTENT_TYPE, control_exchange, is_control_queue, read_ids, write_ids
from resilient_rpc.wire.envelope import VERSION
from resilient_rpc.wire.filters import Filters, Message

log = logging.getLogger(__name__)
OLD_NEWS = 30_000
"""Milliseconds after which the broker drops a cancel that its server has not read."""
ASK_AGAIN = 60.0
"""Seconds after which a service without a control exchange is asked for it again."""
REACHED = math.inf
MOST_HELD = 1_000
"""Cancels that wait until it is known whether a service has a control exchange."""
MAX_NAME = 100
HEADERS = {"rpc-version": VERSION}
_NO_FILTERS = Filters()


class Control:
    """See the module."""

    def __init__(
        self,
        calls: Outstanding,
        options: LinkOptions,
        runtime: AsyncioRuntime,
        hub: Events,
        *,
        filters: Filters | None,
        pace: Pace,
        session: Callable[[], Publisher | None],
        addresses: Callable[[Entry], Sequence[str]],
        sent: Callable[[], None],
    ) -> None:
        """`session` gives the one that takes messages now, `addresses` says where an answer to a call may go.

        `sent` is told that a message was published.
        """
        self._calls, self._options, self._hub = calls, options, hub
        self._filters, self._session, self._sent = filters or _NO_FILTERS, session, sent
        self._addresses = addresses
        self._loop, self._now = runtime.loop, runtime.now
        self._seconds = options.liveness if options.liveness is not None else math.inf
        self._liveness = Liveness(self._seconds)
        self._cancels = Cancels(pace)
        self._reached: dict[str, float] = {}
        """Control exchanges that may be published to (infinity), and until when others are not asked for."""
        self._asking: dict[str, tuple[asyncio.Task[None], list[tuple[Way, int]]]] = {}
        self._closed = False
        self._watching: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    # -- beats

    def beat(self, delivery: Delivery, target: Target) -> None:
        """A server of `target` says which calls it has. It is believed of calls to that target alone."""
        if self._seconds == math.inf:  # nobody asked for it
            return
        try:
            ids = read_ids(delivery.body)
        except MalformedMessage as error:
            self._hub.emit(events.MalformedDropped(reason=f"a beat: {error}"))
            return
        properties, now = delivery.properties, self._now()
        named = properties.get("reply_to")
        control = named if is_control_queue(named) else ""
        server = str(properties.get("app_id", ""))[:MAX_NAME]
        for id_ in ids:
            entry = self._calls.entries.get(id_)  # type: ignore[arg-type]  # any id may come; others are not in it
            if entry is not None and entry.message and entry.route.target is target:
                self._liveness.beat(entry, control, server, now)
        self._watch()

    def blocked(self, reason: str | None) -> None:
        """The broker takes nothing for now, not from servers either; or goes on."""
        if reason is not None:
            self._liveness.hold()
        else:
            self._liveness.resume(self._now())
            self._watch()

    def _watch(self) -> None:
        at = self._liveness.next()
        if at is not None and self._watching is None:
            self._watching = self._loop.call_later(max(at - self._now(), 0.0), self._look)

    def _look(self) -> None:
        self._watching = None
        for heard in self._liveness.due(self._now()):
            entry = heard.entry
            error = failures.server_lost(entry.method, heard.server, self._seconds)
            self._give_up(entry, "")  # whoever gets its message next need not begin
            self._calls.fail((entry,), error)
        self._watch()

    # -- cancels

    def given_up(self, entry: Entry) -> None:
        """Its caller does not wait any more."""
        heard = self._liveness.take(entry)
        self._give_up(entry, heard.control if heard is not None else "")

    def _give_up(self, entry: Entry, control: str) -> None:
        session, target = self._session(), entry.route.target
        if session is None or not entry.message or not target.token:
            return
        for address in self._addresses(entry):
            way = Way(target.name, control, target.token, address)
            if control or self._is_reached(session, way, entry.id):
                self._cancels.add(way, entry.id)
                self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is None:
            now = self._now()
            at = self._cancels.next(now)
            if at is not None:
                self._sending = self._loop.call_later(max(at - now, 0.0), self._flush)

    def _flush(self) -> None:
        self._sending = None
        session = self._session()
        if session is not None and not session.writable:
            self._sending = self._loop.call_later(INTERVAL, self._flush)
            return
        message = self._cancels.take(self._now())
        if message is not None:
            self._send(*message)
        self._send_soon()

    def _send(self, way: Way, ids: list[int]) -> None:
        session = self._session()
        if session is None or not session.writable:
            return
        message = Message(
            direction="request",
            body=write_ids(ids),
            target=way.queue,
            content_type=CONTENT_TYPE,
            headers=HEADERS,
            correlation_id=way.token,
            reply_to=way.address,
            type=CANCEL,
            expiration=OLD_NEWS,
            timestamp=int(time.time()),
            app_id=self._options.app_id,
            user_id=self._options.user_id,
        )
        try:
            body, properties = filtering.outgoing(self._filters, message)
            if way.control:
                session.publish(way.control, body, properties, mandatory=False)
            else:
                session.announce(control_exchange(way.queue), body, properties)
        except (ProtocolError, ConfigurationError, OSError) as error:
            log.debug("a cancel was not sent: %s", error)
        else:
            self._sent()

    # -- whether a service has a control exchange

    def _is_reached(self, session: Publisher, way: Way, id_: int) -> bool:
        """Whether all servers can be told; if nobody knows, find out, and tell them then."""
        until = self._reached.get(way.queue, 0.0)
        if until > self._now():
            return until == REACHED
        asking = self._asking.get(way.queue)
        if asking is None:
            if self._closed:
                return False
            task = self._loop.create_task(self._ask(session, way.queue), name="rpc-control")
            asking = self._asking[way.queue] = (task, [])
        if len(asking[1]) < MOST_HELD:
            asking[1].append((way, id_))
        return False

    async def _ask(self, session: Publisher, queue: str) -> None:
        try:
            reached = await session.reaches(control_exchange(queue))
        except (RpcError, OSError) as error:
            log.debug("not known whether %s has a control exchange: %s", queue, error)
            return
        finally:
            _, held = self._asking.pop(queue)
        self._reached[queue] = REACHED if reached else self._now() + ASK_AGAIN
        if reached:
            for way, id_ in held:
                self._cancels.add(way, id_)
            self._send_soon()

    # -- the session

    def renew(self) -> None:
        """A session has ended, and nobody there knows the calls of it any more; or another one has begun."""
        self._liveness.clear()
        self._cancels.clear()
        self._reached.clear()
        for _, held in self._asking.values():
            held.clear()

    def close(self) -> None:
        """Tell servers of all that still waits, as far as that takes no time, and let go of the timers."""
        self._closed = True
        for entry in self._calls.entries.values():
            self.given_up(entry)
        while (message := self._cancels.take(self._now(), hurry=True)) is not None:
            self._send(*message)
        for task, _ in tuple(self._asking.values()):
            task.cancel()
        for timer in (self._watching, self._sending):
            if timer is not None:
                timer.cancel()
        self._watching = self._sending = None
