"""How urgent a call is, for policies that let calls wait in line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import check_count, shown

Priority = Callable[[Call], int]
"""The higher, the sooner (as in AMQP); calls of one number keep their order. 0 is the class of all others."""


def by_tag(tag: str, ranks: Mapping[str, int], *, default: int = 0) -> Priority:
    """The priority of a call from one of its tags.

    Args:
        tag: The name of the tag.
        ranks: The priority for each of its values.
        default: For other values, and for calls without the tag.

    Raises:
        ConfigurationError: `ranks` is empty, or a rank is not an int.
    """
    if not ranks:
        raise ConfigurationError(f"by_tag({tag!r}, {ranks!r}): without ranks, all calls are the same")
    for value, rank in ranks.items():
        check_count(f"by_tag({tag!r}): the rank of {value!r}", rank, least=-MOST)
    check_count(f"by_tag({tag!r}): default", default, least=-MOST)
    known = MappingProxyType(dict(ranks))
    return lambda call: known.get(call.tags.get(tag, ""), default)


MOST = 1_000_000
"""Between this and its negative, priorities may lie."""


def rank(priority: Priority | None, call: Call) -> int | None:
    """The priority of `call`; None when the user's function failed, or gave something else than an int."""
    if priority is None:
        return 0
    try:
        value: Any = priority(call)
    except Exception:
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def check_priority(name: str, priority: object) -> None:
    """ConfigurationError unless `priority` is None or a function."""
    if priority is not None and not callable(priority):
        raise ConfigurationError(
            f"{name} must be a function from a call to an int, such as by_tag('tier', {{'gold': 1}}), "
            f"not {shown(priority)}"
        )
