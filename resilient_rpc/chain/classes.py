"""Policies that work only for some classes of calls, put on methods that are declared to be of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resilient_rpc.call import Safety
from resilient_rpc.chain.order import name_of
from resilient_rpc.chain.overrides import Override
from resilient_rpc.errors import ConfigurationError


def check_classes(policies: Sequence[Any], declared: Mapping[str, Safety] | Safety) -> None:
    """ConfigurationError when a policy is put on a method that is `declared` to be of a class that it cannot serve.

    `declared`: the classes by method, or one for all. A policy names the classes that it serves in `requires`, and may
    name methods in its field `methods`; a `for_` puts its policies on its own.
    """
    for policy, method in _placed(policies):
        allowed: frozenset[Safety] | None = getattr(policy, "requires", None)
        safety = declared.get(method) if isinstance(declared, Mapping) else declared
        if allowed is not None and safety is not None and safety not in allowed:
            classes = " or ".join(known for known in Safety if known in allowed)
            raise ConfigurationError(
                f"{name_of(policy)} is put on {method!r}, which safety= declares {str(safety)!r}; it works only for "
                f"{classes}: take the method off it, or correct its class"
            )


def _placed(items: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    for item in items:
        if isinstance(item, Override):
            yield from _placed(item.policies)
            yield from ((policy, item.pattern) for policy in item.policies)
        else:
            methods = getattr(item, "methods", None) or ()
            yield from ((item, method) for method in ([methods] if isinstance(methods, str) else methods))
