"""The service of the demo: a shop that sells three things. ``resilient-rpc demo`` runs it, here or in processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from typing import TypedDict

from resilient_rpc.errors import ApplicationError, Interrupted
from resilient_rpc.server import Server

SERVICE = "resilient_rpc_demo"
URL_VARIABLE, SERVICE_VARIABLE = "RESILIENT_RPC_DEMO_URL", "RESILIENT_RPC_DEMO_SERVICE"
PRICES = {"tea": 4.5, "cup": 12.0, "pot": 39.0}


class Order(TypedDict):
    """What `create` gives back."""

    order: int
    total: float


class CardDeclined(ApplicationError):
    """The bank said no."""

    type = "card_declined"


def price(sku: str, qty: int = 1) -> float:
    """What some of them cost; changes nothing."""
    return PRICES[sku] * qty


def create(order: int, sku: str, qty: int) -> Order:
    """Takes an order; twice would be two orders. Blocks, as a database driver does."""
    time.sleep(0.02)
    return {"order": order, "total": price(sku, qty)}


async def ship(order: int) -> str:
    """Sends an order off, which may be said twice. Waits without a thread."""
    await asyncio.sleep(0.01)
    return f"parcel-{order}"


def pay(order: int, amount: float) -> float:
    """Charges a card, which the bank declines for every third order."""
    if order % 3 == 0:
        raise CardDeclined(f"order {order}: the card was declined")
    return amount


class Warehouse:
    """Knows what is in stock; how well it works can be chosen from outside."""

    def __init__(self) -> None:
        self._failing = self._stuck = self._seconds = 0.0

    async def stock(self, number: int) -> int:
        """How many there are of the article of this number; changes nothing."""
        if random.random() < self._failing:
            raise Interrupted("the warehouse lost its database")
        if random.random() < self._stuck:
            await asyncio.sleep(self._seconds)
        return number

    async def behave(self, failing: float, stuck: float, seconds: float) -> None:
        """From now on fail one share of the calls, and take so long for another."""
        self._failing, self._stuck, self._seconds = failing, stuck, seconds


def build(url: str, service: str = SERVICE, name: str | None = None) -> Server:
    """A server of the shop."""
    server = Server(url, service=service, name=name, concurrency=32, grace=5.0)
    server.method(safety="read_only")(price)
    server.method(safety="unsafe")(create)
    server.method(safety="idempotent")(ship)
    server.method(safety="unsafe")(pay)
    warehouse = Warehouse()
    server.method(safety="read_only")(warehouse.stock)
    server.method(safety="idempotent")(warehouse.behave)
    return server


def server() -> Server:
    """For ``resilient-rpc serve resilient_rpc.cli.demo_service:server``, as `demo` starts it.

    The URL comes by the environment, where other users of the machine cannot read it. stdin is a pipe that `demo` never
    writes to: when it ends, `demo` has ended, however it did, and so does this.
    """
    end_with_parent()
    return build(os.environ[URL_VARIABLE], os.environ.get(SERVICE_VARIABLE, SERVICE))


def end_with_parent() -> None:
    """Have this process end when stdin does."""
    threading.Thread(target=_await_the_end, daemon=True).start()


def _await_the_end() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
