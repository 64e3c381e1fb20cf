"""What a server is told to serve: methods, objects, queues of bytes, events."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, overload

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.contract import Method, Methods
from resilient_rpc.declaring import Declared, declarations, declared
from resilient_rpc.errors import ApplicationError, ConfigurationError, UsageError
from resilient_rpc.events import Event
from resilient_rpc.hub import Events
from resilient_rpc.names import check_name
from resilient_rpc.serving.access import Allow
from resilient_rpc.serving.core import Serving
from resilient_rpc.serving.eventqueue import EventQueue
from resilient_rpc.serving.raw import RawQueue
from resilient_rpc.serving.subscriptions import Subscriptions
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.queues import Classic, Quorum
from resilient_rpc.transport.tables import MAX_SHORT, is_queue_name
from resilient_rpc.transport.topology import events_queue
from resilient_rpc.wire.codec import CODECS

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Event)
S = TypeVar("S")
X = TypeVar("X", bound=type[ApplicationError])


class Registering:
    """The half of a server that is told what to serve.

    `queue`: the one of its calls, after which those of bytes and events are called. `topics`: the exchange of events.
    `allow`: what guards everything that is registered.
    """

    def __init__(self, methods: Methods, queue: QueueSpec, topics: str, allow: Allow | None) -> None:
        self.service = methods.service
        self._methods, self._queue, self._topics, self._allow = methods, queue, topics, allow
        self._raws: dict[str, RawQueue] = {}
        self._subscriptions = Subscriptions(methods.service)
        self._events = Events()
        self._serving: Serving | None = None

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
        said = declared(name=name, safety=safety, timeout=timeout, concurrency=concurrency, allow=allow)

        def register(target: F) -> F:
            self._register(target, said, getattr(target, "__name__", ""))
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
        for attribute, said in found.items():
            self._register(getattr(instance, attribute), said, attribute)
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
        said = declared(safety=safety, timeout=timeout)

        def register(target: F) -> F:
            self._register_raw(target, name, queue, said)
            return target

        return register

    def _register_raw(
        self,
        function: Callable[..., Any],
        name: str,
        queue: Classic | Quorum | None,
        said: Declared,
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
        self._raws[name] = RawQueue(spec=spec, method=self._made_of(function, name, binder, said))

    def _register(self, function: Callable[..., Any], said: Declared, called: str) -> None:
        binder = _binder(function)
        self._methods.add(self._made_of(function, check_name(said.name or called), binder, said))
        self._refresh()

    def _made_of(self, function: Callable[..., Any], name: str, binder: Binder, said: Declared) -> Method:
        return Method(
            name=name,
            function=function,
            binder=binder,
            safety=said.safety,
            timeout=said.timeout,
            is_async=_is_async(function),
            concurrency=said.concurrency,
            allow=tuple(guard for guard in (self._allow, said.allow) if guard is not None),
        )

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
        said = declared(safety=safety, timeout=timeout, concurrency=concurrency, allow=allow)

        def register(target: F) -> F:
            self._check_not_begun()
            self._subscriptions.add(self._made_of(target, event, _binder(target), said))
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


def _is_async(function: Callable[..., Any]) -> bool:
    called = None if isinstance(function, type) else getattr(function, "__call__", None)  # noqa: B004 - of an object
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
