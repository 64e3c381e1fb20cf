"""A function's signature and types: arguments decoded straight into what it declares."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from resilient_rpc.errors import ConfigurationError, InvalidParams
from resilient_rpc.wire.codec import Codec, Decoder

_KINDS = inspect.Parameter
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Binder:
    """Decodes the arguments of one function from the bytes of `params`.

    Made from the signature once: one struct for arguments by name, one for arguments by position. A parameter with a
    default may be missing, and then it is the function that fills it in.
    """

    def __init__(self, function: Callable[..., Any], context_type: type[Any]) -> None:
        signature, hints = _inspect(function)
        self.returns = hints.pop("return", Any)
        """What the function says that it returns; nothing checks it."""
        self.context_name: str | None = None
        plain: list[inspect.Parameter] = []
        self.open = False
        """Whether it takes arguments that it does not name."""
        self._context_at: int | None = None
        for parameter in signature.parameters.values():
            annotation = hints.get(parameter.name, Any)
            if _mentions(annotation, context_type):
                self.context_name = parameter.name
                if parameter.kind is not _KINDS.KEYWORD_ONLY:
                    self._context_at = len(plain)
            elif parameter.kind in (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD):
                self.open = True
            else:
                plain.append(parameter)
        others = [p for p in signature.parameters.values() if p.name != self.context_name]
        self._signature = signature.replace(parameters=others)
        self._types = {p.name: hints.get(p.name, Any) for p in plain}
        named = [p for p in plain if p.kind is not _KINDS.POSITIONAL_ONLY]
        placed = [p for p in plain if p.kind is not _KINDS.KEYWORD_ONLY]
        self._names = tuple(p.name for p in named)
        self._leading = placed
        self._complete = all(p.default is _KINDS.empty for p in plain)
        self._in_order = self._complete and placed == named == plain
        self._by_name = self._struct("ByName", named, array_like=False)
        self._by_position = self._struct("ByPosition", placed, array_like=True)
        self._positional_only = len(named) < len(plain)
        self._decoders: dict[str, tuple[Decoder, Decoder]] = {}

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

    @property
    def takes_one(self) -> bool:
        """Whether the function can be called with one argument by position, besides the context."""
        try:
            self._signature.bind(None)
        except TypeError:
            return False
        return True

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """What a caller may give, in order, each with its type as its annotation."""
        found = self._signature.parameters.values()
        return [p.replace(annotation=self._types[p.name]) for p in found if p.name in self._types]

    def prepare(self, codec: Codec) -> None:
        """Make the decoders, so that an annotation that cannot be decoded is found when it is registered."""
        self._decoders[codec.content_type] = codec.decoder(self._by_name), codec.decoder(self._by_position)

    def bind(self, codec: Codec, params: bytes | msgspec.Raw) -> Arguments:
        """Positional and keyword arguments for the function. Raises `InvalidParams`, naming the path of the bad one."""
        if self.open:
            return self._bind_open(codec, bytes(params) or codec.encode({}))
        by_name, by_position = self._decoders[codec.content_type]
        try:
            values = msgspec.structs.astuple(by_name.decode(params if len(params) else codec.encode({})))
        except msgspec.ValidationError as error:
            if _is_array(codec, bytes(params)):
                return self._bind_array(by_position, params), {}
            raise InvalidParams(f"the arguments do not fit: {error}") from None
        except Exception as error:  # a user's type may raise anything while it is made
            raise InvalidParams(f"the arguments cannot be decoded: {error!r:.200}") from None
        if self._in_order:
            return values, {}
        if self._positional_only and (missing := self._missing_leading()):
            raise InvalidParams(f"{missing!r} can only be given by position")
        return (), self._named(values)

    def _bind_array(self, decoder: Decoder, params: bytes | msgspec.Raw) -> tuple[Any, ...]:
        try:
            return self._placed(msgspec.structs.astuple(decoder.decode(params)))
        except Exception as error:
            raise InvalidParams(f"the arguments do not fit: {error}") from None

    def give_context(self, arguments: Arguments, context: Any) -> Arguments:
        """Put the context where the signature has it."""
        args, kwargs = arguments
        at = self._context_at
        if at is not None and at <= len(args):
            return (*args[:at], context, *args[at:]), kwargs
        return args, {**kwargs, self.context_name or "": context}

    def named(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by the names of their parameters, as they were sent: without the context, and no defaults."""
        args, kwargs = arguments
        at = self._context_at
        if self.context_name in kwargs:
            kwargs = {name: value for name, value in kwargs.items() if name != self.context_name}
        elif at is not None:
            args = (*args[:at], *args[at + 1 :])
        if self._in_order and not kwargs:
            return dict(zip(self._names, args, strict=True))
        return dict(self._signature.bind(*args, **kwargs).arguments)

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

    def _missing(self, bound: inspect.BoundArguments) -> str | None:
        """Python 3.13 lets `**more` have an argument that can only be given by position, and misses it no more."""
        for parameter in self._leading:
            if parameter.default is _KINDS.empty and parameter.name not in bound.arguments:
                return parameter.name
        return None

    def _bind_open(self, codec: Codec, data: bytes) -> Arguments:
        """A signature with *args or **kwargs: what it does not name arrives as the codec decodes it."""
        by_position = _is_array(codec, data)
        try:
            found = codec.decoder(list[Any] if by_position else dict[str, Any]).decode(data)
            given, named = (tuple(found), {}) if by_position else ((), found)
            if self.context_name in named:
                raise TypeError(f"got an unexpected argument {self.context_name!r}")
            bound = self._signature.bind(*given, **named)
            if (missing := self._missing(bound)) is not None:
                raise TypeError(f"missing a required argument: {missing!r}")
        except Exception as error:
            raise InvalidParams(f"the arguments do not fit: {error}") from None
        for name, type_ in self._types.items():
            if name in bound.arguments and type_ is not Any:
                bound.arguments[name] = _converted(codec, name, bound.arguments[name], type_)
        return bound.args, bound.kwargs


def _converted(codec: Codec, name: str, value: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(value, type_, str_keys=codec.content_type == "application/json")
    except Exception as error:
        said, _, path = str(error).partition(" - at `$")
        raise InvalidParams(f"the arguments do not fit: {said} - at `$.{name}{path or '`'}") from None


def _is_array(codec: Codec, data: bytes) -> bool:
    first = data[:1] if data[:1] not in b" \t\r\n" else data.lstrip()[:1]
    if not first:
        return False
    if codec.content_type == "application/json":
        return first == b"["
    return 0x90 <= first[0] <= 0x9F or first in (b"\xdc", b"\xdd")  # noqa: PLR2004 - MessagePack's array tags


def _inspect(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(_annotated(function), include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(f"the signature of {function!r} cannot be read: {error}") from error
    if isinstance(function, type):  # what `__init__` returns is not what a call of the class returns
        hints.pop("return", None)
    return signature, hints


def _annotated(function: Callable[..., Any]) -> Any:
    """What has the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        return function.__init__  # type: ignore[misc]
    return function if inspect.isroutine(function) else type(function).__call__


def _mentions(annotation: Any, type_: type[Any]) -> bool:
    """Whether it is the type, or the type or nothing, with or without remarks (`Annotated`)."""
    if typing.get_origin(annotation) not in {typing.Annotated, typing.Union, types.UnionType}:
        return annotation is type_
    return any(_mentions(part, type_) for part in typing.get_args(annotation))
