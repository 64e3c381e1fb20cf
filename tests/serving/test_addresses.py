from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.serving import addresses
from resilient_rpc.serving.addresses import MAX_ADDRESS, Addresses
from resilient_rpc.transport.memory.publisher import new_address

DIRECT = "amq.rabbitmq.reply-to."


@pytest.mark.parametrize(
    "address",
    [
        DIRECT + "g1h2AA5yZXBseUAxMjM0NTY3OAAAAAAAAAAA.Zm9vYmFy",
        DIRECT + "g2dkABByYWJiaXRAbG9jYWxob3N0AAAD5gAAAABnJb+A.x1Ou/g==",
        "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
        "rpc.reply.app.0123456789abcdef",
        "rpc.reply.app:1_2-3",
        "rpc.reply." + "x" * (MAX_ADDRESS - 10),
        pytest.param(new_address(), id="a new one"),
    ],
)
def test_an_address_where_a_client_waits_is_accepted(address: str) -> None:
    accepts = Addresses()
    assert accepts.accept(address)
    assert accepts.accept(address), "the second time, from memory"


@pytest.mark.parametrize(
    "address",
    [
        "", "rpc.orders", "orders", "amq.topic", "amq.rabbitmq.reply-to", DIRECT, DIRECT + "junk", DIRECT + ".",
        DIRECT + "a.b.c", DIRECT + "a.", DIRECT + ".b", DIRECT + "a b.c", DIRECT + "a.b\n", DIRECT + "\x00.b",
        "x" + DIRECT + "a.b", DIRECT + "a" * 161 + ".b", DIRECT + "a." + "b" * 65, DIRECT + "é.b", DIRECT + "a*.b",
        "amq.gen-", "amq.gen-a.b", "amq.gen-a\n", "amq.gen-" + "a" * 65, "amq.gen",
        "rpc.reply", "rpc.reply.a b", "rpc.reply.a\n", "rpc.reply.\x00", "rpc.reply.é", "rpc.replyx.a",
        "rpc.reply.a|exchange", "rpc.reply." + "x" * (MAX_ADDRESS - 9), "x" * 100_000, "exchange|key",
        "amq.topic/rpc.reply.a", b"rpc.reply.a", None, 5, ("rpc.reply.a",), True,
    ],
)  # fmt: skip
def test_any_other_address_is_refused(address: Any) -> None:
    assert not Addresses().accept(address)


def test_the_prefixes_are_the_servers_own() -> None:
    accepts = Addresses(["tenant.", "other."])
    assert accepts.accept("tenant.x")
    assert accepts.accept("other.x")
    assert not accepts.accept("rpc.reply.x")
    assert not Addresses([]).accept("rpc.reply.x")


@given(st.text(max_size=60) | st.text(max_size=20).map(DIRECT.__add__) | st.text(max_size=20).map("rpc.reply.".__add__))
def test_what_is_accepted_is_plain_ascii_of_a_known_kind(address: str) -> None:
    if Addresses().accept(address):
        assert address.isascii()
        assert address.isprintable()
        assert not any(character.isspace() for character in address)
        assert address.startswith((DIRECT, "amq.gen-", "rpc.reply."))


def test_callers_that_come_and_go_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    accepts = Addresses()
    for number in range(25_000):
        assert accepts.accept(f"rpc.reply.{number}")
    assert len(accepts._good) <= 10_000
    assert addresses.DEFAULT_PREFIXES == ("rpc.reply.",)
