"""Client and AsyncClient: two thin faces of one core."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypedDict, TypeVar, Unpack

from resilient_rpc import forking
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.caller import Caller, CallerOptions, check_safety, default_policies
from resilient_rpc.chain import check_order
from resilient_rpc.errors import ConfigurationError, RemoteError, UsageError
from resilient_rpc.events import Event, Events
from resilient_rpc.futures import CallFuture
from resilient_rpc.mapping import map_calls
from resilient_rpc.policy import Policy
from resilient_rpc.runtime import BLOCKING, AsyncioRuntime, drive, io_loop, running_runtime
from resilient_rpc.service import Service
from resilient_rpc.stats import CallStats, StatsSnapshot
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.link import LinkOptions
from resilient_rpc.transport.open import open_transport
from resilient_rpc.wire.codec import CODECS, JSON
from resilient_rpc.wire.limits import Limits

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Params = Mapping[str, Any] | Sequence[Any] | None


class How(TypedDict, total=False):
    """What may be said of a single call."""

    timeout: float | None
    """Seconds from here to the result; None: the client's."""
    safety: Safety | str | None
    idempotency_key: str | None
    tags: Mapping[str, str] | None
    """Travel with the call, and with the calls that its handler makes."""
    returns: Any
    """The type of the result."""
    detached: bool
    """Inherit nothing from the call that the running handler serves."""


CODEC_NAMES = {"json": JSON.content_type, "msgpack": "application/msgpack"}


class _Face:
    """What both clients share: settings, statistics, events."""

    def __init__(
        self,
        url: str,
        *,
        policies: Sequence[Policy] | None = None,
        timeout: float = 30.0,
        safety: Safety | str | Mapping[str, Safety | str] = Safety.UNSAFE,
        errors: Iterable[type[RemoteError]] = (),
        codec: str = "json",
        batching: Batching | None = Batching(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        links: int = 1,
        max_pending: int = 250_000,
        prefix: str = "rpc.",
        app_id: str | None = None,
        lane: bool = True,
    ) -> None:
        chain = default_policies() if policies is None else list(policies)
        check_order(chain)
        self._options = CallerOptions(
            policies=tuple(chain),
            timeout=timeout,
            safety=_safeties(safety),
            errors=_registry(errors),
            codec=CODECS[_content_type(codec)],
            links=links,
            link=LinkOptions(batching=batching, limits=limits, max_pending=max_pending, app_id=app_id),
            prefix=prefix,
        )
        self._transport = open_transport(url, lane=lane)
        self._events = Events()
        self._stats = CallStats()
        self._caller: Caller | None = None
        self._closed = False
        forking.register(self)

    def after_fork(self) -> None:
        """The connections are the parent's; the child makes its own."""
        self._caller = None
        self._stats = CallStats()

    def on(self, event_type: type[E], hook: Callable[[E], object]) -> Callable[[], None]:
        """Have `hook` called with every event of a type; it must not wait. Returns what ends the subscription."""
        return self._events.on(event_type, hook)

    def stats(self) -> StatsSnapshot:
        """Counts, rates and times of the calls of this client."""
        return self._stats.snapshot()

    def service(self, name: str) -> Service:
        """The methods of a service as attributes: ``orders = client.service("orders"); orders.price(sku="A1")``."""
        return Service(self.call, name)  # type: ignore[attr-defined]  # both faces have it

    def _new_caller(self) -> Caller:
        if self._closed:
            raise UsageError("the client is closed")
        return Caller(self._options, self._events, self._stats)


class Client(_Face):
    """Calls from threads. One client serves any number of them; its connections live on the process's I/O loop.

    Args:
        url: ``amqp://user:password@host1,host2/vhost``, ``amqps://...`` or ``memory://name``.
        policies: The chain, the outermost first; None: `default_policies()`. A list is taken as it is.
        timeout: Seconds for a call where the call itself does not say; covers everything from the call to its result.
        safety: What a repeat of a call would do, where the call does not say: one class, or a map from method to class.
        errors: Subclasses of `ApplicationError` to raise for the errors that carry their `type`.
        codec: ``json`` or ``msgpack``.
        batching: How calls are joined to messages; None: each travels alone.
        limits: Sizes beyond which nothing is sent or accepted.
        links: Connections.
        max_pending: Calls that may wait on one connection.
        prefix: Of the names of the services' queues.
        app_id: Shown to operators.
        lane: False has pika encode and decode every frame.
        blocking_ok: Allow calls on a thread with a running event loop (a notebook), which they block.

    Constructing it does no I/O: it connects with the first call, or in ``with``.
    """

    def __init__(self, url: str, *, blocking_ok: bool = False, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._blocking_ok = blocking_ok
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """See `_Face`."""
        super().after_fork()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        caller = self._bound()
        if caller.pool is not None:
            io_loop().call_soon(caller.pool.start)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, params: Params = None, **how: Unpack[How]) -> Any:
        """The result of a call. Keywords: timeout, safety, idempotency_key, tags, returns, detached.

        Raises an `RpcError` that says whether the call was executed; it always ends by its deadline.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        return drive(caller.request(caller.build(BLOCKING, method, params, **_named(how)))).result

    def request(self, method: str, params: Params = None, **how: Unpack[How]) -> Reply:
        """As `call`, with what came beside the result: replayed, degraded, server, attempts."""
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        return drive(caller.request(caller.build(BLOCKING, method, params, **_named(how))))

    def submit(self, method: str, params: Params = None, **how: Unpack[How]) -> CallFuture:
        """As `call`, without waiting. The whole chain runs on the I/O loop; callbacks run on a thread of their own."""
        caller = self._caller or self._bound()
        call = caller.build(io_loop().runtime, method, params, **_named(how))
        future = CallFuture()
        future.attach(io_loop().start(lambda _: _result(caller, call)))
        return future

    def map(
        self,
        method: str,
        params: Iterable[Params],
        *,
        return_errors: bool = False,
        window: int = 1024,
        **how: Unpack[How],
    ) -> list[Any]:
        """The results of many calls of one method, in order; at most `window` are under way at once.

        `timeout` is each call's own. The first error ends it all and is raised; with `return_errors` errors stand in
        the list where results would.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        caller, options = self._caller or self._bound(), _named(how)
        io = io_loop()

        async def work() -> list[Any]:
            build = _builder(caller, io.runtime, method, options)
            return await map_calls(caller, build, params, window=window, return_errors=return_errors)

        return io.run(work)

    def close(self) -> None:
        """End the connections; calls that still wait fail. Idempotent."""
        with self._lock:
            caller, self._caller = self._caller, None
            self._closed = True
        if caller is not None and caller.pool is not None:
            io_loop().run(caller.pool.close, 10.0)

    def _bound(self) -> Caller:
        with self._lock:
            if self._caller is None:
                caller = self._new_caller()
                caller.connect(self._transport, io_loop().runtime)
                self._caller = caller
            return self._caller


class AsyncClient(_Face):
    """Calls from asyncio, with the settings of `Client`. Everything runs on the loop that uses it first."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._binding: tuple[AsyncioRuntime, Caller] | None = None

    def after_fork(self) -> None:
        """See `_Face`."""
        super().after_fork()
        self._binding = None

    async def __aenter__(self) -> Self:
        _, caller = self._bound()
        if caller.pool is not None:
            caller.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, method: str, params: Params = None, **how: Unpack[How]) -> Any:
        """See `Client.call`."""
        # `Caller.request` written out: one more coroutine around every call costs as much as a policy.
        runtime, caller = self._bound()
        call = caller.build(runtime, method, params, **_named(how)) if how else caller.build(runtime, method, params)
        stats, begin = caller.stats, time.perf_counter()
        stats.begin()
        try:
            reply = await caller.handler(call)
        except BaseException as error:
            caller.ended(call, time.perf_counter() - begin, None, error)
            raise
        caller.ended(call, time.perf_counter() - begin, reply, None)
        return reply.result

    async def request(self, method: str, params: Params = None, **how: Unpack[How]) -> Reply:
        """See `Client.request`."""
        runtime, caller = self._bound()
        return await caller.request(caller.build(runtime, method, params, **_named(how)))

    def submit(self, method: str, params: Params = None, **how: Unpack[How]) -> asyncio.Task[Any]:
        """As `call`, as a task of the running loop."""
        return asyncio.get_running_loop().create_task(self.call(method, params, **how))

    async def map(
        self,
        method: str,
        params: Iterable[Params],
        *,
        return_errors: bool = False,
        window: int = 1024,
        **how: Unpack[How],
    ) -> list[Any]:
        """See `Client.map`."""
        runtime, caller = self._bound()
        build = _builder(caller, runtime, method, _named(how))
        return await map_calls(caller, build, params, window=window, return_errors=return_errors)

    async def close(self) -> None:
        """See `Client.close`."""
        caller, self._caller, self._binding = self._caller, None, None
        self._closed = True
        if caller is not None and caller.pool is not None:
            await caller.pool.close()

    def _bound(self) -> tuple[AsyncioRuntime, Caller]:
        bound = self._binding
        if bound is not None and bound[0].loop is asyncio.get_running_loop():
            return bound
        runtime = running_runtime()
        if bound is not None and not bound[0].loop.is_closed():
            raise UsageError(
                "this AsyncClient belongs to another event loop, which is still alive: use one client a loop"
            )
        self._caller = self._new_caller()
        self._caller.connect(self._transport, runtime)
        self._binding = runtime, self._caller
        return self._binding


async def _result(caller: Caller, call: Call) -> Any:
    return (await caller.request(call)).result


def _builder(
    caller: Caller, runtime: AsyncioRuntime, method: str, options: Mapping[str, Any]
) -> Callable[[Params], Call]:
    return lambda params: caller.build(runtime, method, params, **options)


_NOTHING: dict[str, Any] = {}
_HOW = frozenset(How.__annotations__)


def _named(how: Any) -> dict[str, Any]:
    """Check the keywords of a call."""
    if not how:
        return _NOTHING
    if unknown := how.keys() - _HOW:
        raise TypeError(f"a call has no {', '.join(sorted(unknown))!r}; it has {', '.join(sorted(_HOW))}")
    return dict(how)


def _refuse_running_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - exported for this; the public one raises, 10 x slower
        raise UsageError(
            "Client blocks, and this thread runs an event loop: use AsyncClient here, "
            "or Client(..., blocking_ok=True) in a notebook"
        )


def _safeties(safety: Safety | str | Mapping[str, Safety | str]) -> Safety | dict[str, Safety]:
    if isinstance(safety, Mapping):
        return {method: check_safety(value) for method, value in safety.items()}
    return check_safety(safety)


def _registry(errors: Iterable[Any]) -> dict[str, type[RemoteError]]:
    found: dict[str, type[RemoteError]] = {}
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, RemoteError) and error.type):
            raise ConfigurationError(f"errors={error!r}: give subclasses of ApplicationError with a `type`")
        found[error.type] = error
    return found


def _content_type(codec: str) -> str:
    if codec not in CODEC_NAMES:
        raise ConfigurationError(f"codec={codec!r}: give one of {', '.join(CODEC_NAMES)}")
    return CODEC_NAMES[codec]


__all__ = ["AsyncClient", "Client"]
