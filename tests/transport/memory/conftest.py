"""A bus for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient_rpc.transport.memory import Bus


@pytest.fixture
def bus(service: str) -> Iterator[Bus]:
    """A bus that nobody else uses."""
    bus = Bus.named(service)
    yield bus
    bus.reset()
