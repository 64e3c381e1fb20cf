"""Mistakes: each line that says so must be found by both type checkers, and no other."""

from __future__ import annotations

from typing import Protocol

from resilient_rpc import Client, Contract, Server, remote
from resilient_rpc.events import CallServed


class Orders(Contract, Protocol):
    @remote(safety="read_only")
    def price(self, sku: str, qty: int = 1) -> float: ...


class Plain(Protocol):
    def ping(self) -> str: ...


def mistakes(client: Client) -> None:
    orders = client.service("orders", Orders)
    orders.price(1)  # WRONG
    orders.price()  # WRONG
    orders.price("A1", amount=2)  # WRONG
    orders.cost("A1")  # WRONG
    text: str = orders.price("A1")  # WRONG
    orders.with_(timeout="soon")  # WRONG
    orders.with_(patience=1.0)  # WRONG
    orders.with_(timeout=1.0).price(1)  # WRONG
    client.service("plain", Plain).with_(timeout=1.0)  # WRONG
    client.service("plain", "Plain")  # WRONG
    print(text)


def events(server: Server, client: Client) -> None:
    server.on("orders.created", print)  # WRONG
    server.on(CallServed)  # WRONG
    server.on(CallServed, print, safety="unsafe")  # WRONG
    client.publish("orders.created", safety="unsafe")  # WRONG
    sent: str = client.publish("orders.created")  # WRONG
    print(sent)
