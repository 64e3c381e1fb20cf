"""Server: a named set of methods, registered, run and drained."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar, overload

from resilient_rpc import forking
from resilient_rpc.call import Safety
from resilient_rpc.chain import Plan
from resilient_rpc.context import Context
from resilient_rpc.contract import Binder, Method, Methods
from resilient_rpc.declaring import declarations
from resilient_rpc.errors import ApplicationError, ConfigurationError, UsageError
from resilient_rpc.events import Event, Events
from resilient_rpc.names import check_name
from resilient_rpc.policy import Policy
from resilient_rpc.serving.access import Allow, check_allow
from resilient_rpc.serving.admission import Admission
from resilient_rpc.serving.background import Background
from resilient_rpc.serving.core import Serving
from resilient_rpc.serving.eventqueue import EventQueue
from resilient_rpc.serving.foreground import Foreground
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.serving.raw import RawQueue
from resilient_rpc.serving.subscriptions import Subscriptions
from resilient_rpc.settings import check_concurrency, check_flag, check_safety, check_timeout
from resilient_rpc.transport.base import QueueSpec, QueueState
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.memory import MemoryTransport
from resilient_rpc.transport.naming import Naming
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.queues import Classic, Quorum
from resilient_rpc.transport.tables import MAX_SHORT, is_queue_name
from resilient_rpc.transport.topology import events_queue, fanout_exchange
from resilient_rpc.wire.codec import CODECS
from resilient_rpc.wire.control import control_exchange
from resilient_rpc.wire.filters import Filter, check_filters
from resilient_rpc.wire.limits import Limits

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Event)
S = TypeVar("S")
X = TypeVar("X", bound=type[ApplicationError])
STARTED_WITHIN = 30.0
"""Seconds that `start` waits for the first connection."""


class Server:
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
    ``backlog_limit``: messages in the queue from which on `QueueLimit` is announced (default: its ``max_length``).
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
        self.service = service
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(f"name={name!r}: give a text")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._methods = Methods(service)
        self._plan = Plan(policies)
        self.grace = check_timeout(grace, "grace")
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
        self._allow = self._options.allow
        self._transport = open_transport(url, name=self.name, lane=lane)
        if not isinstance(queue, Classic | Quorum):
            raise ConfigurationError(f"queue={queue!r}: give Classic() or Quorum()")
        naming = Naming(prefix=prefix, version=version, environment=environment)
        called = naming.queue(service)
        self._queue = QueueSpec(
            name=called,
            service=service,
            arguments=queue.arguments(),
            max_dead=queue.max_dead,
            delivery_limit=queue.counted_here,
            control=control_exchange(called),
            fanout=fanout_exchange(called) if check_flag(broadcasts, "broadcasts") else "",
        )
        self._raws: dict[str, RawQueue] = {}
        self._subscriptions = Subscriptions(service)
        self._topics = naming.events
        self._events = Events()
        self._serving: Serving | None = None
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

    # -- registering

    @overload
    def method(self, function: F, /) -> F: ...

    @overload
    def method(
        self,
        /,
        *,
        name: str | None = None,
        safety: Safety | str | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        allow: Allow | None = None,
    ) -> Callable[[F], F]: ...

    def method(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        safety: Safety | str | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        allow: Allow | None = None,
    ) -> Any:
        """Register a function, plain or ``async def``; as a decorator, with or without arguments.

        Arguments are checked against its annotations and converted to them. `name`: default, the function's own.
        `safety`: what a repeat would do (`Safety`); it rules over what the caller says. `timeout`: seconds that the
        handler may run, besides the caller's deadline. `concurrency`: calls of it that run at once in this server, at
        most; others wait, and are in nobody's way. `allow`: a plain function of the call's `Context` that says whether
        it may be made, besides that of the server; a false result, or whatever it raises, refuses the call (`Refused`).
        Raises `ConfigurationError` for a private or taken name, or an annotation that cannot be decoded.
        """
        check_allow(allow)
        if concurrency is not None:
            check_concurrency(concurrency)

        def register(target: F) -> F:
            self._register(target, name, safety, timeout, concurrency, allow)
            return target

        return register(function) if function is not None else register

    def add(self, served: S, /) -> S:
        """Serve the methods of an object that its class marks with `method`: bound to it, so its state is theirs.

        A class is made first, without arguments: then this is a decorator for it. The methods are registered as by
        `Server.method`, those of base classes too. Gives back what it was given. Raises `ConfigurationError` if none is
        marked, and for what `Server.method` would refuse.
        """
        instance: Any = _made(served) if isinstance(served, type) else served
        found = declarations(type(instance))
        if not found:
            raise ConfigurationError(f"add({served!r:.200}): no method of {type(instance).__name__} has @method")
        for attribute, declared in found.items():
            self._register(
                getattr(instance, attribute),
                declared.name or attribute,
                declared.safety,
                declared.timeout,
                declared.concurrency,
                declared.allow,
            )
        return served

    def error(self, name: str) -> Callable[[X], X]:
        """Name an `ApplicationError` that the handlers raise: a class decorator; callers register it with `errors=`.

        The name becomes the class's `type`, and crosses the wire with it; the description of the service lists it.
        Raises `ConfigurationError` for a name that is taken, and for a class that is none or has another name.
        """
        check_name(name, "error")

        def register(kind: X) -> X:
            self._methods.add_error(name, kind)
            self._refresh()
            return kind

        return register

    def raw(
        self,
        name: str,
        *,
        queue: Classic | Quorum | None = Classic(),  # noqa: B008 - frozen
        safety: Safety | str | None = None,
        timeout: float | None = None,
    ) -> Callable[[F], F]:
        """Answer a queue of plain bytes, for programs that know nothing of this library: a decorator.

        The handler, plain or ``async def``, takes the body and returns the answer, both bytes; it may take a `Context`,
        too. It shares the slots of the server. The answer goes to ``reply_to`` with the request's correlation id and
        content type; a message whose handler raises becomes a dead letter of the service, for there is no way to tell.
        The filters of the server do not apply. `queue`: how it is declared; None: it is somebody else's. `safety`,
        `timeout`: as for `method`; what came back unfinished is run again only where `safety` allows it.
        """

        def register(target: F) -> F:
            self._register_raw(target, name, queue, safety, timeout)
            return target

        return register

    def _register_raw(
        self,
        function: Callable[..., Any],
        name: str,
        queue: Classic | Quorum | None,
        safety: Safety | str | None,
        timeout: float | None,
    ) -> None:
        if not is_queue_name(name):
            raise ConfigurationError(f"raw({name!r:.300}): give the name of a queue, at most {MAX_SHORT} bytes")
        if queue is not None and not isinstance(queue, Classic | Quorum):
            raise ConfigurationError(f"queue={queue!r}: give Classic(), Quorum() or None")
        if name in self._raws or name == self._queue.name:
            raise ConfigurationError(f"queue {name!r} is served already")
        binder = Binder(function, Context)
        if not binder.takes_one:
            raise ConfigurationError(f"the handler of {name!r} takes the body, and a Context if it wants: {function!r}")
        spec = QueueSpec(
            name=name,
            main=self._queue.name,
            service=self.service,
            arguments=queue.arguments() if queue is not None else {},
            declared=queue is not None,
            max_dead=self._queue.max_dead,  # there is one queue of dead letters for the service
            delivery_limit=queue.counted_here if queue is not None else None,
        )
        guards = (self._allow,) if self._allow is not None else ()
        self._raws[name] = RawQueue(spec=spec, method=_method(function, name, binder, safety, timeout, allow=guards))

    def _register(
        self,
        function: Callable[..., Any],
        name: str | None,
        safety: Safety | str | None,
        timeout: float | None,
        concurrency: int | None,
        allow: Allow | None,
    ) -> None:
        called = name if name is not None else getattr(function, "__name__", "")
        binder = _binder(function)
        guards = tuple(guard for guard in (self._allow, allow) if guard is not None)
        self._methods.add(_method(function, check_name(called), binder, safety, timeout, concurrency, guards))
        self._refresh()

    def _refresh(self) -> None:
        """What is registered while the server runs is described, too."""
        if self._serving is not None:
            self._serving.refresh()

    @overload
    def on(self, event: type[E], hook: Callable[[E], object], /) -> Callable[[], None]: ...

    @overload
    def on(
        self,
        event: str,
        /,
        *,
        safety: Safety | str = Safety.IDEMPOTENT,
        timeout: float | None = None,
        concurrency: int | None = None,
        allow: Allow | None = None,
    ) -> Callable[[F], F]: ...

    def on(
        self,
        event: Any,
        hook: Any = None,
        /,
        *,
        safety: Safety | str = Safety.IDEMPOTENT,
        timeout: float | None = None,
        concurrency: int | None = None,
        allow: Allow | None = None,
    ) -> Any:
        """Subscribe the service to what is published under a name: a decorator. Or hear of what this library does.

        ``@server.on("orders.created")``: each such event (`Client.publish`) is handled once by the service, by one of
        its servers; arguments as for `method`. ``*`` in the name stands for one word, ``#`` for any number; of several
        that match, the most definite is taken. It is acked when the handler has ended, and is a dead letter if that
        raises. `safety`: after its server has died it is handled again, unless this is ``unsafe``; with `Idempotency`
        it takes effect once. `timeout`, `concurrency` and `allow` as for `method`. Raises `ConfigurationError` for a
        name that is taken.

        ``server.on(EventType, hook)``: have `hook` called with every event of a type of `resilient_rpc.events`; it must
        not wait. Returns what ends that.
        """
        if not isinstance(event, str):
            return self._events.on(event, hook)
        if hook is not None:
            raise ConfigurationError(f"on({event!r:.200}, ...): it is a decorator for the handler of the event")
        check_allow(allow)
        if concurrency is not None:
            check_concurrency(concurrency)

        def register(target: F) -> F:
            self._subscribe(target, event, safety, timeout, concurrency, allow)
            return target

        return register

    def off(self, *events: str) -> None:
        """Give up subscriptions that versions of this service before this one have made: nothing else ends them.

        The names and patterns are those that were given to `on`. What still arrives under them is dropped. Raises
        `ConfigurationError` for what has a handler.
        """
        self._check_not_begun()
        for event in events:
            self._subscriptions.end(event)

    def _check_not_begun(self) -> None:
        """The queue of events is bound when the server starts."""
        if self._serving is not None:
            raise UsageError(f"{self!r} is running: subscribe before it starts")

    def _subscribe(
        self,
        function: Callable[..., Any],
        event: str,
        safety: Safety | str,
        timeout: float | None,
        concurrency: int | None,
        allow: Allow | None,
    ) -> None:
        self._check_not_begun()
        guards = tuple(guard for guard in (self._allow, allow) if guard is not None)
        binder = _binder(function)
        self._subscriptions.add(_method(function, event, binder, safety, timeout, concurrency, guards))

    def _event_queue(self) -> EventQueue | None:
        found = self._subscriptions
        if not found:
            return None
        bound = tuple(method.name for method in found)
        spec = replace(
            self._queue,
            name=events_queue(self._queue.name),
            main=self._queue.name,
            topics=self._topics,
            bound=bound,
            unbound=tuple(sorted(found.ended)),
            control="",
            fanout="",
        )
        return EventQueue(spec=spec, subscriptions=found)

    def describe(self, method: str | None = None) -> list[str]:
        """The policies with their settings, the outermost first; those of one method, when it is given."""
        return self._plan.describe(method)

    # -- running

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
        the first), or a second, where there is a limit to watch. `backlog()` asks the broker.
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


def _made(kind: type[Any]) -> Any:
    try:
        return kind()
    except TypeError as error:
        raise ConfigurationError(f"add({kind.__name__}): {error}; make it yourself, and add the object") from error


def _binder(function: Callable[..., Any]) -> Binder:
    binder = Binder(function, Context)
    for codec in CODECS.values():
        binder.prepare(codec)
    return binder


def _method(
    function: Callable[..., Any],
    name: str,
    binder: Binder,
    safety: Safety | str | None,
    timeout: float | None,
    concurrency: int | None = None,
    allow: tuple[Allow, ...] = (),
) -> Method:
    is_async = inspect.iscoroutinefunction(function) or (
        not isinstance(function, type) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - of an object
    )
    return Method(
        name=name,
        function=function,
        binder=binder,
        safety=check_safety(safety) if safety is not None else None,
        timeout=check_timeout(timeout, "timeout") if timeout is not None else None,
        is_async=is_async,
        concurrency=concurrency,
        allow=allow,
    )
