from __future__ import annotations

import logging

import pytest

from resilient_rpc import Server
from resilient_rpc.cli.announce import announce
from resilient_rpc.events import ConnectionStateChanged, QueueLimit


def test_connections_and_jams_are_logged_and_the_first_connection_is_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("memory://x", service="shop", name="one")
    told: list[str] = []
    announce(server, lambda: told.append("ready"))
    emit = server._events.emit
    with caplog.at_level(logging.INFO, "resilient_rpc.cli.serve"):
        for state, reason in [("failed", "refused"), ("connected", ""), ("lost", "reset"), ("connected", "")]:
            emit(ConnectionStateChanged(state=state, reason=reason))
        for over, messages in [(True, 120), (False, 70)]:
            emit(QueueLimit(queue="rpc.shop", over=over, messages=messages, consumers=1, limit=100))
    assert told == ["ready"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "serving shop as one"),
        ("WARNING", "the connection was lost: reset"),
        ("INFO", "serving shop as one"),
        ("WARNING", "120 messages wait in rpc.shop, the limit is 100"),
        ("INFO", "70 messages wait in rpc.shop, below the limit of 100 again"),
    ]
