"""The tables of settings (`configuration.md`, and the pages of policies): compared with the code."""

from __future__ import annotations

import dataclasses
import inspect
import random
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest

import resilient_rpc
from resilient_rpc import (
    Admission,
    AsyncClient,
    Batching,
    Classic,
    Client,
    Compression,
    Limits,
    Quorum,
    Server,
    replies,
)
from resilient_rpc.asking import RawProperties
from resilient_rpc.chain import ORDER, Plan
from resilient_rpc.keywords import How
from resilient_rpc.options import default_policies
from resilient_rpc.policies import (
    AdaptiveLimit,
    AttemptTimeout,
    Bulkhead,
    Cache,
    Chaos,
    CircuitBreaker,
    Deadline,
    Fallback,
    Hedge,
    Idempotency,
    RateLimit,
    RedisCache,
    RedisRate,
    Retry,
    RetryBudget,
)
from resilient_rpc.stores import Began, EncryptedStore, MemoryStore, RedisLock, RedisStore, SqlStore
from resilient_rpc.transport.correlation import STRATEGIES
from resilient_rpc.transport.urls import AmqpUrl
from tests.docs.blocks import DOCS, blocks_of, rows_of

CONFIGURATION = DOCS / "configuration.md"
REQUIRED = "required"


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return REQUIRED
    if isinstance(value, str):
        return f'"{value}"'
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    if value is random.random:
        return "random.random"
    if inspect.isfunction(value):
        return value.__name__
    if value is time.monotonic:
        return "time.monotonic"
    return repr(value).replace("'", '"')


def _parameters(function: Callable[..., Any]) -> dict[str, str]:
    parameters = inspect.signature(function).parameters.values()
    plain = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in {"self", "function"}]
    return {p.name: _default(p.default) for p in plain}


def _documented(heading: str) -> dict[str, str]:
    return {row[0]: row[1] for row in rows_of(CONFIGURATION, heading)}


def test_every_setting_of_the_clients_is_documented_with_its_default() -> None:
    shared = _parameters(inspect.getattr_static(AsyncClient.__mro__[1], "__init__"))
    assert _documented("Client") == shared | _parameters(Client.__init__)
    assert _parameters(AsyncClient.__init__) == {"url": REQUIRED}


def test_the_chain_of_a_client_that_names_none_is_the_one_of_the_page() -> None:
    (shown,) = [block.body for block in blocks_of(DOCS / "policies.md", "text") if block.title == "by default"]
    kinds = [line.partition("(")[0] for line in Plan(default_policies()).describe()]
    assert [line.partition("(")[0] for line in shown.splitlines()] == kinds


def test_the_order_of_the_page_is_that_of_the_code() -> None:
    rows = rows_of(DOCS / "policies.md", "The order")
    assert [role for row in rows for role in row[0].split(" or ")] == [*ORDER]


def test_every_keyword_of_a_call_is_documented() -> None:
    assert list(_documented("A call")) == list(How.__annotations__)


def _keywords(face: type[Any], *methods: str) -> dict[str, str]:
    """The keywords of methods by ``method.keyword``, without those that stand in a `TypedDict`."""
    found = {}
    for method in methods:
        for parameter in inspect.signature(inspect.getattr_static(face, method)).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                found[f"{method}.{parameter.name}"] = _default(parameter.default)
    return found


def test_every_keyword_of_the_other_ways_to_call_is_documented() -> None:
    methods = ("submit", "map", "cast", "publish", "broadcast", "call_raw")
    for face in (Client, AsyncClient):
        assert _documented("Other ways to call") == _keywords(face, *methods)
    text = CONFIGURATION.read_text(encoding="utf-8").partition("### Other ways to call")[2].partition("| keyword |")[0]
    assert [name for name in RawProperties.__annotations__ if f"`{name}`" not in text] == []


def test_every_keyword_of_raw_queues_and_events_is_documented() -> None:
    assert _documented("Queues of bytes, events") == _keywords(Server, "raw", "on")


def test_every_setting_of_a_server_is_documented_with_its_default() -> None:
    method = _parameters(Server.method)
    assert _parameters(resilient_rpc.method) == method
    assert {**_parameters(Server.__init__), **method} == _documented("Server") | method
    rows = [row for row in rows_of(CONFIGURATION, "Server") if row[0] in method]
    assert ["name", "None"] in [row[:2] for row in rows]
    assert ["safety", "None"] in [row[:2] for row in rows]
    assert ["timeout", "None"] in [row[:2] for row in rows]
    assert ["concurrency", "None"] in [row[:2] for row in rows]
    assert [row[:2] for row in rows].count(["allow", "None"]) == 2


@pytest.mark.parametrize("kind", [Admission, Batching, Limits])
def test_every_field_is_documented_with_its_default(kind: type[Any]) -> None:
    assert _documented(kind.__name__) == _parameters(kind)


@pytest.mark.parametrize("kind", [Classic, Quorum])
def test_every_setting_of_a_queue_is_documented_with_its_default(kind: type[Any]) -> None:
    assert _documented("Queues") == _parameters(kind)


def test_every_setting_of_a_reply_strategy_is_documented() -> None:
    kinds = [getattr(replies, name) for name in replies.__all__]
    expected = {f"{kind.__name__}.{name}": default for kind in kinds for name, default in _parameters(kind).items()}
    assert _documented("Reply strategies") == expected
    rows = rows_of(DOCS / "replies-and-naming.md", "Where replies arrive")
    assert {row[0].partition("(")[0] for row in rows} == set(replies.__all__)


def test_every_kind_of_correlation_id_is_documented() -> None:
    rows = rows_of(DOCS / "replies-and-naming.md", "Correlation ids")
    assert [row[0].strip('"') for row in rows] == [*STRATEGIES]


def test_every_policy_is_documented_with_its_settings() -> None:
    expected = {
        f"{kind.__name__}.{name}": default
        for kind in (
            Deadline,
            AttemptTimeout,
            Cache,
            RedisCache,
            CircuitBreaker,
            Hedge,
            Idempotency,
            Fallback,
            Chaos,
            Retry,
            RetryBudget,
            Bulkhead,
            AdaptiveLimit,
            RateLimit,
            RedisRate,
        )
        for name, default in _parameters(kind).items()
    }
    assert _documented("Policies") == expected


def test_every_store_is_documented_with_its_settings() -> None:
    expected = {
        f"{kind.__name__}.{name}": default
        for kind in (MemoryStore, RedisStore, SqlStore, EncryptedStore, RedisLock)
        for name, default in _parameters(kind).items()
    }
    assert _documented("Stores") == expected


def test_the_steps_and_outcomes_of_the_page_are_those_of_the_port() -> None:
    text = (DOCS / "write-a-store.md").read_text(encoding="utf-8")
    outcomes = [row[0].partition("(")[0] for row in rows_of(DOCS / "write-a-store.md", "The steps")][-6:]
    assert outcomes == [kind.__name__ for kind in get_args(Began)]
    for name in ("begin", "renew", "complete", "abandon", "get", "delete", "close"):
        assert f"`{name}(" in text


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("deadline", Deadline),
        ("attempt-timeout", AttemptTimeout),
        ("cache", Cache),
        ("circuit-breaker", CircuitBreaker),
        ("hedge", Hedge),
        ("idempotency", Idempotency),
        ("fallback", Fallback),
        ("chaos", Chaos),
        ("retry", Retry),
        ("retry-budget", RetryBudget),
        ("bulkhead", Bulkhead),
        ("adaptive-limit", AdaptiveLimit),
        ("rate-limit", RateLimit),
    ],
)
def test_the_page_of_a_policy_says_the_same(page: str, kind: type[Any]) -> None:
    rows = rows_of(DOCS / "policies" / f"{page}.md", "Defaults")
    assert {row[0]: row[1] for row in rows} == _parameters(kind)


def test_the_page_of_the_rate_limit_says_the_same_of_redis() -> None:
    rows = rows_of(DOCS / "policies" / "rate-limit.md", "RedisRate")
    assert {row[0]: row[1] for row in rows} == _parameters(RedisRate)


def test_every_option_of_a_url_is_documented_with_its_default() -> None:
    outside_of_the_query = {"hosts", "user", "password", "vhost", "tls"}
    options = {name: text for name, text in _parameters(AmqpUrl).items() if name not in outside_of_the_query}
    assert _documented("URLs") == options


def test_every_setting_of_the_compression_is_documented_with_its_default() -> None:
    rows = rows_of(DOCS / "plugins.md", "Compression")
    assert {row[0]: row[1] for row in rows if row[0] in Compression.__annotations__} == _parameters(Compression)
