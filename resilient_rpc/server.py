"""Server: what it is made of, and how it is started, drained, stopped and asked for its health."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self

from resilient_rpc import forking
from resilient_rpc.chain import Plan
from resilient_rpc.contract import Methods
from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.policy import Policy
from resilient_rpc.registering import Registering
from resilient_rpc.serving.access import Allow, check_allow
from resilient_rpc.serving.admission import Admission
from resilient_rpc.serving.background import Background
from resilient_rpc.serving.core import Serving
from resilient_rpc.serving.foreground import Foreground
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.settings import check_flag, check_timeout
from resilient_rpc.transport.base import QueueSpec, QueueState
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.memory import MemoryTransport
from resilient_rpc.transport.naming import Naming
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.queues import Classic, Quorum
from resilient_rpc.transport.topology import fanout_exchange
from resilient_rpc.wire.control import control_exchange
from resilient_rpc.wire.filters import Filter, check_filters
from resilient_rpc.wire.limits import Limits

log = logging.getLogger(__name__)
STARTED_WITHIN = 30.0
"""Seconds that `start` waits for the first connection."""


class Server(Registering):
    """Serves the methods of one service; any number of servers may share its queue.

    ``url``: ``amqp://``, ``amqps://`` or ``memory://name``. ``concurrency``: calls that run at once (default 64; plain
    functions each in a thread of ours, coroutines on the server's loop). ``prefetch``: messages taken from the queue
    ahead (default twice that). ``grace``: seconds that a drain waits for what is running. ``batching=None`` sends
    every reply alone. ``prefix``, ``version`` and ``environment`` name the queue: ``rpc.orders.v2.prod``. ``queue``:
    `Classic` or `Quorum`, with their limits. ``filters``: applied to whole messages, replies from the first to the
    last, requests in the opposite order. ``policies``: a chain around each handler, the outermost first. ``tenant``:
    whose idempotency keys these are, where nobody has proof of the sender.
    ``require_user_id``: refuse requests without the property ``user_id``, which clients send with
    ``Client(user_id=True)`` and the broker checks; that user is then the tenant, and the handler's
    ``Context.principal``. ``broadcasts``: hear what clients `broadcast`, by an exclusive queue of this server's own.
    ``backlog_limit``: messages in the queue from which on `QueueLimit` is announced (default: its ``max_length``); the
    same for the queue of the events that it subscribes to.
    ``admission``: which calls a busy server refuses at once; None: it lets all of them wait. ``allow``: a plain
    function of a call's `Context` that says whether it may be made; a false result, or an exception, refuses it.
    Constructing it does no I/O.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        concurrency: int = 64,
        prefetch: int | None = None,
        batching: Batching | None = Batching(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        grace: float = 30.0,
        prefix: str = "rpc.",
        version: str | None = None,
        environment: str | None = None,
        queue: Classic | Quorum = Classic(),  # noqa: B008 - frozen
        name: str | None = None,
        lane: bool = True,
        reply_prefixes: tuple[str, ...] = ("rpc.reply.",),
        filters: Sequence[Filter] = (),
        policies: Sequence[Policy] = (),
        tenant: str = "default",
        require_user_id: bool = False,
        backlog_limit: int | None = None,
        broadcasts: bool = True,
        admission: Admission | None = Admission(),  # noqa: B008 - frozen
        allow: Allow | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(f"name={name!r}: give a text")
        if not isinstance(queue, Classic | Quorum):
            raise ConfigurationError(f"queue={queue!r}: give Classic() or Quorum()")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.grace = check_timeout(grace, "grace")
        self._plan = Plan(policies)
        self._options = ServingOptions(
            concurrency=concurrency,
            prefetch=prefetch,
            batching=batching,
            limits=limits,
            grace=self.grace,
            reply_prefixes=reply_prefixes,
            filters=check_filters(filters),
            policies=self._plan.policies,
            tenant=tenant,
            require_user_id=require_user_id,
            backlog_limit=getattr(queue, "max_length", None) if backlog_limit is None else backlog_limit,
            admission=admission,
            allow=check_allow(allow),
        )
        self._transport = open_transport(url, name=self.name, lane=lane)
        naming = Naming(prefix=prefix, version=version, environment=environment)
        methods = Methods(service)
        called = naming.queue(service)
        spec = QueueSpec(
            name=called,
            service=service,
            arguments=queue.arguments(),
            max_dead=queue.max_dead,
            delivery_limit=queue.counted_here,
            control=control_exchange(called),
            fanout=fanout_exchange(called) if check_flag(broadcasts, "broadcasts") else "",
        )
        super().__init__(methods, spec, naming.events, self._options.allow)
        self._background: Background | None = None
        self._foreground = Foreground(self._begin_to_run, self._end, self._options.grace)
        self._inherited: list[object] = []
        forking.register(self)

    def after_fork(self) -> None:
        """See `forking`: a child does not serve, until it is told to. What its parent serves with is left alone."""
        self._inherited += (self._serving, self._background, self._foreground)
        self._serving = self._background = None
        self._foreground = Foreground(self._begin_to_run, self._end, self._options.grace)

    def __repr__(self) -> str:
        return f"Server(service={self.service!r}, name={self.name!r}, methods={self._methods.names()})"

    def describe(self, method: str | None = None) -> list[str]:
        """The policies with their settings, the outermost first; those of one method, when it is given."""
        return self._plan.describe(method)

    def run(self) -> None:
        """Serve in this thread, the main one, until SIGTERM, SIGINT or `drain`; then drain.

        A second signal ends the process at once, with 130. If plain functions have not ended `grace` seconds after the
        first one, their callers are told `Interrupted`, and SystemExit is raised with 75: threads cannot be stopped. So
        ends a process, too, that hangs in closing.
        """
        self._foreground.run()

    def drain(self) -> None:
        """Have `run` end as at a signal: from any thread, at once, and as often as one likes.

        Asked before `run`, it lets that end as soon as it begins.
        """
        self._foreground.drain()

    async def serve(self) -> None:
        """Serve on the running loop until cancelled, then drain."""
        async with self:
            await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            await self._current().ready(STARTED_WITHIN)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    def start(self) -> None:
        """Serve in a background thread; returns when it consumes. Raises why it cannot."""
        if self._background is not None or self._serving is not None:
            raise UsageError(f"{self!r} is running already")
        self._background = Background(self, f"rpc-server-{self.service}")
        try:
            self._background.start()
        except BaseException:
            self._background = None
            raise

    def stop(self) -> None:
        """Drain and end what `start` began. Returns when it has ended."""
        background, self._background = self._background, None
        if background is not None:
            background.stop()

    async def backlog(self) -> QueueState | None:
        """What waits in the queue, as the broker counts it: ``messages`` and ``consumers``. From any loop.

        At most a second old; None before the broker has said anything. Raises `UsageError` if the server does not run.
        """
        serving = self._current()
        if asyncio.get_running_loop() is serving.loop:
            return await serving.depth.now()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(serving.depth.now(), serving.loop))

    def health(self) -> Mapping[str, Any]:
        """What a probe wants to know; `consuming` is the answer to "is it up".

        It does not wait: `backlog` and `consumers`, of the queue, are as old as the question before this one (None at
        the first), or a second, where there is a limit to watch. `backlog()` asks the broker. `event_backlog`, of the
        queue of the events, is there where the service subscribes to any.
        """
        serving = self._serving
        return {"service": self.service, "server": self.name} | (
            serving.health() if serving is not None else {"consuming": False}
        )

    def _begin(self) -> Serving:
        if self._serving is not None:
            raise UsageError(f"{self!r} is running already")
        if not (self._methods.names() or self._raws or self._subscriptions):
            raise ConfigurationError(f"service {self.service!r} has no methods")
        self._serving = Serving(
            self._transport,
            self._queue,
            self._methods,
            self._options,
            self._events,
            self.name,
            tuple(self._raws.values()),
            self._event_queue(),
        )
        self._serving.start()
        return self._serving

    def _begin_to_run(self) -> Serving:
        serving = self._begin()
        if isinstance(self._transport, MemoryTransport):
            log.warning("%s is on memory://, a bus inside this process: no other process can call it", self.service)
        return serving

    async def _end(self) -> bool:
        serving, self._serving = self._serving, None
        return await serving.drain() if serving is not None else True

    def _current(self) -> Serving:
        if self._serving is None:
            raise UsageError("the server is not running")
        return self._serving
