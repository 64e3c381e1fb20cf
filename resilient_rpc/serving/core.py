"""A running server: deliveries in, calls through the executor, replies out, acks. Lives on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resilient_rpc import events
from resilient_rpc.contract import Methods
from resilient_rpc.errors import ConfigurationError, Refused
from resilient_rpc.hub import Events
from resilient_rpc.runtime import running_runtime
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.admission import Gatekeeper
from resilient_rpc.serving.answers import Answers
from resilient_rpc.serving.around import Around
from resilient_rpc.serving.blocked import reporter
from resilient_rpc.serving.control import Control
from resilient_rpc.serving.depth import EVERY, Depth
from resilient_rpc.serving.door import Door
from resilient_rpc.serving.draining import Drain
from resilient_rpc.serving.eventqueue import EventInlet, EventQueue
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.home import Home
from resilient_rpc.serving.inlet import Inlet, Plumbing
from resilient_rpc.serving.intake import BadAddress, Intake
from resilient_rpc.serving.introspection import Introspection
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.serving.letters import Letters
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.serving.raw import RawInlet, RawQueue
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec, Transport
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.codec import JSON
from resilient_rpc.wire.filters import Filters

log = logging.getLogger(__name__)


class Serving:
    """See the module."""

    def __init__(
        self,
        transport: Transport,
        queue: QueueSpec,
        methods: Methods,
        options: ServingOptions,
        hub: Events,
        name: str,
        raws: Sequence[RawQueue] = (),
        subscribed: EventQueue | None = None,
    ) -> None:
        loop = self.loop = asyncio.get_running_loop()
        self._transport, self._queue, self._options, self._hub, self._name = transport, queue, options, hub, name
        filters = Filters(options.filters) if options.filters else None
        letters = self._letters = Letters()
        self.letters, self.known, self.settle = letters.held, letters.known, letters.settle
        addresses = Addresses(options.reply_prefixes)
        self.outbox = Outbox(
            transport,
            loop,
            filters=filters,
            batching=options.batching.within(options.limits) if options.batching is not None else None,
            backoff=options.backoff,
            done=letters.answered,
            hub=hub,
            bans=addresses.bans,
        )
        answers = self._answers = Answers(self.outbox, hub, queue.service, name, options.limits.max_body)
        self._executor = Executor(
            loop,
            options.concurrency,
            answers.done,
            f"rpc-{queue.service}",
            worked_off=self.outbox.flush,
            # What waits is not acked: if all that may be unacked waited, nothing would be delivered that could run.
            places=max(options.unacked - options.concurrency, 0),
            blocked=reporter(hub, queue.service),
        )
        scheduler = self._scheduler = answers.scheduler = self._executor.scheduler
        self._door = Door(filters, options.limits, queue.name, hub, answers.refuse) if filters is not None else None
        keeper = Gatekeeper(options.admission, scheduler) if options.admission is not None else None
        own = self._introspection = Introspection(
            methods, name, health=self.health, answer=answers.give, refuse=answers.refuse, allow=options.allow
        )
        answers.version = own.version
        self._intake = Intake(methods, options.limits, addresses, answers.refuse, options.policies, keeper, own.serve)
        users = self._users = Users(transport.user)
        self.senders = users if options.require_user_id else None
        home = letters.home = Home.of(
            queue, name, self.outbox.forwards, users, hub, letters.settle, cuttable=filters is None
        )
        self._returns = home.returns
        self._control = Control(
            self._executor,
            self.outbox,
            hub,
            addresses=addresses,
            filters=filters,
            users=self.senders,
            queue=queue.name,
            server=name,
            here=lambda: self._session.control if self._session is not None else "",
        )
        self.control = self._control.received  # a report of the session; more of them below
        self.depth = Depth(queue.name, lambda: self.outbox.session, hub, options.backlog_limit)
        self._scope = running_runtime().scope()
        if options.policies:
            self._executor.police(
                lambda slots: Around(options.policies, queue.service, hub, self._scope, slots, options.tenant)
            )
        self._consuming: SessionLoop[Consumer] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=lambda: True, backoff=options.backoff
        )
        shared = Plumbing(
            transport=transport,
            prefetch=options.unacked,
            backoff=options.backoff,
            users=users,
            hub=hub,
            server=name,
        )
        limits, numbers = options.limits, self._intake.numbers
        self._inlets: list[Inlet] = [
            RawInlet(raw, self, shared, limits=limits, addresses=addresses, numbers=numbers) for raw in raws
        ]
        if subscribed is not None:
            policies = options.policies
            self._inlets.append(
                EventInlet(
                    subscribed,
                    self,
                    answers,
                    shared,
                    limits=limits,
                    policies=policies,
                    filters=filters,
                    numbers=numbers,
                )
            )
        self._homes = [home, *(inlet.home for inlet in self._inlets)]
        returns = [each.returns for each in self._homes if each.returns is not None]
        self._drain = Drain(letters, answers, self.outbox, self._executor, returns)
        letters.settled = self._drain.check
        self._session: Consumer | None = None
        self._fatal: BaseException | None = None
        self._ready = asyncio.Event()

    def start(self) -> None:
        """Begin to connect and to consume."""
        self.outbox.start()
        self._consuming.start()
        self.depth.start()
        for inlet in self._inlets:
            inlet.sessions.start()

    async def ready(self, timeout: float) -> None:
        """Wait until it consumes. Raises why it does not: `ConfigurationError` at once, or TimeoutError."""
        try:
            await asyncio.wait_for(self._ready.wait(), None if timeout == math.inf else timeout)
        except TimeoutError:
            cause = self._consuming.last_error
            raise TimeoutError(f"not serving within {timeout:g} s: {cause or 'connecting'}") from cause
        if (fatal := self._why_not()) is not None:
            raise fatal

    def _why_not(self) -> BaseException | None:
        """What will never let it serve, as far as it is known."""
        return next(filter(None, (self._fatal, *(inlet.fatal for inlet in self._inlets))), None)

    def changed(self) -> None:
        """One of its queues is consumed now, or never will be."""
        if self._why_not() is not None or self._consumes_all():
            self._ready.set()

    # -- in

    async def _open(self) -> Consumer:
        try:
            return await self._consume(self._queue)
        except ConfigurationError as error:
            if not self._queue.fanout:
                raise
            session = await self._consume(replace(self._queue, fanout=""))
            log.warning("broadcasts are not heard here: %s", error)  # the rights for it are missing: it can do without
            return session

    async def _consume(self, queue: QueueSpec) -> Consumer:
        timeout = self._transport.connect_timeout
        return await self._transport.consumer(self, queue, prefetch=self._options.unacked, timeout=timeout)

    def _opened(self, session: Consumer) -> None:
        self._session = session
        self._fatal = None
        self.changed()
        self._hub.emit(events.ConnectionStateChanged(state="connected"))

    def _failed(self, error: BaseException) -> None:
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):
            log.error("cannot serve: %s", error)
            self._fatal = error
            self.changed()

    def lost(self, error: BaseException) -> None:
        """The consuming session ended; what is unacked comes again, here or elsewhere."""
        self._session = None
        self._consuming.lost(error)
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))

    def delivered(self, delivery: Delivery) -> None:
        """A message."""
        session = self._session or self._consuming.session
        if session is None:  # delivered before `_opened` could run: it will come again
            return
        try:
            letter = self._intake.open(session, delivery)
        except BadAddress as error:
            self._hub.emit(
                events.ReplyRefused(reply_to=str(delivery.properties.get("reply_to"))[:80], reason=str(error))
            )
            self._drop(session, delivery, error)
            return
        if (delivery.redelivered or letter.returns) and self.known(letter):
            return
        if delivery.redelivered and self._returns is not None and self._users.can_send_on(delivery):
            self._returns.take(letter)
            return
        if letter.returns and self._returns is not None and self._returns.hold(letter, self._resume):
            return
        self._accept(letter)

    def _resume(self, letter: Letter) -> None:
        """A copy may run now; unless it has gone back with its session, and comes again."""
        if letter.session is (self._session or self._consuming.session):
            self._accept(letter)

    def _accept(self, letter: Letter) -> None:
        delivery = letter.delivery
        self.letters[letter.key] = letter
        if letter.returns and self._returns is not None:
            self._returns.arrived(letter)
        if self.senders is not None:
            try:
                letter.user = self.senders.sender(delivery.properties)
            except Refused as error:
                self._answers.refuse(letter, None, error)
                return
        if self._door is not None:
            admitted = self._door.admit(letter, delivery)
            if admitted is None:
                return
            delivery = admitted
        if letter.returns:  # only from here on: filters believe the broker alone, for anybody can write a header
            delivery.redelivered = True
        jobs = self._intake.read(letter, delivery)
        control = self._control
        if control.early.marks:
            jobs = control.sieve(jobs)
        if jobs:
            self.run(jobs)
            if not control.awake:
                control.wake()

    def run(self, jobs: list[Job]) -> None:
        """Queue them for a slot; while draining, give them back."""
        if self._drain.begun:
            self._drain.give_back(jobs)
        else:
            self._executor.add(jobs)

    def _drop(self, session: Consumer, delivery: Delivery, error: BadAddress) -> None:
        """Nobody can be told, and nothing of it is read."""
        letter = Letter(session, delivery, reply_to="", correlation_id=None, codec=JSON, ours=False)
        letter.deaths.append((-1, "refused", error))
        self.letters[letter] = letter
        self._letters.home.dead.bury(letter)

    # -- the end

    async def drain(self) -> bool:
        """Take nothing new, finish what runs, answer, ack, close. False if the grace time was not enough."""
        sessions = [self._session, *(inlet.session for inlet in self._inlets)]
        clean = await self._drain.run(filter(None, sessions), self._options.grace)
        await self.close()
        return clean

    async def close(self) -> None:
        """End both sessions; what is unacked is redelivered."""
        for sessions in (self._consuming, *(inlet.sessions for inlet in self._inlets)):
            await sessions.close()
        await self.depth.close()
        await self.outbox.close()
        self._executor.close()
        self._control.close()
        for home in self._homes:
            if home.returns is not None:
                home.returns.close()
        await self._scope.aclose()

    def stuck(self) -> list[str]:
        """Methods of which a thread still runs, which nobody can stop; after `drain`."""
        return self._executor.in_threads()

    def refresh(self) -> None:
        """A method or an error was registered."""
        self._introspection.refresh()
        self._answers.version = self._introspection.version

    def health(self) -> dict[str, Any]:
        """What a probe wants to know: connected, running, waiting, unconfirmed, refused or late.

        From any thread; it does not wait.
        """
        depth = self.depth
        found = depth.last
        if depth.age >= EVERY:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self.loop.call_soon_threadsafe(depth.refresh)
        return {
            "backlog": found.messages if found is not None else None,
            "consumers": found.consumers if found is not None else None,
            "consuming": self._consumes_all() and not self._drain.begun,
            "running": self._scheduler.running,
            "waiting": self._scheduler.waiting,
            "slots": self._scheduler.slots,
            "unacked": len(self.letters),
            "unconfirmed_replies": self.outbox.pending,
            "replies_returned": self.outbox.unwanted,
            "expired": self._answers.expired,
            "cancelled": self._control.cancelled,
            "cancels_ignored": self._control.ignored,
            "refused": self._answers.refused,
            "dead_lettered": sum(home.dead.count for home in self._homes),
        }

    def _consumes_all(self) -> bool:
        return None not in (self._session, *(inlet.session for inlet in self._inlets))
