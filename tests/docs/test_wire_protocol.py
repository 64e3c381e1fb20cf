"""The tables of the page on the wire protocol: compared with the code, and with what is really sent."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from resilient_rpc import Client, Compression, Server
from resilient_rpc.replies import Named
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.correlation import STRATEGIES
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.properties import decode_headers, decode_properties
from resilient_rpc.transport.topology import DEAD_EXCHANGE, Exchange, Queue, dead_queue, ear, expired_queue, topology
from resilient_rpc.wire import control
from resilient_rpc.wire.compression import ACCEPTS
from resilient_rpc.wire.envelope import VERSION, ErrorData, Meta, ReplyMeta
from resilient_rpc_signing import HEADER
from tests.docs.blocks import DOCS, rows_of

PAGE = DOCS / "wire-protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = {name: row for row in rows_of(PAGE, "Properties") for name in row[0].split(", ")}
HEADERS = {name for name in ROWS if name.startswith("rpc-")}
PROPERTIES = {name: row for name, row in ROWS.items() if name not in HEADERS}


def _members(heading: str) -> list[str]:
    return [row[0] for row in rows_of(PAGE, heading)]


def test_the_members_of_meta_and_of_errors_are_those_of_the_code() -> None:
    assert _members("Requests") == list(Meta.__struct_fields__)
    assert _members("Replies") == [*ReplyMeta.__struct_fields__, *ErrorData.__struct_fields__]


def test_the_version_is_that_of_the_code() -> None:
    assert f"Version {VERSION}." in TEXT


def test_the_names_are_those_that_a_server_declares() -> None:
    named = {name: row for row in rows_of(PAGE, "Names") for name in row[0].split(", ")}
    pattern = "<service>"
    spec = QueueSpec(name=f"rpc.{pattern}", service=pattern)
    steps = [*topology(spec), *ear(f"rpc.{pattern}.all")]
    for step in steps:
        if isinstance(step, Exchange | Queue):
            name = re.sub(r"\.all\.[0-9a-f]{32}$", ".all.<random>", step.name)
            kind = named[name][1]
            if isinstance(step, Exchange):
                assert kind == f"{step.type} exchange"
            else:
                assert kind.startswith("exclusive" if step.exclusive else "durable")
    assert {DEAD_EXCHANGE, dead_queue(spec.name), expired_queue(spec.name)} <= set(named)
    assert control.control_exchange(f"rpc.{pattern}") in named
    assert control.new_control_queue().startswith("rpc.control.")
    queues = Named(app="<app>".strip("<>")).queues()
    assert queues is not None
    assert queues.name.startswith("rpc.reply.app.")


Sent = tuple[str, dict[str, Any], bytes]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """All messages that cross the memory bus."""
    seen: list[Sent] = []
    publish = MemoryPublisher.publish

    def tapped(self: MemoryPublisher, target: str, body: bytes, properties: bytes, **more: Any) -> int:
        seen.append((target, decode_properties(properties), body))
        return publish(self, target, body, properties, **more)

    monkeypatch.setattr(MemoryPublisher, "publish", tapped)
    return seen


def test_the_properties_and_headers_are_those_that_are_sent(sent: list[Sent], service: str) -> None:
    assert {control.LIVE, ACCEPTS, HEADER} <= HEADERS
    filters = [Compression(min_size=10)]
    server = Server(f"memory://{service}", service="orders", filters=filters)
    server.method(lambda text: text, name="echo")  # type: ignore[arg-type, call-overload]
    server.start()
    with Client(f"memory://{service}", filters=filters, safety="read_only", app_id="shop") as client:
        client.call("orders.echo", ["x" * 100])
        client.map("orders.echo", [["x" * 100]] * 50)
        client.cast("orders.echo", ["x"], ttl=5)
    server.stop()
    kinds = set()
    for _, properties, _ in sent:
        column = 2 if properties["type"] == "rpc.reply" else 1
        kinds.add(properties["type"])
        found = decode_headers(properties["headers"])
        assert set(found) <= HEADERS
        assert found["rpc-version"] == VERSION
        for name in set(properties) - {"headers"}:
            assert PROPERTIES[name][column] != "none", (properties["type"], name)
        assert re.fullmatch(r"[\w-]{22}\.\d+", properties["correlation_id"])
        assert properties["message_id"] == properties["correlation_id"]
        if properties["type"] == "rpc.cast":
            assert (properties["delivery_mode"], properties["expiration"]) == (2, "5000")
            assert "reply_to" not in properties
    assert kinds == {"rpc.call", "rpc.batch", "rpc.cast", "rpc.reply"}
    assert kinds <= set(re.findall(r"`(rpc\.\w+)`", TEXT))
    assert "sequence" in STRATEGIES  # the pattern above is that of the default


def test_beats_are_as_the_page_says() -> None:
    rows = {row[0]: row[1:] for row in rows_of(PAGE, "Beats and cancels")}
    assert rows["type"] == [control.BEAT, control.CANCEL]
    assert f"at most {control.MAX_IDS:,}" in rows["body"][0]
    assert f"from {control.LEAST * 1000:,.0f} to {control.MOST * 1000:,.0f}" in TEXT


def test_the_limits_of_a_key_are_those_of_the_code() -> None:
    decoder = msgspec.json.Decoder(Meta)
    (key,) = [row for row in rows_of(PAGE, "Requests") if row[0] == "key"]
    least, most = map(int, re.findall(r"\d+", key[1]))
    for length in (least, most):
        assert decoder.decode(msgspec.json.encode({"key": "k" * length})).key
    for length in (least - 1, most + 1):
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.json.encode({"key": "k" * length}))
