"""What events, errors and logs call a policy."""

from __future__ import annotations

from typing import Protocol


class Named(Protocol):
    """A policy that its user may have named."""

    @property
    def name(self) -> str:
        """Empty: it has no name of its own."""


def name_of(policy: Named) -> str:
    """Its `name` where it has one, else its class."""
    return policy.name or type(policy).__name__
