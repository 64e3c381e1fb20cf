"""What was found out by name: once for each, and of so many names at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
MOST = 10_000
"""Names that are remembered: messages bring them, so anybody can think of more."""


class Remembered(dict[str, T]):
    """A dict alone, so that to know a name already costs one look-up."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, name: str) -> T:
        if len(self) >= MOST:
            self.clear()
        found = self[name] = self._find(name)
        return found
