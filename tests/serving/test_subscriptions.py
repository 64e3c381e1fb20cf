"""Which handler an event is for."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.contract import Method
from resilient_rpc.errors import ConfigurationError, MethodNotFound
from resilient_rpc.serving import subscriptions
from resilient_rpc.serving.subscriptions import Subscriptions, Unwanted


def handler(topic: str) -> Method:
    def handle(**_: Any) -> None: ...

    binder = Binder(handle, Context)
    return Method(name=topic, function=handle, binder=binder, safety=Safety.IDEMPOTENT, timeout=None, is_async=False)


@pytest.fixture
def found() -> Subscriptions:
    made = Subscriptions("billing")
    for topic in ("#", "orders.*", "orders.created", "*.created", "orders.#"):
        made.add(handler(topic))
    return made


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        ("orders.created", "orders.created"),
        ("orders.paid", "orders.*"),
        ("orders.line.added", "orders.#"),
        ("orders", "orders.#"),
        ("stock.created", "*.created"),
        ("stock", "#"),
    ],
)
def test_an_event_is_for_the_most_definite(found: Subscriptions, event: str, topic: str) -> None:
    for _ in range(2):
        assert found.find(event).name == topic


def test_a_handler_that_comes_later_is_found(found: Subscriptions) -> None:
    assert found.find("stock.moved").name == "#"
    found.add(handler("stock.moved"))
    assert found.find("stock.moved").name == "stock.moved"


@pytest.mark.parametrize("name", ["", "a..b", "orders.*", "#", "x" * 200, "\x00", "orders.créé"])
def test_what_is_no_name_is_for_nobody(found: Subscriptions, name: str) -> None:
    with pytest.raises(MethodNotFound) as caught:
        found.find(name)
    assert len(str(caught.value)) < 300


def test_names_of_strangers_do_not_fill_the_memory(found: Subscriptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "REMEMBERED", 10)
    for n in range(100):
        assert found.find(f"stock.n{n}").name == "#"
    assert len(found._found) <= 10


def test_what_was_given_up_is_told_from_what_is_not_known() -> None:
    made = Subscriptions("billing")
    assert not made
    made.end("legacy.*")
    assert made
    made.add(handler("orders.created"))
    for name, kind in [("legacy.one", Unwanted), ("legacy", MethodNotFound), ("legacy.a.b", MethodNotFound)]:
        with pytest.raises(MethodNotFound) as caught:
            made.find(name)
        assert type(caught.value) is kind


def test_a_subscription_cannot_be_given_up_by_the_same_service() -> None:
    made = Subscriptions("billing")
    made.add(handler("orders.created"))
    with pytest.raises(ConfigurationError, match="give it up"):
        made.end("orders.created")
    made.end("legacy")
    with pytest.raises(ConfigurationError, match="give it up"):
        made.add(handler("legacy"))
    with pytest.raises(ConfigurationError, match="has a handler already"):
        made.add(handler("orders.created"))
