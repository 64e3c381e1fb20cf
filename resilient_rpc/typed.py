"""Typed services: the methods of a service as a class that type checkers read, and calls that follow it."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar, Unpack

from resilient_rpc.call import UNSAFE, Safety
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.names import check_name
from resilient_rpc.settings import check_safety, check_timeout
from resilient_rpc.wire.codec import Codec

if TYPE_CHECKING:
    from resilient_rpc.keywords import How

F = TypeVar("F", bound=Callable[..., Any])
_KINDS = inspect.Parameter
_TERMS = "__resilient_rpc__"
_AWAITABLE = (collections.abc.Awaitable, collections.abc.Coroutine)


class Contract(Protocol):
    """What a typed service can do besides its methods: derive a contract from it to have that in its type.

    ``class Orders(Contract, Protocol): ...``; any other class with annotated methods is a contract as well.
    """

    def with_(self, **how: Unpack[How]) -> Self:
        """The same service with other settings for its calls."""
        ...  # pragma: no cover - a protocol


class Terms(NamedTuple):
    """What a contract says of one method, besides its signature."""

    name: str | None = None
    safety: Safety | None = None
    timeout: float | None = None


def remote(
    *, safety: Safety | str | None = None, timeout: float | None = None, name: str | None = None
) -> Callable[[F], F]:
    """Say of a contract's method what its signature cannot: a decorator.

    `safety`: what a repeat would do (`Safety`). `timeout`: seconds for its calls. `name`: its name at the server, where
    that is another one. What a call says itself (`with_`) goes before; what the client was made with comes after.
    """
    terms = Terms(
        name=check_name(name) if name is not None else None,
        safety=check_safety(safety) if safety is not None else None,
        timeout=check_timeout(timeout, "timeout") if timeout is not None else None,
    )

    def mark(function: F) -> F:
        setattr(function, _TERMS, terms)
        return function

    return mark


class Stub:
    """One method of a contract."""

    def __init__(self, full: str, signature: inspect.Signature, how: Mapping[str, Any]) -> None:
        self.full, self.how = full, how
        self._signature = signature
        parameters = signature.parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        self._open = _KINDS.VAR_KEYWORD in kinds
        self._placed = bool(kinds & {_KINDS.POSITIONAL_ONLY, _KINDS.VAR_POSITIONAL})
        named = [p for p in parameters if p.kind in {_KINDS.POSITIONAL_OR_KEYWORD, _KINDS.KEYWORD_ONLY}]
        self._names = tuple(p.name for p in named if p.kind is _KINDS.POSITIONAL_OR_KEYWORD)
        self._known = frozenset(p.name for p in named)
        self._required = frozenset(p.name for p in named if p.default is _KINDS.empty)

    def params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments by name; by position where the contract has no names for them. Defaults are not sent.

        Raises TypeError for arguments that the contract does not take.
        """
        if not self._placed and len(args) <= len(self._names):
            found = {**dict(zip(self._names, args, strict=False)), **kwargs} if args else kwargs
            together = len(found) == len(args) + len(kwargs)
            if together and self._required <= found.keys() and (self._open or found.keys() <= self._known):
                return found
        try:
            self._signature.bind(*args, **kwargs)
            if kwargs:
                raise TypeError("takes its arguments by position only, or none of them")
        except TypeError as error:
            raise TypeError(f"{self.full}(): {error}") from None
        return args


class TypedService:
    """What `Client.service(name, contract)` returns, whatever its type says."""

    def __init__(self, send: Callable[..., Any], stubs: Mapping[str, Stub], label: str, how: dict[str, Any]) -> None:
        self._send, self._stubs, self._label, self._how = send, stubs, label, how

    def __getattr__(self, name: str) -> Any:
        stub = self._stubs.get(name) if not name.startswith("_") else None
        if stub is None:
            raise AttributeError(f"{self._label} has no method {name!r}")
        send, full, params = self._send, stub.full, stub.params
        options = {**stub.how, **self._how}
        if "idempotency_key" in self._how and "safety" not in self._how and options.get("safety") is UNSAFE:
            del options["safety"]  # the key makes it a `dedup` call

        def method(*args: Any, **kwargs: Any) -> Any:
            return send(full, params(args, kwargs), **options)

        self.__dict__[name] = method  # the next time it is found without asking here
        return method

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._stubs]

    def __repr__(self) -> str:
        return f"TypedService({self._label})"

    def with_(self, **how: Any) -> TypedService:
        """See `Contract.with_`."""
        return TypedService(self._send, self._stubs, self._label, {**self._how, **how})


def typed_service(send: Callable[..., Any], service: str, contract: Any, codec: Codec, *, awaits: bool) -> Any:
    """The service as its contract describes it. `awaits`: its methods are coroutines.

    Raises `ConfigurationError` for a contract that cannot be one, naming the method.
    """
    check_name(service, "service")
    origin = typing.get_origin(contract) or contract
    if not isinstance(origin, type):
        raise ConfigurationError(f"contract={contract!r:.200}: give a class with the methods of {service!r}")
    variables = getattr(origin, "__parameters__", ())
    bound = dict(zip(variables, typing.get_args(contract), strict=False))
    stubs = {
        name: _stub(f"{origin.__name__}.{name}", service, function, bound, codec, awaits=awaits)
        for name, function in _functions(origin)
    }
    if not stubs:
        raise ConfigurationError(f"contract={contract!r:.200}: it has no methods")
    return TypedService(send, stubs, f"{service!r} as {origin.__name__}", {})


def _functions(contract: type) -> list[tuple[str, Callable[..., Any]]]:
    found: dict[str, Any] = {}
    for base in reversed(contract.__mro__):
        if base.__module__ != "typing" and base not in (object, Contract):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    for name, value in found.items():
        if not inspect.isfunction(value):
            raise ConfigurationError(f"{contract.__name__}.{name} is no method: a contract has nothing else")
    return list(found.items())


def _stub(
    label: str, service: str, function: Callable[..., Any], bound: Mapping[Any, Any], codec: Codec, *, awaits: bool
) -> Stub:
    terms: Terms = getattr(function, _TERMS, Terms())
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{label}: an annotation cannot be read: {error}") from error
    result, is_coroutine = hints.get("return", Any), inspect.iscoroutinefunction(function)
    if not is_coroutine and typing.get_origin(result) in _AWAITABLE:
        result, is_coroutine = typing.get_args(result)[-1], True
    if is_coroutine is not awaits:
        advice = "`async def` methods are for AsyncClient" if is_coroutine else "AsyncClient wants `async def` methods"
        raise ConfigurationError(f"{label}: {advice}")
    how: dict[str, Any] = {}
    if (returns := _bound(result, bound)) is not Any:
        try:
            codec.decoder(returns)
        except ConfigurationError as error:
            raise ConfigurationError(f"{label}: {error}") from error
        how["returns"] = returns
    if terms.safety is not None:
        how["safety"] = terms.safety
    if terms.timeout is not None:
        how["timeout"] = terms.timeout
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]  # without self
    full = f"{service}.{terms.name or check_name(function.__name__)}"
    return Stub(full, signature.replace(parameters=parameters), how)


def _bound(hint: Any, bound: Mapping[Any, Any]) -> Any:
    """The type with the contract's own type variables replaced by what they stand for."""
    if isinstance(hint, TypeVar):
        return bound.get(hint, Any)
    variables = getattr(hint, "__parameters__", ())
    return hint[tuple(bound.get(each, Any) for each in variables)] if variables and not isinstance(hint, type) else hint
