"""`dead` without a broker: what it reads in a label, what it is about, and wrong usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.cli.dead.letter import DeadLetter, read, shown_time
from resilient_rpc.cli.dead.listing import table
from resilient_rpc.cli.dead.match import UNITS, Match, instant
from resilient_rpc.cli.dead.showing import described, printable
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import encode_headers
from tests.cli.conftest import Run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letter(body: bytes = b"", message_id: str | None = None, **headers: Any) -> DeadLetter:
    """As it is read from a message with these headers, a - in place of the _ in their names."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    properties: dict[str, Any] = {"headers": encode_headers(named)}
    if message_id is not None:
        properties["message_id"] = message_id
    return read(Delivery(1, False, properties, body))


def test_the_label_of_a_server() -> None:
    found = letter(
        message_id="m1",
        rpc_dead_reason="failed",
        rpc_dead_queue="rpc.shop",
        rpc_dead_time="2026-03-01T11:00:00Z",
        rpc_dead_attempts=3,
        rpc_dead_stack="a.py:1 f\nb.py:2 g",
        rpc_method="price",
        rpc_calls=7,
    )
    assert (found.reason, found.queue, found.attempts, found.calls) == ("failed", "rpc.shop", 3, 7)
    assert (found.method, found.message_id, found.stack) == ("price", "m1", ("a.py:1 f", "b.py:2 g"))
    assert shown_time(found.when) == "2026-03-01T11:00:00Z"


def test_the_label_of_the_broker() -> None:
    found = letter(
        b'{"jsonrpc":"2.0","method":"price"}',
        x_first_death_reason="delivery_limit",
        x_first_death_queue="rpc.shop",
        x_death=[{"reason": "delivery_limit", "time": NOW, "queue": "rpc.shop"}],
    )
    assert (found.reason, found.queue, found.when, found.method) == ("delivery_limit", "rpc.shop", NOW, "price")


@pytest.mark.parametrize(
    ("body", "method"),
    [(b"", ""), (b"[]", ""), (b'[{"method":"a"},{"method":"b"}]', "a"), (b'{"method":5}', ""), (b"\xff\x00", "")],
)
def test_the_method_is_read_from_the_body_where_no_header_says_it(body: bytes, method: str) -> None:
    found = letter(body)
    assert (found.method, found.reason, found.queue, found.when) == (method, "unknown", "", None)


def test_a_message_without_an_id_gets_the_same_one_each_time() -> None:
    assert letter(b"a").message_id == letter(b"a").message_id
    assert letter(b"a").message_id != letter(b"b").message_id
    assert letter(b"a").message_id != letter(b"a", rpc_calls=2).message_id


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=30) | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    *(
        "rpc-dead-" + name
        for name in ("reason", "queue", "time", "attempts", "exception", "stack", "partial", "server")
    ),
    *("rpc-method", "rpc-calls", "x-death", "x-first-death-reason", "x-first-death-queue"),
]


@given(st.dictionaries(st.sampled_from(NAMES), values), st.binary(max_size=50))
def test_whatever_a_label_says_it_is_read_and_shown_in_printable_lines(headers: dict[str, Any], body: bytes) -> None:
    delivery = Delivery(1, False, {"headers": encode_headers(headers)}, body)
    found = read(delivery)
    assert all(line.isprintable() for line in described(found, delivery).splitlines())
    Match(service="shop", methods=("*",), since=NOW)(found)


def test_headers_that_are_broken_are_no_headers() -> None:
    assert read(Delivery(1, False, {"headers": b"\x00\x00\x00\x09broken"}, b"")).reason == "unknown"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"reasons": ("failed",)}, True),
        ({"reasons": ("failed", "refused")}, True),
        ({"reasons": ("refused",)}, False),
        ({"methods": ("price",)}, True),
        ({"methods": ("shop.price",)}, True),
        ({"methods": ("other.price",)}, False),
        ({"methods": ("create", "pr*")}, True),
        ({"methods": ("PRICE",)}, False),
        ({"since": NOW}, True),
        ({"since": NOW + timedelta(seconds=1)}, False),
        ({"reasons": ("failed",), "methods": ("create",)}, False),
    ],
)
def test_all_that_is_given_must_fit(match: dict[str, Any], fits: bool) -> None:
    for method in ("price", "shop.price"):
        found = letter(rpc_dead_reason="failed", rpc_method=method, rpc_dead_time=NOW)
        assert Match(service="shop", **match)(found) is fits


def test_what_nobody_knows_the_time_of_died_after_none() -> None:
    assert not Match(service="shop", since=NOW - timedelta(days=900))(letter())


@given(st.integers(0, 10**7), st.sampled_from(sorted(UNITS)))
def test_since_counts_back_from_now(number: int, unit: str) -> None:
    back = timedelta(seconds=number * UNITS[unit])
    if back < timedelta(days=365 * 1000):
        assert instant(f"{number}{unit}", NOW) == NOW - back


def test_since_takes_a_time_in_utc_unless_it_says_otherwise() -> None:
    assert instant("2026-03-01", NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    assert instant("2026-03-01T13:00+01:00", NOW) == NOW


@pytest.mark.parametrize("text", ["", "soon", "5", "5w", "-5m", "999999999d", "2026-13-01"])
def test_since_says_what_it_takes(text: str) -> None:
    with pytest.raises(typer.Exit) as raised:
        instant(text, NOW)
    assert raised.value.exit_code == 2


def test_a_table_is_aligned_and_has_no_blanks_at_its_ends() -> None:
    assert table([("a", "long"), ("longer", "b")]) == "a       long\nlonger  b"


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable(b"a\x1b[2J\r\n\tb\xff") == "a\\x1b[2J\\r\n\tb\\xff"


@pytest.mark.parametrize("command", ["list", "show", "replay", "purge"])
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (
            ("shop", "--url", "memory://x"),
            2,
            "error: memory://x: what is on a memory:// bus is in its own process only",
        ),
        (("shop", "--url", "http://x"), 2, "error: ConfigurationError: a URL begins with amqp://"),
        (("_shop", "--url", "amqp://localhost/"), 2, "error: ConfigurationError: service name '_shop'"),
        (("shop", "--url", "amqp://joe:sesame@127.0.0.1:1/"), 3, "error: NotConnected: "),
        (("shop",), 2, "Usage: "),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, command: str, args: tuple[str, ...], code: int, said: str) -> None:
    result = run("dead", command, *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(said)
    assert "sesame" not in result.stderr


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_is_above_zero(run: Run, rate: str) -> None:
    result = run("dead", "replay", "shop", "--url", "amqp://localhost/", "--rate", rate)
    assert result.exit_code == 2
    assert "give a number above 0" in result.stderr
