"""The transports under contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.sides import AmqpSide, MemorySide, Side

BROKER = pytest.mark.broker  # the marker cannot be read off the fixtures: the URL is asked for by name


@pytest.fixture(params=["memory", pytest.param("amqp", marks=BROKER), pytest.param("amqp-by-pika", marks=BROKER)])
def side(request: pytest.FixtureRequest, service: str) -> Iterator[Side]:
    """One transport, with a service of its own on it."""
    found: Side
    match request.param:
        case "memory":
            found = MemorySide(service)
        case kind:
            found = AmqpSide(service, request.getfixturevalue("amqp_url"), lane=kind == "amqp")
    yield found
    found.clean()
