"""What became of the demo's calls, as the side that made them saw it."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resilient_rpc.cli.demo_calls import Kind
from resilient_rpc.errors import Certainty, RpcError

SLACK = 0.5
"""Seconds after its deadline within which a call must have ended: what a busy machine may add."""


class Failure(NamedTuple):
    """A class of errors, and whether such calls were executed."""

    error: str
    certainty: str


@dataclass
class Tally:
    """Counts of one worker, who alone writes it; others may read."""

    begun: int = 0
    in_time: int = 0
    """Calls that ended by their deadline."""
    wrong: int = 0
    """Results that are not the call's."""
    results: Counter[str] = field(default_factory=Counter)
    """By method."""
    errors: Counter[str] = field(default_factory=Counter)
    failures: Counter[Failure] = field(default_factory=Counter)
    examples: dict[Failure, str] = field(default_factory=dict)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    first: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Calls that ended, in whatever way."""
        return len(self.seconds)

    @property
    def failed(self) -> int:
        """Calls that ended in an error."""
        return sum(self.errors.values())

    def result(self, kind: Kind, number: int, began: float, value: Any, limit: float) -> None:
        """A call ended in a result."""
        self._end(began, limit)
        self.results[kind.method] += 1
        if value != kind.result(number):
            self.wrong += 1

    def error(self, kind: Kind, began: float, error: Exception, limit: float) -> None:
        """A call ended in an error."""
        self._end(began, limit)
        certainty = error.certainty if isinstance(error, RpcError) else Certainty.UNKNOWN
        failure = Failure(type(error).__name__, str(certainty))
        self.errors[kind.method] += 1
        self.failures[failure] += 1
        self.examples.setdefault(failure, str(error))

    def _end(self, began: float, limit: float) -> None:
        self.last = time.monotonic()
        self.seconds.append(self.last - began)
        if self.last - began <= limit + SLACK:
            self.in_time += 1


def together(tallies: Iterable[Tally]) -> Tally:
    """The counts of many workers as one."""
    all_ = list(tallies)
    total = Tally(first=min(tally.first for tally in all_), last=max(tally.last for tally in all_))
    for tally in all_:
        total.begun += tally.begun
        total.in_time += tally.in_time
        total.wrong += tally.wrong
        total.results += tally.results
        total.errors += tally.errors
        total.failures += tally.failures
        total.examples = {**tally.examples, **total.examples}
        total.seconds.extend(tally.seconds)
    return total


def percentiles(seconds: Iterable[float], shares: Sequence[float]) -> list[float]:
    """For each of `shares` the duration within which so many calls ended; 0 if there were none."""
    in_order = sorted(seconds)
    if not in_order:
        return [0.0 for _ in shares]
    return [in_order[min(int(share * len(in_order)), len(in_order) - 1)] for share in shares]
