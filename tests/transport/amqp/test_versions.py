from typing import Any

import pytest

from resilient_rpc.transport.amqp.versions import Broker


@pytest.mark.parametrize(
    ("said", "version", "drops", "marks"),
    [
        ("3.9.29", (3, 9), False, True),
        ("3.10.8", (3, 10), False, False),
        ("3.11.28", (3, 11), False, False),
        ("3.12.0", (3, 12), True, False),
        ("4.0.5", (4, 0), True, False),
        ("4.1.0-rc.1", (4, 1), True, False),
        ("4.2.5", (4, 2), False, False),
        ("4.3.0", (4, 3), False, True),
        ("10.0.1", (10, 0), False, True),
    ],
)
def test_what_a_rabbitmq_cannot_be_trusted_with(said: str, version: tuple[int, int], drops: bool, marks: bool) -> None:
    broker = Broker.of({"product": "RabbitMQ", "version": said})
    assert (broker.version, broker.drops_first_replies, broker.marks) == (version, drops, marks)
    assert broker.said == f"RabbitMQ {said}"


@pytest.mark.parametrize(
    "properties",
    [
        None,
        {},
        {"product": "LavinMQ", "version": "3.12.0"},
        {"product": "RabbitMQ"},
        {"product": "RabbitMQ", "version": b"3.12.0"},
        {"product": "RabbitMQ", "version": "of today"},
        {"product": ["RabbitMQ"], "version": "3.12.0"},
    ],
)
def test_nothing_is_held_against_others_and_against_the_unreadable(properties: dict[str, Any] | None) -> None:
    broker = Broker.of(properties)
    assert (broker.version, broker.said, broker.drops_first_replies, broker.marks) == (None, "", False, True)
