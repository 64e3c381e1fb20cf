"""Other policies for one service or one method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resilient_rpc.chain.overrides import Override
from resilient_rpc.errors import ConfigurationError

if TYPE_CHECKING:
    from resilient_rpc.policy import Policy


def for_(pattern: str, *policies: Policy, without: Iterable[str] = ()) -> Any:
    """Changes the chain for one service (``orders``) or one method (``orders.price``); stands in the list itself.

    A policy whose role the chain has takes the place of the policies of that role; one with another role, or with
    none, stands where the `for_` stands. Policies of the roles in `without` are left out. What is said of a method goes
    before what is said of its service, and what stands later in the list before what stands earlier. Each chain that
    comes of it is checked when the client is built.

    Raises ConfigurationError for a name that no method can have, an unknown role in `without`, and a wrong order.
    """
    if not isinstance(without, Iterable):
        raise ConfigurationError(f"without={without!r:.200}: give a tuple of roles")
    if isinstance(without, str):
        raise ConfigurationError(f"without={without!r}: give a tuple of roles: without=({without!r},)")
    return Override(pattern, policies, tuple(without))
