"""Events as log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import ApplicationError, Client, ConfigurationError, ConnectionLost, MethodNotFound, Server
from resilient_rpc.eventlog import LONGEST, log_events
from resilient_rpc.events import (
    AttemptEnded,
    CallEnded,
    CallRejected,
    CallServed,
    ConnectionStateChanged,
    Event,
    PolicyBypassed,
    PolicyFaulted,
)
from resilient_rpc.events import PolicyEvent as PolicyDecided
from resilient_rpc.hub import Events
from resilient_rpc.policies import Deadline, Fallback, for_
from resilient_rpc.policies.adaptive import LimitChanged
from resilient_rpc.policies.breaker_events import CircuitStateChanged
from resilient_rpc.policies.chaos import ChaosInjected
from resilient_rpc.policies.fallback import FallbackFailed, FallbackUsed
from resilient_rpc.policies.retry import RetriesExhausted, RetryScheduled, RetrySuppressed

LOGGER = "resilient_rpc.events"
REJECTED = CallRejected(policy="CircuitBreaker", method="orders.price", target="orders", reason="open", retry_after=3.5)


class Hostile(Event, frozen=True, kw_only=True):
    """An event of a plug-in, with all that must not be written."""

    name: str = "its name clashes with that of a record"
    args: tuple[int, ...] = (1, 2)
    params: Any = None
    result: Any = None
    key: str = "order-42"
    url: str = ""
    text: str = ""


class Bound:
    """As a logger of structlog: bind(), and a method for each level that takes keywords."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, dict[str, Any]]] = []

    def bind(self, **_: Any) -> Bound:
        return self

    def __getattr__(self, level: str) -> Any:
        if level not in {"debug", "info", "warning", "error", "critical"}:
            raise AttributeError(level)
        return lambda event, **fields: self.written.append((level, event, fields))


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[Events]:
    with caplog.at_level(logging.DEBUG, logger=LOGGER):
        yield Events()


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name.startswith("rpc_")}


def test_a_rejection_is_a_warning_with_its_fields_beside_the_text(
    events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    log_events(events)
    events.emit(REJECTED)
    (record,) = caplog.records
    assert (record.name, record.levelno) == (LOGGER, logging.WARNING)
    assert record.getMessage() == (
        "CallRejected policy=CircuitBreaker method=orders.price target=orders attempt=1 reason=open retry_after=3.5"
    )
    assert _extra(record) == {
        "rpc_event": "CallRejected",
        "rpc_policy": "CircuitBreaker",
        "rpc_method": "orders.price",
        "rpc_target": "orders",
        "rpc_attempt": 1,
        "rpc_reason": "open",
        "rpc_retry_after": 3.5,
    }


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (CallEnded(method="orders.price", seconds=0.1), logging.DEBUG),
        (PolicyDecided(policy="Retry", method="orders.price", target="orders"), logging.DEBUG),
        (PolicyBypassed(policy="Cache", method="orders.price", target="orders", reason="store"), logging.WARNING),
        (ConnectionStateChanged(state="lost"), logging.WARNING),
        (Hostile(), logging.WARNING),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_type_has_its_level(events: Events, caplog: pytest.LogCaptureFixture, event: Event, level: int) -> None:
    log_events(events)
    events.emit(event)
    assert [record.levelno for record in caplog.records] == [level]


def test_changes_and_suppressions_are_warnings_and_what_every_call_brings_is_not() -> None:
    warnings = {CircuitStateChanged, RetrySuppressed, RetriesExhausted, FallbackUsed, FallbackFailed, ChaosInjected}
    assert {event.log_level for event in warnings} == {logging.WARNING}
    assert {event.log_level for event in (LimitChanged, RetryScheduled)} == {logging.INFO}
    assert {event.log_level for event in (AttemptEnded, CallEnded, CallServed)} == {logging.DEBUG}
    assert PolicyFaulted.log_level == logging.ERROR


def test_the_nearest_type_decides_where_levels_are_given(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    log_events(events, levels={PolicyDecided: logging.INFO, CallRejected: logging.ERROR})
    events.emit(REJECTED)
    events.emit(PolicyBypassed(policy="Cache", method="orders.price", target="orders", reason="store"))
    events.emit(ConnectionStateChanged(state="lost"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.INFO, logging.WARNING]


def test_what_the_logger_does_not_want_is_not_made(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    class Unreadable(Event, frozen=True, kw_only=True):
        @property
        def __struct_fields__(self) -> tuple[str, ...]:  # type: ignore[override]
            raise AssertionError("read")

    caplog.set_level(logging.CRITICAL, logger=LOGGER)
    log_events(events)
    events.emit(Unreadable())
    assert not caplog.records


def test_neither_payloads_nor_credentials_nor_the_texts_of_errors_are_written(
    events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    log_events(events)
    events.emit(Hostile(params={"card": "4111"}, result="secret", url="amqp://user:pa:ss@host/vhost", text="a\nb\x1b["))
    events.emit(CallEnded(method="pay.card", seconds=0.5, error=ConnectionLost("while sending card 4111")))
    events.emit(CallEnded(method="pay.card", seconds=0.5, error=ValueError("card 4111")))
    hostile, lost, wrong = caplog.records
    assert _extra(hostile) == {
        "rpc_event": "Hostile",
        "rpc_name": "its name clashes with that of a record",
        "rpc_args": "tuple",
        "rpc_url": "amqp://***@host/vhost",
        "rpc_text": r"a\nb\x1b[",
    }
    assert hostile.name == LOGGER
    assert (_extra(lost)["rpc_error"], _extra(lost)["rpc_certainty"]) == ("ConnectionLost", "unknown")
    assert _extra(wrong)["rpc_error"] == "ValueError"
    for word in ("4111", "secret", "order-42", "pa:ss"):
        assert word not in caplog.text


def test_a_long_text_is_cut(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    log_events(events)
    events.emit(Hostile(text="x" * LONGEST))
    events.emit(Hostile(text="x" * (LONGEST + 1)))
    whole, cut = [_extra(record)["rpc_text"] for record in caplog.records]
    assert whole == "x" * LONGEST
    assert cut == "x" * (LONGEST - 1) + "…"


def test_a_logger_of_ones_own_or_an_adapter_of_it_is_used(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    log_events(events, logging.getLogger("mine"))
    log_events(events, logging.LoggerAdapter(logging.getLogger("adapted"), {"app": "shop"}))
    events.emit(REJECTED)
    assert [record.name for record in caplog.records] == ["mine", "adapted"]


def test_structlog_gets_the_fields_as_keywords(events: Events) -> None:
    logger = Bound()
    log_events(events, logger, levels={CallEnded: logging.INFO})
    events.emit(REJECTED)
    events.emit(CallEnded(method="orders.price", seconds=0.25, error=ApplicationError("card 4111")))
    (first_level, first, fields), (second_level, second, ended) = logger.written
    assert (first_level, first, second_level, second) == ("warning", "CallRejected", "info", "CallEnded")
    assert fields["rpc_reason"] == "open"
    assert ended == {
        "rpc_method": "orders.price",
        "rpc_seconds": 0.25,
        "rpc_attempts": 1,
        "rpc_error": "ApplicationError",
        "rpc_certainty": "executed",
        "rpc_replayed": False,
        "rpc_degraded": False,
    }


def test_it_can_be_narrowed_to_some_events_and_ended(events: Events) -> None:
    logger = Bound()
    end = log_events(events, logger, event_type=PolicyDecided)
    events.emit(ConnectionStateChanged(state="lost"))
    events.emit(REJECTED)
    end()
    events.emit(REJECTED)
    assert [name for _, name, _ in logger.written] == ["CallRejected"]


@pytest.mark.parametrize("logger", [print, "resilient_rpc", object()], ids=["function", "name", "object"])
def test_anything_else_is_no_logger(events: Events, logger: Any) -> None:
    with pytest.raises(ConfigurationError, match="neither a logger"):
        log_events(events, logger)


def test_a_level_must_be_one(events: Events) -> None:
    with pytest.raises(ConfigurationError, match="levels: 7 is not a level"):
        log_events(events, levels={CallRejected: 7})


@pytest.mark.parametrize(
    ("source", "levels", "message"),
    [
        (3, None, "3 has no events: give a client or a server"),
        (None, 7, "levels=7: give a mapping from type of event to level"),
        (None, {"CallEnded": 10}, "levels: 'CallEnded' is not a type of event"),
        (None, {int: 10}, "levels: <class 'int'> is not a type of event"),
    ],
)
def test_what_makes_no_sense_is_refused(events: Events, source: Any, levels: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        log_events(source or events, levels=levels)


def test_a_chain_is_written_as_the_names_of_its_policies(caplog: pytest.LogCaptureFixture) -> None:
    with Client("memory://nobody", policies=[Deadline(limit=20.0)]) as client:
        log_events(client)
        client.reload([for_("orders", Fallback(value="a secret")), Deadline(limit=10.0)])
    (record,) = [
        record for record in caplog.records if record.msg.startswith("%s") and "Reloaded" in record.getMessage()
    ]
    assert record.getMessage() == "ChainReloaded before=Deadline after=for_ Deadline"


def test_it_writes_what_happens_to_a_client_and_to_a_server(caplog: pytest.LogCaptureFixture, service: str) -> None:
    server = Server(f"memory://{service}", service="orders")
    server.method(lambda sku: sku, name="price")
    client, written = Client(f"memory://{service}"), Bound()
    log_events(client)
    log_events(server, written)
    server.start()
    try:
        with client, caplog.at_level(logging.DEBUG, logger=LOGGER):
            client.call("orders.price", {"sku": "A1"})
            with pytest.raises(MethodNotFound):
                client.call("orders.none", {"sku": "A1"})
    finally:
        server.stop()
    ended = [_extra(record) for record in caplog.records if _extra(record)["rpc_event"] == "CallEnded"]
    assert [(one["rpc_method"], one["rpc_error"]) for one in ended] == [
        ("orders.price", None),
        ("orders.none", "MethodNotFound"),
    ]
