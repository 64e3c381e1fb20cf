"""The transports under contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.sides import AmqpSide, MemorySide, Side

BROKER = pytest.mark.broker  # the marker cannot be read off the fixtures: the URL is asked for by name


@pytest.fixture(params=["memory", pytest.param("amqp", marks=BROKER), pytest.param("amqp-by-pika", marks=BROKER)])
def side(request: pytest.FixtureRequest, service: str) -> Iterator[Side]:
    """One transport, with a service of its own on it."""
    found = _side(request, service)
    yield found
    found.clean()


@pytest.fixture(params=["memory", pytest.param("amqp", marks=BROKER)])
def each_broker(request: pytest.FixtureRequest, service: str) -> Iterator[Side]:
    """As `side`, where it makes no difference which codec speaks to RabbitMQ."""
    found = _side(request, service)
    yield found
    found.clean()


@pytest.fixture(params=["memory", pytest.param("amqp", marks=BROKER)])
def url(request: pytest.FixtureRequest, service: str) -> str:
    """Where clients and servers meet, and nothing is left to clean."""
    return f"memory://{service}" if request.param == "memory" else request.getfixturevalue("amqp_url")


def _side(request: pytest.FixtureRequest, service: str) -> Side:
    if request.param == "memory":
        return MemorySide(service)
    return AmqpSide(service, request.getfixturevalue("amqp_url"), lane=request.param == "amqp")
