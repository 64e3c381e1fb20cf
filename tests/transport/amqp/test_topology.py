from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.topology import (
    DEAD_EXCHANGE,
    Binding,
    Exchange,
    Queue,
    Unbinding,
    dead_queue,
    expired_queue,
    topology,
)

LEGAL = {  # what RabbitMQ 4.3 takes in a declaration of a classic queue
    "x-dead-letter-exchange": str,
    "x-max-length": int,
    "x-message-ttl": int,
}
SPEC = QueueSpec(name="rpc.orders.v2.prod", service="orders")


def test_the_way_of_dead_letters_is_there_before_the_queue() -> None:
    assert topology(SPEC) == (
        Exchange("rpc.dead", "headers"),
        Queue("rpc.orders.v2.prod.expired", arguments={"x-max-length": 10_000, "x-message-ttl": 3_600_000}),
        Queue("rpc.orders.v2.prod.dead", arguments={"x-max-length": 100_000}),
        *(
            Binding(
                queue,
                "rpc.dead",
                {"x-match": "all-with-x", "x-first-death-queue": "rpc.orders.v2.prod", "x-first-death-reason": reason},
            )
            for queue, reason in [
                ("rpc.orders.v2.prod.expired", "expired"),
                ("rpc.orders.v2.prod.dead", "rejected"),
                ("rpc.orders.v2.prod.dead", "maxlen"),
                ("rpc.orders.v2.prod.dead", "delivery_limit"),
            ]
        ),
        Queue("rpc.orders.v2.prod", arguments={"x-dead-letter-exchange": "rpc.dead"}),
    )


def test_nothing_that_rabbitmq_43_refuses_is_declared() -> None:
    for step in topology(SPEC):
        if isinstance(step, Queue):
            assert step.durable  # neither exclusive nor transient
            for name, value in step.arguments.items():
                assert type(value) is LEGAL[name]


@pytest.mark.parametrize(("most", "arguments"), [(None, {}), (7, {"x-max-length": 7})])
def test_how_many_dead_letters_are_kept_is_a_setting(most: int | None, arguments: dict[str, int]) -> None:
    steps = topology(QueueSpec(name="q", service="s", max_dead=most))
    assert Queue("q.dead", arguments=arguments) in steps


def test_the_names_of_the_dead() -> None:
    assert (dead_queue("rpc.a.b"), expired_queue("rpc.a.b")) == ("rpc.a.b.dead", "rpc.a.b.expired")


def test_arguments_of_the_user() -> None:
    spec = QueueSpec(
        name="q", service="s", arguments={"x-queue-type": "quorum", "x-delivery-limit": 5}, dead_letters=False
    )

    assert topology(spec) == (
        Queue(
            "q", arguments={"x-dead-letter-exchange": DEAD_EXCHANGE, "x-queue-type": "quorum", "x-delivery-limit": 5}
        ),
    )


def test_a_queue_of_somebody_elses() -> None:
    spec = QueueSpec(
        name="rpc_queue",
        service="s",
        durable=False,
        dead_letters=False,
        arguments={"x-dead-letter-exchange": None},
    )

    assert topology(spec) == (Queue("rpc_queue", durable=False),)


@pytest.mark.parametrize(("name", "value"), [("x-queue-mode", "lazy"), ("x-queue-version", 1), ("x-ha-policy", "all")])
def test_arguments_that_are_gone_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        topology(QueueSpec(name="q", service="s", arguments={name: value}))


def test_the_queue_of_events_is_bound_to_what_the_service_subscribes_to_and_dies_where_its_calls_die() -> None:
    spec = QueueSpec(
        name="rpc.a.events", main="rpc.a", service="a", topics="rpc.events", bound=("b.c", "d.*"), unbound=("e",)
    )
    steps = topology(spec)
    assert steps[-5:] == (
        Queue("rpc.a.events", arguments={"x-dead-letter-exchange": DEAD_EXCHANGE}),
        Exchange("rpc.events", "topic"),
        Binding("rpc.a.events", "rpc.events", key="b.c"),
        Binding("rpc.a.events", "rpc.events", key="d.*"),
        Unbinding("rpc.a.events", "rpc.events", "e"),
    )
    assert {step.queue for step in steps if isinstance(step, Binding)} == {"rpc.a.dead", "rpc.a.expired", spec.name}
    for step in steps:
        if isinstance(step, Queue):
            assert step.durable
            assert not step.exclusive
            assert set(step.arguments) <= set(LEGAL)


@given(st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_bindings_name_what_was_declared_before(name: str, service: str, dead_letters: bool) -> None:
    declared: set[str] = set()
    for step in topology(QueueSpec(name=name, service=service, dead_letters=dead_letters)):
        if isinstance(step, Binding):
            assert {step.queue, step.exchange} <= declared
            assert step.arguments["x-first-death-queue"] == name
        else:
            declared.add(step.name)
    assert name in declared
