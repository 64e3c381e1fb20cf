"""`how-a-call-travels.md`: its messages are those of the code."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from resilient_rpc import Client, Server
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.properties import decode_properties
from tests.docs.blocks import DOCS, blocks_of

WIRE = DOCS / "how-a-call-travels.md"


CHANGING = {"at": 0, "t": 0, "ttl": 0}


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {name: CHANGING.get(name, _masked(inner)) for name, inner in value.items() if name != "id"}
    return value


def _messages(monkeypatch: pytest.MonkeyPatch, service: str) -> list[tuple[Any, dict[str, Any]]]:
    """What the calls of the page put on the wire."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    publish = MemoryPublisher.publish

    def tapped(self: MemoryPublisher, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        seen.append((msgspec.json.decode(body), decode_properties(properties)))
        return publish(self, target, body, properties, mandatory=mandatory)

    monkeypatch.setattr(MemoryPublisher, "publish", tapped)
    server = Server(f"memory://{service}", service="orders", name="orders-1")

    @server.method
    def price(sku: str, qty: int = 1) -> float:
        return 9.5 * qty

    server.start()
    try:
        with Client(f"memory://{service}") as client:
            client.call("orders.price", {"sku": "A1", "qty": 2})
            client.call("orders.price", {"sku": "A1", "qty": 2}, timeout=5, safety="read_only", tags={"tenant": "acme"})
            client.map("orders.price", [["A1", 1], ["A1", 2], ["A1", 3]])
            client.map("orders.price", [{"sku": "A1", "qty": "two"}], return_errors=True)
    finally:
        server.stop()
    return seen


def test_the_messages_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    examples = {block.title: _masked(msgspec.json.decode(block.body)) for block in blocks_of(WIRE, "json")}
    assert set(examples) == {"request", "reply", "request with meta", "batch", "error"}
    sent = [_masked(body) for body, _ in _messages(monkeypatch, service)]
    for title, example in examples.items():
        assert example in sent, f"{title}: {sent}"
