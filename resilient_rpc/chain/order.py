"""Where policies stand: the usual order, and what each of them says of its neighbours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilient_rpc.errors import ConfigurationError

if TYPE_CHECKING:
    from resilient_rpc.policy import Policy

ORDER = (
    "fallback",
    "cache",
    "deadline",
    "bulkhead",
    "retry",
    "hedge",
    "breaker",
    "rate_limit",
    "adaptive_limit",
    "attempt_timeout",
    "chaos",
)
"""The roles of the built-in policies in their usual order, the outermost first; a chain has retry or hedge."""


def check_order(policies: Sequence[Policy]) -> None:
    """ConfigurationError, saying why, when the policies cannot work in this order (the first is the outermost)."""
    for policy in policies:
        check_policy(policy)
    for place, outer in enumerate(policies):
        for inner in policies[place + 1 :]:
            _check_pair(outer, inner)
            if outer is inner and role_of(outer) is not None:
                same = name_of(outer)
                raise ConfigurationError(f"the same {same} stands in the chain twice; take it once, or make another")


def check_policy(policy: object) -> None:
    """ConfigurationError when this cannot be a policy."""
    if isinstance(policy, type):
        raise ConfigurationError(f"{policy.__name__} is a class; pass an instance: {policy.__name__}(...)")
    if not callable(policy):
        needs = "it needs `async def __call__(self, call, proceed, /)`"
        raise ConfigurationError(f"not a policy: {policy!r:.200}; {needs}")
    if not _takes_two(policy):
        raise ConfigurationError(f"{name_of(policy)} is no policy: it must take two arguments, `(call, proceed)`")


def _takes_two(policy: Callable[..., Any]) -> bool:
    try:
        inspect.signature(policy).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def role_of(policy: object) -> str | None:
    """What a policy is in a chain; None: it may stand anywhere."""
    return getattr(policy, "role", None)


def name_of(policy: object) -> str:
    """What a policy is called in messages: a function's name, or the class."""
    return getattr(policy, "__qualname__", "") or type(policy).__name__


def _check_pair(outer: Policy, inner: Policy) -> None:
    for one, other in ((outer, inner), (inner, outer)):
        excluded: Mapping[str, str] = getattr(one, "excludes", {})
        role = role_of(other)
        if role is not None and role in excluded:
            raise ConfigurationError(f"{name_of(one)} and {name_of(other)} exclude each other: {excluded[role]}")
    for policy, rule, other in ((inner, "above", outer), (outer, "below", inner)):
        role = role_of(other)
        roles: Collection[str] = getattr(policy, rule, ())
        if role is None or role not in roles:
            continue
        reason = f": {roles[role]}" if isinstance(roles, Mapping) else ""
        if role_of(policy) == role:
            raise ConfigurationError(f"{name_of(outer)} and {name_of(inner)} exclude each other in one chain{reason}")
        before, after = (policy, other) if rule == "above" else (other, policy)
        raise ConfigurationError(f"{name_of(before)} must stand before (outside of) {name_of(after)}{reason}")
