"""A new chain takes over what the policies of the old one know."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from resilient_rpc.chain.order import name_of
from resilient_rpc.chain.overrides import Override
from resilient_rpc.errors import ConfigurationError

log = logging.getLogger(__name__)
Key = tuple[str, type[Any], str, int]


def hand_over(old: Sequence[Any], new: Sequence[Any]) -> None:
    """Have each policy of `new` that can `adopt` the state of its predecessor in `old`: same class, same `name`.

    Where they stand does not matter; those in a `for_` follow those in a `for_` of the same pattern. Several of one
    name are paired in their order. When one fails, those before it give back what they took: ConfigurationError.
    """
    before, done = dict(_keyed(old)), list[tuple[Any, Any]]()
    for key, policy in _keyed(new):
        predecessor = before.get(key)
        if predecessor is None or predecessor is policy or not hasattr(policy, "adopt"):
            continue
        try:
            policy.adopt(predecessor)
        except Exception as error:
            for later, former in reversed([*done, (policy, predecessor)]):
                _give_back(later, former)
            raise ConfigurationError(f"{name_of(policy)} could not adopt its predecessor's state: {error!r}") from error
        done.append((policy, predecessor))


def _give_back(later: Any, former: Any) -> None:
    try:
        former.adopt(later)
    except Exception:
        log.exception("%r could not take its state back after a reload that failed", former)


def _keyed(items: Sequence[Any]) -> Iterator[tuple[Key, Any]]:
    seen: dict[tuple[str, type[Any], str], int] = {}
    for item in items:
        pattern, policies = (item.pattern, item.policies) if isinstance(item, Override) else ("", (item,))
        for policy in policies:
            key = pattern, type(policy), str(getattr(policy, "name", ""))
            seen[key] = seen.get(key, 0) + 1
            yield (*key, seen[key]), policy
