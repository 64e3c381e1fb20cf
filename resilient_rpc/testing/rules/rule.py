"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resilient_rpc.testing.lab import Lab


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: `check` raises `Broken` where it does not hold."""

    name: str
    says: str
    check: Callable[[Lab], None]
    both: bool = True
    """Checked for blocking and for asyncio callers; else once, and the check brings the callers itself."""


def rule(says: str, *, both: bool = True) -> Callable[[Callable[[Lab], None]], Rule]:
    """Make a rule of a check; its name is that of the function."""
    return lambda check: Rule(name=check.__name__, says=says, check=check, both=both)
