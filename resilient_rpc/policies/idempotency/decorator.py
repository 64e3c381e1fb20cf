"""`@idempotent`: one effect for each key of a plain function or a coroutine function, without a server."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec
from msgspec import Raw

from resilient_rpc.call import DEDUP, Call, Reply
from resilient_rpc.context import Context, current_context, enter_context
from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.loops import running_runtime
from resilient_rpc.policies.idempotency.execution import Execution
from resilient_rpc.policies.idempotency.fingerprint import fingerprint_of
from resilient_rpc.policies.idempotency.policy import MAX_KEY, Idempotency, is_key
from resilient_rpc.runtime import BLOCKING, drive
from resilient_rpc.stores.base import RecordKey, Store
from resilient_rpc.stores.errors import CorruptRecord
from resilient_rpc.wire.codec import MSGPACK

if TYPE_CHECKING:
    from resilient_rpc.policy import Runtime
    from resilient_rpc.wire.codec import Codec

P = ParamSpec("P")
R = TypeVar("R")


def idempotent(
    store: Store,
    *,
    key: Callable[..., str] | str,
    tenant: str = "default",
    name: str | None = None,
    **settings: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function take effect once for each key, in all processes that share the store.

    Args:
        store: Where records live.
        key: A function of the same arguments that gives the key, or the name of the parameter that is the key.
        tenant: Whose keys these are.
        name: What the records are for; None: module and name of the function. It must not change between versions.
        settings: Those of `Idempotency`: ttl, lease, wait, on_takeover, on_store_error, abandon_on, ...

    A repeat gets the result of the first call, as the function's return annotation says, or as lists, dicts and plain
    values where there is none; an exception comes again as `ApplicationError`, with its class as `type`. Inside,
    `current_context().fencing_token` is the token of this execution. A plain function blocks its thread while the
    store is asked, on the I/O loop; a coroutine function asks on its own loop. The arguments are part of what is
    compared: those that JSON cannot hold raise `UsageError`.

    Raises what a keyed call to a server raises: `InProgress`, `KeyReused`, `Interrupted`, `DependencyUnavailable`.
    """
    policy = Idempotency(store, **settings)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        wrapped = _Wrapped(function, policy, key, tenant, name or f"{function.__module__}.{function.__qualname__}")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def asynchronous(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await wrapped.call(running_runtime(), args, kwargs)

            return typing.cast("Callable[P, R]", asynchronous)

        @functools.wraps(function)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            result: R = drive(wrapped.call(BLOCKING, args, kwargs))
            return result

        return blocking

    return decorate


class _Served:
    """As `Served`, of a call that no server has a part in."""

    began = ended = 0
    running = asking = False
    parking = None
    places = sys.maxsize
    replayed = False
    codec: Codec = MSGPACK

    def __init__(self, context: Context, tenant: str, params: dict[str, Any]) -> None:
        self.context, self.tenant, self.params = context, tenant, params

    def hold(self, retry_after: float) -> None:
        """Nobody waits for this call but its caller."""

    def step_out(self) -> None:
        """There are no slots."""

    async def step_in(self) -> None:
        """There are no slots."""


class _Wrapped:
    def __init__(
        self, function: Callable[..., Any], policy: Idempotency, key: Callable[..., str] | str, tenant: str, name: str
    ) -> None:
        self._function, self._policy, self._key, self._tenant, self._name = function, policy, key, tenant, name
        self._signature = inspect.signature(function)
        if isinstance(key, str) and key not in self._signature.parameters:
            raise ConfigurationError(f"idempotent: {name} has no parameter {key!r}")
        self._returns = typing.get_type_hints(function).get("return", Any)
        self._decode = MSGPACK.decoder(self._returns if self._returns is not None else Any).decode

    async def call(self, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of the function, or the answer of the first one."""
        arguments = dict(self._signature.bind(*args, **kwargs).arguments)
        key = self._key_of(arguments, args, kwargs)
        context = Context(self._name, math.inf, DEDUP, key)
        served = _Served(context, self._tenant, arguments)

        async def carry(_: Call) -> Reply:
            before = current_context()
            enter_context(context)
            served.began += 1
            try:
                result = self._function(*args, **kwargs)
                if inspect.isawaitable(result):
                    result = await result
            finally:
                served.ended += 1
                enter_context(before)
            return Reply(result=result)

        call = Call(method=self._name, params=arguments, runtime=runtime, deadline=math.inf, safety=DEDUP, key=key)
        service, _, method = self._name.partition(".")
        record = RecordKey(self._tenant, service, method, key)
        fingerprint = fingerprint_of(self._name, arguments)
        reply = await Execution(self._policy, call, carry, served, record, fingerprint).reply()
        return self._read(reply.result) if isinstance(reply.result, Raw) else reply.result

    def _key_of(self, arguments: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        given = self._key
        key: Any = arguments.get(given) if isinstance(given, str) else given(*args, **kwargs)
        if not is_key(key):
            raise UsageError(f"{self._name}: the key must be a text of 1 to {MAX_KEY} characters, not {key!r:.300}")
        found: str = key
        return found

    def _read(self, data: Raw) -> Any:
        try:
            return self._decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise CorruptRecord(f"{self._name}: a recorded result is not of its return type: {error}") from error
