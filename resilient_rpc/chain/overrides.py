"""Other policies for one service or one method: what a `for_` makes of the chain that it stands in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilient_rpc.chain.order import ORDER, check_order, check_policy, role_of
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.names import is_name
from resilient_rpc.spelling import meant

if TYPE_CHECKING:
    from resilient_rpc.policy import Policy


@dataclass(frozen=True, eq=False, repr=False)
class Override:
    """Stands in a chain's list and changes it for the calls that match; made by `resilient_rpc.policies.for_`."""

    pattern: str
    """A service, or the full name of a method."""
    policies: tuple[Policy, ...]
    without: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_pattern(self.pattern)
        if not all(isinstance(role, str) for role in self.without):
            raise ConfigurationError(f"{self}: `without` holds the names of roles")
        if not self.policies and not self.without:
            raise ConfigurationError(f"{self} changes nothing: give policies, or roles to leave out (without=)")
        for policy in self.policies:
            if isinstance(policy, Override):
                raise ConfigurationError(f"{self}: {policy} stands inside of it; put both into the list")
            check_policy(policy)
            if role_of(policy) in self.without:
                raise ConfigurationError(f"{self} both leaves out {role_of(policy)!r} and brings one")

    def __repr__(self) -> str:
        parts = [repr(self.pattern), *map(repr, self.policies)]
        if self.without:
            parts.append(f"without={self.without!r}")
        return f"for_({', '.join(parts)})"

    def matches(self, pattern: str) -> bool:
        """Whether it applies to the method or service `pattern`."""
        return self.pattern in {pattern, pattern.partition(".")[0]}


Item = Any
"""A policy, or an override that keeps its place among them."""


def plain(items: Iterable[Item]) -> tuple[Policy, ...]:
    """The policies alone."""
    return tuple(item for item in items if not isinstance(item, Override))


def resolve(items: Sequence[Item]) -> dict[str, tuple[Policy, ...]]:
    """The chain for each pattern that a `for_` names, its order checked."""
    overrides = [item for item in items if isinstance(item, Override)]
    if len(set(map(id, overrides))) < len(overrides):
        raise ConfigurationError("the same for_(...) stands in the list twice")
    chains: dict[str, tuple[Policy, ...]] = {}
    for pattern in dict.fromkeys(override.pattern for override in overrides):
        # The service's first, so that a method's own have the last word.
        matching = sorted((o for o in overrides if o.matches(pattern)), key=lambda o: o.pattern == pattern)
        changed: list[Item] = list(items)
        known = {role for item in items for role in _roles(item) if not _foreign(item, matching)}
        for override in matching:
            _check_without(override, known)
            changed = _apply(override, changed)
        chains[pattern] = plain(changed)
        try:
            check_order(chains[pattern])
        except ConfigurationError as error:
            raise ConfigurationError(f"the chain for {pattern!r}: {error}") from None
    return chains


def _apply(override: Override, items: list[Item]) -> list[Item]:
    kept = [item for item in items if isinstance(item, Override) or role_of(item) not in override.without]
    present = {role_of(policy) for policy in plain(kept)} - {None}
    mine: dict[str | None, list[Policy]] = {}
    for policy in override.policies:
        mine.setdefault(role_of(policy), []).append(policy)
    changed: list[Item] = []
    for item in kept:
        if item is override:
            changed += [item, *(policy for policy in override.policies if role_of(policy) not in present)]
        elif isinstance(item, Override) or role_of(item) not in mine or role_of(item) is None:
            changed.append(item)
        else:  # the first one of a role makes room for all of ours, and the others of that role go
            changed += mine[role_of(item)]
            mine[role_of(item)] = []
    return changed


def _roles(item: Item) -> set[str]:
    policies = item.policies if isinstance(item, Override) else (item,)
    return {role for role in map(role_of, policies) if role is not None}


def _foreign(item: Item, matching: list[Override]) -> bool:
    return isinstance(item, Override) and item not in matching


def _check_without(override: Override, known: set[str]) -> None:
    for role in override.without:
        if role not in known:
            has = ", ".join(sorted(known)) or "none"
            hint = "" if role in ORDER else meant(role, sorted(known | set(ORDER)))
            raise ConfigurationError(
                f"{override}: no policy of the chain has the role {role!r} (it has: {has}){hint and '; ' + hint}"
            )


def _check_pattern(pattern: Any) -> None:
    if is_name(pattern):
        return
    tidy = re.sub(r"[.\s]*\*$", "", str(pattern).strip())
    tidy = re.sub(r"[./:\s]+", ".", tidy).strip(".").replace("-", "_")
    hint = f"; did you mean {tidy!r}?" if isinstance(pattern, str) and is_name(tidy) else ""
    raise ConfigurationError(
        f"for_({pattern!r:.200}): give the name of a service ('orders') or the full name of a method "
        f"('orders.price'){hint}"
    )
