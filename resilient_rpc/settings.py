"""How clients and servers check what they are configured with: the offending value stands in the message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resilient_rpc.call import MAX_PRIORITY, Safety
from resilient_rpc.errors import ConfigurationError

MAX_TIMEOUT = 86_400.0 * 30
MAX_CONCURRENCY = 65_535
"""AMQP counts what was delivered ahead in 16 bits."""
MAX_PREFIX = 100
"""Bytes before a service's name in the name of its queue, which has room for 255."""


def check_timeout(value: Any, name: str) -> float:
    """Return `value` if it is a usable number of seconds; `ConfigurationError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIMEOUT:
        raise ConfigurationError(f"{name}={value!r}: give a positive number of seconds, at most {MAX_TIMEOUT:.0f}")
    return value


def check_flag(value: Any, name: str) -> bool:
    """Return `value` if it is True or False; `ConfigurationError` otherwise."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r:.200}: give True or False")
    return value


def check_concurrency(value: Any) -> int:
    """Return `value` if it is a usable number of calls; `ConfigurationError` otherwise."""
    if type(value) is not int or not 1 <= value <= MAX_CONCURRENCY:
        raise ConfigurationError(f"concurrency={value!r}: give a whole number from 1 to {MAX_CONCURRENCY}")
    return value


def check_prefix(prefix: Any) -> str:
    """Return `prefix` if it can begin the names of queues; `ConfigurationError` otherwise."""
    if not isinstance(prefix, str) or not prefix.isascii() or len(prefix) > MAX_PREFIX:
        raise ConfigurationError(f"prefix={prefix!r:.200}: give an ASCII text of at most {MAX_PREFIX} characters")
    return prefix


def check_tags(tags: Any) -> None:
    """`ConfigurationError` unless it is a mapping from text to text."""
    if not isinstance(tags, Mapping) or not all(isinstance(part, str) for item in tags.items() for part in item):
        raise ConfigurationError(f"tags={tags!r:.200}: give a mapping from text to text")


def check_priority(value: Any) -> None:
    """`ConfigurationError` unless it is the priority of a call."""
    if type(value) is not int or not 0 <= value <= MAX_PRIORITY:
        raise ConfigurationError(f"priority={value!r:.100}: give a whole number from 0 to {MAX_PRIORITY}")


def check_safety(value: Any) -> Safety:
    """`Safety` of its name; `ConfigurationError` for any other."""
    try:
        return Safety(value)
    except ValueError:
        raise ConfigurationError(f"safety={value!r}: give one of {', '.join(Safety)}") from None


def check_params(params: Any) -> Any:
    """Return the arguments of a call as a dict, a list or a tuple; `ConfigurationError` for what is none of these."""
    kind = type(params)
    if kind is dict or kind is list or kind is tuple:
        return params
    if params is None:
        return ()
    if isinstance(params, Mapping):
        return dict(params)
    if isinstance(params, Sequence) and not isinstance(params, (str, bytes, bytearray)):
        return list(params)
    raise ConfigurationError(f"params of type {kind.__name__}: give a mapping (by name) or a sequence (by position)")
