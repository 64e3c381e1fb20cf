"""Which calls the demo makes, and what each must answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resilient_rpc.call import Safety
from resilient_rpc.cli import demo_service as shop

SKUS = tuple(shop.PRICES)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Calls of one method: their arguments and their right results, made from the number of the call."""

    method: str
    safety: Safety
    params: Callable[[int], Mapping[str, Any]]
    result: Callable[[int], Any]


def _sku(number: int) -> str:
    return SKUS[number % len(SKUS)]


PRICE = Kind(
    method="price",
    safety=Safety.READ_ONLY,
    params=lambda number: {"sku": _sku(number), "qty": number},
    result=lambda number: shop.price(_sku(number), number),
)
CREATE = Kind(
    method="create",
    safety=Safety.UNSAFE,
    params=lambda number: {"order": number, "sku": _sku(number), "qty": 2},
    result=lambda number: {"order": number, "total": shop.price(_sku(number), 2)},
)
SHIP = Kind(
    method="ship",
    safety=Safety.IDEMPOTENT,
    params=lambda number: {"order": number},
    result=lambda number: f"parcel-{number}",
)
PAY = Kind(
    method="pay",
    safety=Safety.UNSAFE,
    params=lambda number: {"order": number, "amount": float(number)},
    result=float,
)
KINDS = (PRICE, CREATE, SHIP, PAY)
MIX = (PRICE, CREATE, PRICE, SHIP, PRICE, PAY, PRICE, CREATE, PRICE, SHIP)


def kind_of(number: int) -> Kind:
    """What the call of this number is."""
    return MIX[number % len(MIX)]


class Plan:
    """Hands out the numbers of calls, from 1, to many threads, until there are enough or the time is up."""

    def __init__(self, calls: int | None, seconds: float | None) -> None:
        self.calls = calls
        self.halfway = threading.Event()
        self._numbers = itertools.count(1)  # next() on it is atomic
        self._begin = time.monotonic()
        self._seconds = seconds
        self._stopped = False

    def take(self) -> int | None:
        """The next call's number; None: there is nothing more to do."""
        if self._stopped:
            return None
        number = next(self._numbers)
        if self.calls is not None:
            if number > self.calls:
                return None
            if number * 2 >= self.calls:
                self.halfway.set()
        if self._seconds is not None:
            elapsed = time.monotonic() - self._begin
            if elapsed >= self._seconds:
                return None
            if elapsed * 2 >= self._seconds:
                self.halfway.set()
        return number

    def stop(self) -> None:
        """Let what is under way be the last."""
        self._stopped = True
