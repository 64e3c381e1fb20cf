"""A running server: deliveries in, calls through the executor, replies out, acks. Lives on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Any

from resilient_rpc.contract import Methods
from resilient_rpc.hub import Events
from resilient_rpc.runtime import running_runtime
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.admission import Gatekeeper
from resilient_rpc.serving.answers import Answers
from resilient_rpc.serving.around import Around
from resilient_rpc.serving.blocked import reporter
from resilient_rpc.serving.control import Control
from resilient_rpc.serving.depth import EVERY, Depth
from resilient_rpc.serving.draining import Drain
from resilient_rpc.serving.eventqueue import EventInlet, EventQueue
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.inlet import Inlet, Plumbing
from resilient_rpc.serving.intake import Intake
from resilient_rpc.serving.introspection import Introspection
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.letters import Letters
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.serving.raw import RawInlet, RawQueue
from resilient_rpc.serving.requests import Requests
from resilient_rpc.transport.base import Consumer, QueueSpec, Transport
from resilient_rpc.transport.users import Users
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
        self._options = options
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
        keeper = Gatekeeper(options.admission, scheduler) if options.admission is not None else None
        own = self._introspection = Introspection(
            methods, name, health=self.health, answer=answers.give, refuse=answers.refuse, allow=options.allow
        )
        answers.version = own.version
        self._intake = Intake(methods, options.limits, addresses, answers.refuse, options.policies, keeper, own.serve)
        users = Users(transport.user)
        self.senders = users if options.require_user_id else None
        control = self._control = Control(
            self._executor,
            self.outbox,
            hub,
            addresses=addresses,
            filters=filters,
            users=self.senders,
            queue=queue.name,
            server=name,
            here=lambda: self.session.control if self.session is not None else "",
        )
        self.depth = Depth(queue.name, lambda: self.outbox.session, hub, options.backlog_limit)
        self._event_depth: Depth | None = None
        self._scope = running_runtime().scope()
        if options.policies:
            self._executor.police(
                lambda slots: Around(options.policies, queue.service, hub, self._scope, slots, options.tenant)
            )
        shared = Plumbing(
            transport=transport,
            options=options,
            filters=filters,
            addresses=addresses,
            users=users,
            hub=hub,
            server=name,
            numbers=self._intake.numbers,
        )
        self._requests = Requests(queue, self, answers, shared, methods=methods, intake=self._intake, control=control)
        letters.home = self._requests.home
        self._inlets: list[Inlet] = [self._requests, *(RawInlet(raw, self, shared) for raw in raws)]
        if subscribed is not None:
            waiting = subscribed.spec.name
            self._event_depth = Depth(waiting, lambda: self.outbox.session, hub, options.backlog_limit)
            self._inlets.append(EventInlet(subscribed, self, answers, shared))
        self._homes = [inlet.home for inlet in self._inlets]
        self._returns = [each.returns for each in self._homes if each.returns is not None]
        self._drain = Drain(letters, answers, self.outbox, self._executor, self._returns)
        letters.settled = self._drain.check
        self._ready = asyncio.Event()

    def start(self) -> None:
        """Begin to connect and to consume."""
        self.outbox.start()
        for depth in self._depths():
            depth.start()
        for inlet in self._inlets:
            inlet.sessions.start()

    async def ready(self, timeout: float) -> None:
        """Wait until it consumes. Raises why it does not: `ConfigurationError` at once, or TimeoutError."""
        try:
            await asyncio.wait_for(self._ready.wait(), None if timeout == math.inf else timeout)
        except TimeoutError:
            cause = self._requests.sessions.last_error
            raise TimeoutError(f"not serving within {timeout:g} s: {cause or 'connecting'}") from cause
        if (fatal := self._why_not()) is not None:
            raise fatal

    def _why_not(self) -> BaseException | None:
        """What will never let it serve, as far as it is known."""
        return next(filter(None, (inlet.fatal for inlet in self._inlets)), None)

    def changed(self) -> None:
        """One of its queues is consumed now, or never will be."""
        if self._why_not() is not None or self._consumes_all():
            self._ready.set()

    @property
    def session(self) -> Consumer | None:
        """What consumes the queue of the service; None: there is no connection."""
        return self._requests.session

    def run(self, jobs: list[Job]) -> None:
        """Queue them for a slot; while draining, give them back."""
        if self._drain.begun:
            self._drain.give_back(jobs)
        else:
            self._executor.add(jobs)

    # -- the end

    async def drain(self) -> bool:
        """Take nothing new, finish what runs, answer, ack, close. False if the grace time was not enough."""
        sessions = [inlet.session for inlet in self._inlets]
        clean = await self._drain.run(filter(None, sessions), self._options.grace)
        await self.close()
        return clean

    async def close(self) -> None:
        """End the sessions; what is unacked is redelivered."""
        for inlet in self._inlets:
            await inlet.sessions.close()
        for depth in self._depths():
            await depth.close()
        await self.outbox.close()
        self._executor.close()
        self._control.close()
        for returns in self._returns:
            returns.close()
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
        found = self.depth.last
        for depth in self._depths():
            if depth.age >= EVERY:
                with contextlib.suppress(RuntimeError):  # the loop has just been closed
                    self.loop.call_soon_threadsafe(depth.refresh)
        health = {
            "backlog": found.messages if found is not None else None,
            "consumers": found.consumers if found is not None else None,
            "consuming": self._consumes_all() and not self._drain.begun,
            "running": self._scheduler.running,
            "waiting": self._scheduler.waiting,
            "slots": self._scheduler.slots,
            "unacked": len(self.letters) + sum(each.unacked for each in self._returns),
            "unconfirmed_replies": self.outbox.pending,
            "replies_returned": self.outbox.unwanted,
            "expired": self._answers.expired,
            "cancelled": self._control.cancelled,
            "cancels_ignored": self._control.ignored,
            "refused": self._answers.refused,
            "dead_lettered": sum(home.dead.count for home in self._homes),
        }
        if self._event_depth is not None:
            found = self._event_depth.last
            health["event_backlog"] = found.messages if found is not None else None
        return health

    def _depths(self) -> list[Depth]:
        return [depth for depth in (self.depth, self._event_depth) if depth is not None]

    def _consumes_all(self) -> bool:
        return None not in [inlet.session for inlet in self._inlets]
