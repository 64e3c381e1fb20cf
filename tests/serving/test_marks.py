from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_rpc import Server
from resilient_rpc.serving.marks import Marks


def session(unmarked_by: str) -> Any:
    return SimpleNamespace(unmarked_by=unmarked_by)


def methods(**safeties: str | None) -> Any:
    server = Server("memory://marks", service="orders")
    for name, safety in safeties.items():
        server.method(lambda: None, name=name, safety=safety)
    return server._methods


def test_only_a_session_that_was_lost_with_a_broker_that_forgets_makes_doubtful() -> None:
    for broker, doubtful in (("", False), ("RabbitMQ 3.10.8", True)):
        marks = Marks("rpc.orders", methods(create=None))
        marks.lost()
        assert not marks.doubtful, "there was none yet"
        marks.opened(session(broker))
        assert not marks.doubtful, "nothing can have come back"
        marks.lost()
        assert marks.doubtful is doubtful
        marks.opened(session(""))
        marks.lost()
        assert marks.doubtful is doubtful, "what is held may be older than the broker"


def test_unsafe_methods_on_a_broker_that_forgets_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    marks = Marks("rpc.orders", methods(create=None, cancel="unsafe", price="read_only", put="idempotent", pay="dedup"))
    with caplog.at_level(logging.WARNING):
        marks.opened(session(""))
        assert not caplog.messages
        for _ in range(3):
            marks.opened(session("RabbitMQ 3.10.8"))
    (message,) = caplog.messages
    assert message.startswith("RabbitMQ 3.10.8 may forget")
    assert "queue rpc.orders" in message
    assert "(cancel, create)" in message
    assert "Quorum()" in message
    assert "Idempotency" in message


def test_a_service_of_many_methods_is_warned_of_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    Marks("rpc.orders", methods(**dict.fromkeys("abcdefgh"))).opened(session("RabbitMQ 3.10.8"))
    assert "(a, b, c, d, e, ...)" in caplog.messages[0]


def test_what_may_be_repeated_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Marks("rpc.orders", methods(price="read_only", pay="dedup")).opened(session("RabbitMQ 3.10.8"))
    Marks("rpc.events", ()).opened(session("RabbitMQ 3.10.8"))
    assert not caplog.messages
