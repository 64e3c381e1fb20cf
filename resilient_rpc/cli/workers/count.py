"""``--workers``: how many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from resilient_rpc.errors import ConfigurationError

MOST = 1_000
_FORM = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Count:
    """Between `least` and `most` workers."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= MOST:
            raise ConfigurationError(f"--workers {self}: give 1 to {MOST} of them, the smaller number first")

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    @property
    def varies(self) -> bool:
        """Whether it follows the backlog."""
        return self.least != self.most

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``4`` or ``2..8``. Raises `ConfigurationError` for anything else."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"--workers {text!r:.50}: give a number, or two as in 2..8")
        least = int(found[1])
        return cls(least=least, most=int(found[2]) if found[2] else least)
