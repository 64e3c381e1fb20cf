"""A method's name, signature, types and safety; arguments decoded straight into what the handler declares."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from resilient_rpc.call import Safety
from resilient_rpc.errors import ConfigurationError, InvalidParams, MethodNotFound
from resilient_rpc.wire.codec import Codec, Decoder

MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*", re.ASCII)
_KINDS = inspect.Parameter
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def check_name(name: Any, what: str = "method") -> str:
    """Return `name` if it may be called from outside: letters first, dots between parts, no part private.

    Raises `ConfigurationError` otherwise.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} name {str(name)[:MAX_NAME]!r}: use letters, digits and underscores, parts that begin with a "
            f"letter, joined by dots, at most {MAX_NAME} characters"
        )
    return name


def split_method(method: str) -> tuple[str, str]:
    """``service.method`` into the service (before the first dot) and the name that goes on the wire."""
    service, dot, name = method.partition(".")
    if not dot or not service or not name:
        raise ConfigurationError(f"method {method[:MAX_NAME]!r}: give it as 'service.method'")
    return service, name


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """One method of a service, as it was registered."""

    name: str
    function: Callable[..., Any]
    binder: Binder
    safety: Safety | None
    """As declared; None: undeclared, then the caller's word counts."""
    timeout: float | None
    """Seconds that a handler may run, besides the caller's deadline."""
    is_async: bool

    def safety_for(self, hint: Safety | None) -> Safety:
        """The safety class of a call to it."""
        return self.safety or hint or Safety.UNSAFE


class Binder:
    """Decodes the arguments of one function from the bytes of `params`.

    Made from the signature once: one struct for arguments by name, one for arguments by position. A parameter with a
    default may be missing, and then it is the function that fills it in.
    """

    def __init__(self, function: Callable[..., Any], context_type: type[Any]) -> None:
        signature, hints = _inspect(function)
        self.context_name: str | None = None
        plain: list[inspect.Parameter] = []
        self._open = False
        self._context_at = 0
        for parameter in signature.parameters.values():
            annotation = hints.get(parameter.name, Any)
            if annotation is context_type:
                self.context_name = parameter.name
                self._context_at = len(plain)
            elif parameter.kind in (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD):
                self._open = True
            else:
                plain.append(parameter)
        self._signature = signature
        self._types = {p.name: hints.get(p.name, Any) for p in plain}
        named = [p for p in plain if p.kind is not _KINDS.POSITIONAL_ONLY]
        placed = [p for p in plain if p.kind is not _KINDS.KEYWORD_ONLY]
        self._names = tuple(p.name for p in named)
        self._leading = placed
        self._complete = all(p.default is _KINDS.empty for p in plain)
        self._by_name = self._struct("ByName", named, array_like=False)
        self._by_position = self._struct("ByPosition", placed, array_like=True)
        self._positional_only = len(named) < len(plain)
        self._decoders: dict[tuple[str, bool], Decoder] = {}
        self._empty = not plain

    def _struct(self, kind: str, parameters: list[inspect.Parameter], *, array_like: bool) -> Any:
        fields: list[Any] = []
        for parameter in parameters:
            type_ = self._types[parameter.name]
            if parameter.default is _KINDS.empty:
                fields.append((parameter.name, type_))
            else:
                fields.append((parameter.name, type_ | UnsetType if type_ is not Any else Any, UNSET))
        try:
            return msgspec.defstruct(
                kind, fields, array_like=array_like, forbid_unknown_fields=True, kw_only=not array_like
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the signature {self._signature} cannot be called from outside: {error}"
            ) from error

    def prepare(self, codec: Codec) -> None:
        """Make the decoders now, so that an annotation that cannot be decoded is found when it is registered."""
        self._decoder(codec, by_position=False)
        self._decoder(codec, by_position=True)

    def bind(self, codec: Codec, params: bytes | msgspec.Raw) -> Arguments:
        """Positional and keyword arguments for the function. Raises `InvalidParams`, naming the path of the bad one."""
        data = bytes(params) or codec.encode({})
        by_position = _is_array(codec, data)
        if self._open:
            return self._bind_open(codec, data, by_position=by_position)
        try:
            found = self._decoder(codec, by_position=by_position).decode(data)
        except msgspec.ValidationError as error:
            raise InvalidParams(f"the arguments do not fit: {error}") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidParams(f"the arguments cannot be decoded: {error}") from None
        values = msgspec.structs.astuple(found)
        if by_position:
            return self._placed(values), {}
        if self._positional_only and self._missing_leading():
            raise InvalidParams(f"{self._missing_leading()!r} can only be given by position")
        return (), self._named(values)

    def insert_context(self, args: tuple[Any, ...], context: Any) -> tuple[Any, ...]:
        """Put the context among positional arguments, where the signature has it."""
        at = self._context_at
        return (*args[:at], context, *args[at:]) if at <= len(args) else args

    def _placed(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._complete:
            return values
        return tuple(value for value in values if value is not UNSET)

    def _named(self, values: tuple[Any, ...]) -> dict[str, Any]:
        named = dict(zip(self._names, values, strict=True))
        if self._complete:
            return named
        return {name: value for name, value in named.items() if value is not UNSET}

    def _missing_leading(self) -> str | None:
        for parameter in self._leading:
            if parameter.kind is _KINDS.POSITIONAL_ONLY and parameter.default is _KINDS.empty:
                return parameter.name
        return None

    def _bind_open(self, codec: Codec, data: bytes, *, by_position: bool) -> Arguments:
        """A signature with *args or **kwargs: what it does not name arrives as the codec decodes it."""
        try:
            found = codec.decoder(list[Any] if by_position else dict[str, Any]).decode(data)
            given, named = (tuple(found), {}) if by_position else ((), found)
            context = {self.context_name: None} if self.context_name else {}
            bound = self._signature.bind(*given, **named, **context)
            for name, type_ in self._types.items():
                if name in bound.arguments and type_ is not Any:
                    bound.arguments[name] = msgspec.convert(bound.arguments[name], type_)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, TypeError) as error:
            raise InvalidParams(f"the arguments do not fit: {error}") from None
        kwargs = bound.kwargs
        if self.context_name:
            kwargs.pop(self.context_name, None)
        return bound.args, kwargs

    def _decoder(self, codec: Codec, *, by_position: bool) -> Decoder:
        which = (codec.content_type, by_position)
        found = self._decoders.get(which)
        if found is None:
            found = self._decoders[which] = codec.decoder(self._by_position if by_position else self._by_name)
        return found


def _is_array(codec: Codec, data: bytes) -> bool:
    first = data[:1] if data[:1] not in b" \t\r\n" else data.lstrip()[:1]
    if codec.content_type == "application/json":
        return first == b"["
    return 0x90 <= first[0] <= 0x9F or first in (b"\xdc", b"\xdd")  # noqa: PLR2004 - MessagePack's array tags


def _inspect(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    try:
        signature = inspect.signature(function)
        target = function if inspect.isroutine(function) else type(function).__call__
        hints = typing.get_type_hints(target, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(f"the signature of {function!r} cannot be read: {error}") from error
    hints.pop("return", None)
    return signature, hints


class Methods:
    """The methods of a service, by name. Only what was registered can be called."""

    def __init__(self, service: str) -> None:
        self.service = check_name(service, "service")
        if "." in service:
            raise ConfigurationError(f"service name {service!r}: a dot would end it")
        self._methods: dict[str, Method] = {}

    def add(self, method: Method) -> None:
        """Register; `ConfigurationError` if the name is taken."""
        check_name(method.name)
        if method.name in self._methods:
            raise ConfigurationError(f"method {method.name!r} is registered already")
        self._methods[method.name] = method
        self._methods[f"{self.service}.{method.name}"] = method

    def find(self, name: str) -> Method:
        """The method a message names, with or without the service. Raises `MethodNotFound`."""
        method = self._methods.get(name)
        if method is None:
            raise MethodNotFound(f"{self.service!r} has no method {name[:MAX_NAME]!r}")
        return method

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted({method.name for method in self._methods.values()})
