"""How the settings of a cache are checked and made ready."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from resilient_rpc.errors import ApplicationError, ConfigurationError, RpcError
from resilient_rpc.policies.settings import check_seconds, shown

Negative = Mapping["type[Exception] | str", float] | Collection["type[Exception] | str"]
Tags = Callable[[Any], Collection[str]] | Mapping[str, Collection[str]]


def check_methods(methods: Any) -> frozenset[str] | None:
    """The full names, or None for all."""
    if methods is None:
        return None
    if isinstance(methods, str) or not isinstance(methods, Collection):
        raise ConfigurationError(f"Cache.methods must be a collection of full names, or None, not {shown(methods)}")
    for name in methods:
        if not isinstance(name, str) or "." not in name:
            raise ConfigurationError(f"Cache.methods: {shown(name)} is not a full name, such as 'orders.price'")
    return frozenset(methods)


def check_negative(negative: Any, ttl: float) -> dict[type[Exception] | str, float]:
    """Seconds by class, or by the name of the error on the wire."""
    check_seconds("Cache.negative_ttl", ttl)
    if isinstance(negative, str) or not isinstance(negative, Collection):
        raise ConfigurationError(
            f"Cache.negative must be a collection or mapping of error types, not {shown(negative)}"
        )
    seconds = dict(negative) if isinstance(negative, Mapping) else dict.fromkeys(negative, ttl)
    for kind, value in seconds.items():
        _check_kind(kind)
        check_seconds(f"Cache.negative[{kind!r}]", value)
    return seconds


def _check_kind(kind: Any) -> None:
    if isinstance(kind, str):
        return
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise ConfigurationError(f"Cache.negative: {shown(kind)} is neither a class of errors nor an error's `type`")
    if issubclass(kind, RpcError) and not issubclass(kind, ApplicationError):
        raise ConfigurationError(
            f"Cache.negative: {kind.__name__} is no answer of the application, and may be over with the next call; "
            "name subclasses of ApplicationError"
        )


def check_tags(tags: Any) -> None:
    """A function of the call, or a mapping from method to tags."""
    if tags is None or callable(tags):
        return
    if not isinstance(tags, Mapping):
        raise ConfigurationError(
            f"Cache.tags must be a function of the call, or a mapping by method, not {shown(tags)}"
        )
    for method, named in tags.items():
        check_tag_names(f"Cache.tags[{method!r}]", named)


def check_tag_names(name: str, tags: Any) -> tuple[str, ...]:
    """The tags as a tuple; ConfigurationError unless all are texts."""
    if isinstance(tags, str) or not isinstance(tags, Collection) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigurationError(f"{name} must be a collection of texts, not {shown(tags)}")
    return tuple(tags)


def seconds_of(negative: Mapping[type[Exception] | str, float], error: BaseException) -> float | None:
    """For how long an error is remembered; None: not at all. The most special class counts, then the name."""
    for kind in type(error).__mro__:
        if kind in negative:
            return negative[kind]
    name = getattr(error, "type", None)
    return negative.get(name) if isinstance(name, str) and isinstance(error, ApplicationError) else None
