"""A chain of policies around a handler: composed once, its order checked, and described."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilient_rpc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler, Policy


def compose(policies: Sequence[Policy], terminal: Handler) -> Handler:
    """One handler that passes a call through `policies`, the first outermost, to `terminal`. Checks nothing."""
    handler = terminal
    for policy in reversed(policies):
        handler = _bind(policy, handler)
    return handler


def _bind(policy: Policy, proceed: Handler) -> Handler:
    # Bound here: a call through the instance would look the method up each time.
    step = policy.__call__ if "__call__" in vars(type(policy)) else policy

    def handler(call: Call) -> Coroutine[Any, Any, Reply]:
        return step(call, proceed)

    return handler


class Chain:
    """Policies in order, the first outermost, around `terminal`.

    ConfigurationError when one is not a policy, or stands where it cannot do its work: a policy may name roles that it
    must stand `above` (outside of) or `below` (inside of), as a collection, or as a mapping from role to the reason;
    and, in `excludes`, roles that it cannot stand together with, each with the reason.
    """

    def __init__(self, policies: Sequence[Policy], terminal: Handler) -> None:
        self.policies = tuple(policies)
        check_order(self.policies)
        self.handler: Handler = compose(self.policies, terminal)

    def describe(self) -> list[str]:
        """Each policy with its settings, the outermost first."""
        return [_describe(policy) for policy in self.policies]

    def __str__(self) -> str:
        return " → ".join(self.describe()) or "no policies"


def check_order(policies: Sequence[Policy]) -> None:
    """ConfigurationError, saying why, when the policies cannot work in this order (the first is the outermost)."""
    for policy in policies:
        if isinstance(policy, type):
            raise ConfigurationError(f"{policy.__name__} is a class; pass an instance: {policy.__name__}(...)")
        if not callable(policy):
            raise ConfigurationError(f"not a policy: {policy!r}; it needs `async def __call__(self, call, proceed, /)`")
    for place, outer in enumerate(policies):
        for inner in policies[place + 1 :]:
            _check_pair(outer, inner)


def _check_pair(outer: Policy, inner: Policy) -> None:
    for one, other in ((outer, inner), (inner, outer)):
        excluded: Mapping[str, str] = getattr(one, "excludes", {})
        role = getattr(other, "role", None)
        if role is not None and role in excluded:
            raise ConfigurationError(f"{_name(one)} and {_name(other)} exclude each other: {excluded[role]}")
    for policy, rule, other in ((inner, "above", outer), (outer, "below", inner)):
        role = getattr(other, "role", None)
        roles: Collection[str] = getattr(policy, rule, ())
        if role is None or role not in roles:
            continue
        reason = f": {roles[role]}" if isinstance(roles, Mapping) else ""
        if getattr(policy, "role", None) == role:
            raise ConfigurationError(f"{_name(outer)} and {_name(inner)} exclude each other in one chain{reason}")
        before, after = (policy, other) if rule == "above" else (other, policy)
        raise ConfigurationError(f"{_name(before)} must stand before (outside of) {_name(after)}{reason}")


def _name(policy: Policy) -> str:
    return getattr(policy, "__qualname__", "") or type(policy).__name__


def _describe(policy: Policy) -> str:
    plain = type(policy).__repr__ in (object.__repr__, type(_name).__repr__)  # says an address, not a setting
    return _name(policy) if plain else repr(policy)
