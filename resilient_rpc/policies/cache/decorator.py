"""`@cached`: the cache around a function of one's own."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.policies.cache.policy import Cache
from resilient_rpc.policies.settings import shown
from resilient_rpc.runtime import drive

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Prepares(Protocol):
    """A `Client` or an `AsyncClient`."""

    prepare: Callable[..., Call]
    call: Callable[..., Any]


class Cached(Protocol[P, R_co]):
    """A function with a cache around it."""

    cache: Cache
    method: str
    """Its name in events, and for ``cache.invalidate(method=...)``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result, from memory or from the function."""

    def invalidate(self) -> None:
        """Forget all its results."""


def cached(
    client: Prepares,
    *,
    ttl: float = 60.0,
    timeout: float | None = None,
    cache: Cache | None = None,
    **settings: Any,
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Keep the results of a function that only reads; for a coroutine function with an `AsyncClient`.

    Args:
        client: Its events, and its runtime: what waits and what runs in the background ends with it.
        ttl: Seconds.
        timeout: Seconds for which a call waits for another's result; None: the client's.
        cache: One that is there already, instead of `ttl` and settings.
        settings: Those of `Cache`: stale, stale_if_error, max_entries, tags, ...

    Arguments make the key: by name, as far as the signature has names. Those that cannot be encoded, such as `self`,
    bypass the cache. Any exception of the function is shared by those who wait, and stays where `stale_if_error` has
    no older value. A plain function is refreshed in a thread of the loop's pool.
    """
    if not callable(getattr(client, "prepare", None)):
        raise ConfigurationError(f"cached: give it a client first, as @cached(client, ttl=60.0), not {shown(client)}")
    if cache is not None and settings:
        raise ConfigurationError(f"cached: cache= has settings of its own; {', '.join(sorted(settings))} would be lost")
    policy = Cache(ttl=ttl, **settings) if cache is None else cache

    def decorate(function: Callable[P, R]) -> Cached[P, R]:
        given: Any = function
        if not callable(given) or not hasattr(given, "__qualname__"):  # its name is that of the method
            raise ConfigurationError(f"cached: it decorates a function, not {shown(function)}")
        is_async = inspect.iscoroutinefunction(function)
        if is_async is not inspect.iscoroutinefunction(client.call):
            wanted = "AsyncClient" if is_async else "Client"
            raise ConfigurationError(f"cached: {shown(function)} needs {wanted}, not {type(client).__name__}")
        run = functools.partial(_run, client, policy, function, _Arguments(function), timeout)
        if is_async:

            @functools.wraps(function)
            async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
                return (await run(args, kwargs)).result

        else:

            @functools.wraps(function)
            def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
                return drive(run(args, kwargs)).result

        found = cast("Any", wrapper)
        found.cache, found.method = policy, _name(function)
        found.invalidate = functools.partial(_invalidate, policy, found.method)
        return cast("Cached[P, R]", found)

    return decorate


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _invalidate(policy: Cache, method: str) -> None:
    policy.invalidate(method=method)


class _Arguments:
    """Arguments as a mapping by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        kinds = inspect.Parameter
        parameters = inspect.signature(function).parameters.values()
        self._names = [p.name for p in parameters if p.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}]

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        params = dict(zip(self._names, args, strict=False))
        if kwargs:  # beside, if one is given twice: that call is the function's to refuse
            params = {**params, **kwargs} if params.keys().isdisjoint(kwargs) else {"": args, "**": kwargs}
        if len(args) > len(self._names):
            params["*"] = args[len(self._names) :]
        return params


def _run(
    client: Prepares,
    policy: Cache,
    function: Callable[..., Any],
    arguments: _Arguments,
    timeout: float | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    async def carry(call: Call) -> Reply:
        if inspect.iscoroutinefunction(function):
            result = await function(*args, **kwargs)
        elif isinstance(call.runtime, AsyncioRuntime):  # a refresh, on a loop that it must not block
            result = await asyncio.to_thread(function, *args, **kwargs)
        else:
            result = function(*args, **kwargs)
        return Reply(result=result)

    call = client.prepare(_name(function), arguments.of(args, kwargs), timeout=timeout, safety=READ_ONLY)
    return policy(call, carry)
