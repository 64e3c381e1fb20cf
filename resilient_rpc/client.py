"""Client: the face of the core for threads; that for asyncio is `AsyncClient`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, Unpack

from resilient_rpc import asking
from resilient_rpc.asking import Params, RawProperties, as_cast, check_raw
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.caller import Caller
from resilient_rpc.errors import UsageError
from resilient_rpc.face import Face
from resilient_rpc.futures import CallFuture, tell
from resilient_rpc.keywords import SENT, How, Sent, Settings, Told, check_how
from resilient_rpc.mapping import map_calls
from resilient_rpc.runtime import AsyncioRuntime, BlockingRuntime, drive, io_loop

CLOSED_WITHIN = 10.0
"""Seconds that closing a client may take."""


class Client(Face):
    """Calls from threads. One client serves any number of them; its connections live on the process's I/O loop.

    Args:
        url: ``amqp://user:password@host1,host2/vhost``, ``amqps://...`` or ``memory://name``.
        policies: The chain, the outermost first; None: `default_policies()`. A list is taken as it is.
        timeout: Seconds for a call where the call itself does not say; covers everything from the call to its result.
            None: 30, or with `discover` what the method declares.
        safety: What a repeat of a call would do, where the call does not say: one class, or a map from method to class.
        discover: Ask services what their methods declare, and go by it where neither a call nor `safety` says more.
        errors: Subclasses of `ApplicationError` to raise for the errors that carry their `type`.
        codec: ``json`` or ``msgpack``.
        batching: How calls are joined to messages; None: each travels alone.
        limits: Sizes beyond which nothing is sent or accepted.
        links: Connections.
        max_pending: Calls that may wait on one connection.
        prefix: Of the names of the services' queues: ``rpc.orders``.
        version: Of the services' interfaces, in those names: ``rpc.orders.v2``.
        environment: In those names, last: ``rpc.orders.v2.prod``. All three are the same at the servers.
        replies: Where replies arrive, from `resilient_rpc.replies`: ``Direct()``, ``Exclusive()``, ``Named(app=...)``,
            ``Pool()`` or ``PerCall()``.
        correlation: What correlation ids end with, for whoever reads them: ``sequence``, ``uuid``, ``time`` or
            ``thread``. They begin with 128 random bits in any case.
        app_id: Shown to operators.
        user_id: Send the connection's user along, which the broker checks: for servers with ``require_user_id``. Its
            name, where a certificate stands for it.
        lane: False has pika encode and decode every frame.
        filters: Applied to whole messages: requests from the first to the last, replies in the opposite order.
        liveness: Seconds for which a server that has a call may be silent about it before the call fails with
            `ServerLost`; None: until the deadline.
        when_no_server: ``wait`` for a server until the deadline, or ``fail`` with `NoServer` when the broker says that
            nobody consumes the service's queue; it is asked when half a second has passed without a sign.
        blocking_ok: Allow calls on a thread with a running event loop (a notebook), which they block.

    Constructing it does no I/O: it connects with the first call, or in ``with``.
    """

    _awaits = False

    def __init__(self, url: str, *, blocking_ok: bool = False, **settings: Unpack[Settings]) -> None:
        super().__init__(url, **settings)
        self._blocking_ok = blocking_ok
        self._lock = threading.Lock()
        self._blocking = BlockingRuntime()
        self._scope: AsyncioRuntime | None = None

    def after_fork(self) -> None:
        """See `Face`."""
        super().after_fork()
        self._lock = threading.Lock()
        self._scope = None

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
        return drive(caller.request(caller.build(self._blocking, method, params, **check_how(how)))).result

    def request(self, method: str, params: Params = None, **how: Unpack[How]) -> Reply:
        """As `call`, with what came beside the result: replayed, degraded, server, attempts."""
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        return drive(caller.request(caller.build(self._blocking, method, params, **check_how(how))))

    def prepare(self, method: str, params: Params = None, **how: Unpack[How]) -> Call:
        """The call that `call` would send, and nothing is sent: for policies around something of one's own."""
        if not self._blocking_ok:
            _refuse_running_loop()
        return (self._caller or self._bound()).build(self._blocking, method, params, **check_how(how))

    def submit(
        self,
        method: str,
        params: Params = None,
        *,
        on_success: Callable[[Any], object] | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        on_timeout: Callable[[BaseException], object] | None = None,
        **how: Unpack[How],
    ) -> CallFuture:
        """As `call`, without waiting. The whole chain runs on the I/O loop; callbacks run on a thread of their own.

        `on_success` is called with the result, `on_error` with the error, `on_timeout` (else `on_error`) with that of a
        call whose time was up; none of them for a call that was cancelled.
        """
        caller, scope = self._caller or self._bound(), self._on_loop()
        call = caller.build(scope, method, params, **check_how(how))
        future = CallFuture()
        tell(future, on_success, on_error, on_timeout)
        future.attach(io_loop().start(lambda _: _result(caller, call), scope))
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
        caller = self._caller or self._bound()
        scope, options = self._on_loop(), check_how(how)
        todo = list(params)  # here: whatever makes them may block
        return io_loop().run(
            lambda: map_calls(caller, scope, method, todo, options, window=window, return_errors=return_errors)
        )

    def cast(self, method: str, params: Params = None, *, ttl: float | None = None, **how: Unpack[Sent]) -> None:
        """Call a method and want no answer: returns when the broker has put it, persistent, into the service's queue.

        `timeout` is for that alone; `ttl`: seconds after which the cast is worth nothing and is not executed (default:
        it waits for ever). The policies apply, but for those that answer in a server's place (cache, fallback, hedge).
        Keywords: timeout, safety, idempotency_key, tags, detached. Raises `Unroutable`, `PublishRejected` and the other
        errors of transport; what the broker did not confirm in time is UNKNOWN, and repeated if `safety` allows it.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        call = as_cast(caller.build(self._blocking, method, params, **check_how(how, SENT)), ttl)
        drive(caller.request(call, caller.posting.casts))

    def publish(self, event: str, params: Params = None, *, ttl: float | None = None, **how: Unpack[Told]) -> bool:
        """Tell every service that subscribes to an event: returns when their queues have it, persistent.

        Each of these services gets it once, by one of its servers. False: there is none, and `NoSubscribers` is
        announced. `timeout` is for the broker's confirm alone; `ttl`: seconds after which the event is worth nothing.
        `idempotency_key`: its id (default: a new one), by which servers with `Idempotency` know a repeat; so it is
        sent again where nobody knows whether it arrived. Keywords: timeout, idempotency_key, tags, priority, detached.
        Policies and errors as for `cast`, but for `Unroutable`.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        return drive(asking.publish(caller, self._blocking, event, params, ttl, how))

    def broadcast(
        self,
        method: str,
        params: Params = None,
        *,
        timeout: float = 1.0,
        expect: int | None = None,
        returns: Any = None,
        tags: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> list[tuple[str, Any]]:
        """Call a method of every server of a service, at most once each: the name of each server, and value or error.

        Ends after `timeout` seconds, or when `expect` servers have answered; with no server there at once, with an
        empty list. No policy applies. Errors stand in the list as `RpcError`. Raises `Unroutable` where no server of
        the service has ever run, and the other errors of transport.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        caller = self._caller or self._bound()
        how: Any = {"timeout": timeout, "returns": returns, "tags": tags, "detached": detached}
        return drive(asking.broadcast(caller, self._blocking, method, params, expect, how))

    def call_raw(
        self,
        queue: str,
        body: bytes,
        *,
        timeout: float | None = None,
        safety: Safety | str | None = None,
        **properties: Unpack[RawProperties],
    ) -> bytes:
        """Send bytes to any queue that answers by ``reply_to``; the bytes of the answer with our correlation id.

        The other side needs to know nothing of this library. The policies apply, the filters do not. `properties` are
        AMQP's: content_type, headers, priority, ... Raises `Unroutable` where there is no such queue.
        """
        if not self._blocking_ok:
            _refuse_running_loop()
        check_raw(queue, body, properties)
        caller = self._caller or self._bound()
        how = {"timeout": timeout, "safety": safety}
        return drive(asking.call_raw(caller, self._blocking, queue, body, how, properties))

    def close(self) -> None:
        """End the connections and what policies have started; calls that still wait fail. Idempotent."""
        with self._lock:
            caller, self._caller = self._caller, None
            scope, self._scope = self._scope, None
            self._closed = True
        if caller is not None and scope is not None:
            io_loop().run(lambda: caller.close(scope), CLOSED_WITHIN)
        self._blocking.close()

    def _on_loop(self) -> AsyncioRuntime:
        """What runs on the I/O loop for this client, and ends with it."""
        scope = self._scope
        if scope is None:
            raise UsageError("the client is closed")
        return scope

    def _bound(self) -> Caller:
        with self._lock:
            if self._caller is None:
                caller = self._new_caller()
                self._scope = io_loop().runtime.scope()
                caller.connect(self._transport, self._scope)
                self._caller = caller
            return self._caller


async def _result(caller: Caller, call: Call) -> Any:
    return (await caller.request(call)).result


def _refuse_running_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - exported for this; the public one raises, 10 x slower
        raise UsageError(
            "Client blocks, and this thread runs an event loop: use AsyncClient here, "
            "or Client(..., blocking_ok=True) in a notebook"
        )
