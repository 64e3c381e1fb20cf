"""Labels with a bounded number of values: each value is a time series, and a stranger must not choose how many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

OTHER = "other"
C = TypeVar("C")


class Bounded:
    """The first `most` values as they are; every later one is ``other``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """The label for a value."""
        known = self._known.get(value)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        return self._known.setdefault(value, value[:100])


class Children(Generic[C]):
    """The children of a metric by their labels: finding one in `prometheus_client` takes a lock and a check."""

    def __init__(self, make: Callable[..., C]) -> None:
        self._make = make
        self._made: dict[tuple[str, ...], C] = {}

    def __call__(self, *labels: str) -> C:
        """The child with these labels."""
        found = self._made.get(labels)
        return found if found is not None else self._made.setdefault(labels, self._make(*labels))
