"""What becomes of steps when something of ours, or of redis-py, does what nobody expected."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from resilient_rpc.stores import RedisStore, StoreError
from tests.stores.tools import begin, on_a_loop


def test_an_error_that_nobody_expected_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("resilient_rpc.stores.nodes.Single.run", run)
    store = RedisStore("redis://localhost:1")

    async def work() -> list[Any]:
        return await asyncio.gather(begin(store), begin(store), return_exceptions=True)

    with caplog.at_level(logging.ERROR, "resilient_rpc.stores.flight"):
        found = on_a_loop(store, work)
    assert [type(one) for one in found] == [StoreError, StoreError]
    assert found[0] is not found[1]
    assert all("of ours" in str(one) and one.written is False for one in found)
    assert "steps could not be carried out" in caplog.text
