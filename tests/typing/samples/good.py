"""A typed contract, as a user writes and uses one: both type checkers accept all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, assert_type

from resilient_rpc import AsyncClient, Client, Context, Contract, Safety, Server, remote
from resilient_rpc.events import CallServed

T_co = TypeVar("T_co", covariant=True)


@dataclass
class Order:
    sku: str
    qty: int


class Orders(Contract, Protocol):
    @remote(safety="read_only", timeout=2.0)
    def price(self, sku: str, qty: int = 1) -> float: ...

    @remote(safety="dedup", name="create")
    def place(self, order: Order) -> Order: ...

    def search(self, text: str, *, limit: int = 10) -> list[Order]: ...


class AsyncOrders(Contract, Protocol):
    @remote(safety="read_only")
    async def price(self, sku: str, qty: int = 1) -> float: ...

    def later(self, sku: str) -> Awaitable[Order]: ...


class Plain(Protocol):
    def ping(self) -> str: ...


class Repository(Protocol[T_co]):
    def get(self, key: str) -> T_co: ...


def blocking(client: Client) -> None:
    orders = client.service("orders", Orders)
    assert_type(orders, Orders)
    assert_type(orders.price("A1"), float)
    assert_type(orders.price(sku="A1", qty=2), float)
    assert_type(orders.place(Order("A1", 1)), Order)
    assert_type(orders.search("a", limit=3), list[Order])
    assert_type(orders.with_(timeout=1.0, idempotency_key="k"), Orders)
    assert_type(orders.with_(timeout=1.0).price("A1"), float)
    assert_type(client.service("plain", Plain).ping(), str)
    assert_type(client.service("items", Repository[Order]).get("k"), Order)
    client.service("orders").anything(1, "two")


async def with_asyncio(client: AsyncClient) -> None:
    orders = client.service("orders", AsyncOrders)
    assert_type(await orders.price("A1"), float)
    assert_type(await orders.with_(timeout=1.0).price("A1"), float)
    assert_type(await orders.later("A1"), Order)


def events(server: Server, client: Client) -> None:
    @server.on("orders.created", safety="unsafe", concurrency=1)
    def note(ctx: Context, sku: str) -> int:
        return len(sku)

    def served(event: CallServed) -> None:
        print(event.seconds)

    assert_type(note(Context("m", 1.0, Safety.UNSAFE), "A1"), int)
    assert_type(server.on(CallServed, served), Callable[[], None])
    assert_type(client.publish("orders.created", {"sku": "A1"}, ttl=1.0, idempotency_key="k"), bool)
