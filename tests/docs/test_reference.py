"""Pages that list what the code has: compared with the code."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import random
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
import typer.main

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
    RpcError,
    Server,
    cli,
    errors,
    events,
    policies,
    replies,
    stores,
    testing,
)
from resilient_rpc.asking import RawProperties
from resilient_rpc.chain import ORDER, Plan
from resilient_rpc.cli.fail import FAILED, NOBODY_KNOWS, NOT_EXECUTED, USAGE
from resilient_rpc.errors import CODES
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
from resilient_rpc.transport import deadletters
from resilient_rpc.transport.correlation import STRATEGIES
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.properties import decode_properties
from resilient_rpc.transport.urls import AmqpUrl
from tests.docs.blocks import DOCS, blocks_of, rows_of

CONFIGURATION = DOCS / "configuration.md"
ERRORS = DOCS / "errors.md"
WIRE = DOCS / "how-a-call-travels.md"
REQUIRED = "required"


def _yes(value: object) -> str:
    return "yes" if value else "no"


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


# -- configuration.md


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


# -- plugins.md


def test_every_setting_of_the_compression_is_documented_with_its_default() -> None:
    rows = rows_of(DOCS / "plugins.md", "Compression")
    assert {row[0]: row[1] for row in rows if row[0] in Compression.__annotations__} == _parameters(Compression)


# -- errors.md


def test_the_tree_is_that_of_the_module() -> None:
    (tree,) = [block.body for block in blocks_of(ERRORS, "text") if block.title == "resilient_rpc.errors"]
    _, _, drawn = (errors.__doc__ or "").partition("::\n\n")
    assert tree.strip() == textwrap.dedent(drawn.partition("\n\n")[0]).strip()


def test_the_table_of_codes_is_that_of_the_module() -> None:
    expected = [
        [str(code), row.name, kind.__name__, str(kind.certainty), _yes(kind.retryable), _yes(kind.counted)]
        for code, row in CODES.items()
        for kind in [row.error]
    ]
    assert rows_of(ERRORS, "Codes on the wire") == expected


def _raised() -> set[str]:
    """The names of all errors but those that only group others."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, RpcError)]
    groups = {errors.RpcError, errors.TransportError, errors.ProtocolError}
    return {kind.__name__ for kind in kinds if kind not in groups}


def test_the_table_of_local_errors_says_what_the_classes_say() -> None:
    rows = rows_of(ERRORS, "Errors that never crossed the wire")
    for name, _, certainty, retryable, counted in rows:
        kind: type[RpcError] = getattr(errors, name)
        said = [str(kind.certainty), _yes(kind.retryable), _yes(kind.counted)]
        assert [certainty, retryable, counted] == said, name
    assert {row[0] for row in rows} == _raised() - {row.error.__name__ for row in CODES.values()}


def test_each_error_has_a_line_on_what_to_do() -> None:
    named = [name for row in rows_of(ERRORS, "What to do") for name in row[0].split(", ")]
    assert sorted(named) == sorted(_raised())


# -- how-a-call-travels.md

CHANGING = {"at": 0, "t": 0, "ttl": 0}


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {name: CHANGING.get(name, _masked(inner)) for name, inner in value.items() if name != "id"}
    return value


def _messages(monkeypatch: pytest.MonkeyPatch, service: str) -> list[tuple[Any, dict[str, Any]]]:
    """What the calls of the page put on the wire."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    publish = MemoryPublisher.publish

    def tapped(self: MemoryPublisher, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        seen.append((msgspec.json.decode(body), decode_properties(properties)))
        return publish(self, target, body, properties, mandatory=mandatory)

    monkeypatch.setattr(MemoryPublisher, "publish", tapped)
    server = Server(f"memory://{service}", service="orders", name="orders-1")

    @server.method
    def price(sku: str, qty: int = 1) -> float:
        return 9.5 * qty

    server.start()
    try:
        with Client(f"memory://{service}") as client:
            client.call("orders.price", {"sku": "A1", "qty": 2})
            client.call("orders.price", {"sku": "A1", "qty": 2}, timeout=5, safety="read_only", tags={"tenant": "acme"})
            client.map("orders.price", [["A1", 1], ["A1", 2], ["A1", 3]])
            client.map("orders.price", [{"sku": "A1", "qty": "two"}], return_errors=True)
    finally:
        server.stop()
    return seen


def test_the_messages_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    examples = {block.title: _masked(msgspec.json.decode(block.body)) for block in blocks_of(WIRE, "json")}
    assert set(examples) == {"request", "reply", "request with meta", "batch", "error"}
    sent = [_masked(body) for body, _ in _messages(monkeypatch, service)]
    for title, example in examples.items():
        assert example in sent, f"{title}: {sent}"


# -- cli.md


def test_the_exit_codes_are_those_of_the_command() -> None:
    assert [row[0] for row in rows_of(DOCS / "cli.md", "call")] == [
        str(code) for code in (0, FAILED, USAGE, NOT_EXECUTED, NOBODY_KNOWS)
    ]


def test_the_exit_codes_of_probes_are_those_of_the_commands() -> None:
    assert [row[0] for row in rows_of(DOCS / "cli.md", "ping, health")] == [str(code) for code in (0, FAILED, USAGE)]


def _commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from _commands(inner, *path, name)


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_its_place_with_all_options(path: tuple[str, ...]) -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    heads = re.findall(r"(?m)^## (.*)$", text)
    assert path[0] in {name for head in heads for name in head.split(", ")}
    if path[0] == "dead":  # the subcommands have a page of their own
        text += (DOCS / "dead-letters.md").read_text(encoding="utf-8")
        assert path[-1] in text
    for parameter in COMMANDS[path].params:
        names = [*parameter.opts, *parameter.secondary_opts]
        assert parameter.param_type_name == "argument" or any(name in text for name in names), names


# -- dead-letters.md


def test_the_exit_codes_and_headers_of_dead_letters_are_those_of_the_code() -> None:
    page = DOCS / "dead-letters.md"
    codes = [str(code) for code in (0, FAILED, USAGE, NOT_EXECUTED, NOBODY_KNOWS)]
    assert [row[0] for row in rows_of(page, "Look, send again, delete")] == codes
    names = {value for value in vars(deadletters).values() if isinstance(value, str) and value.startswith("rpc-dead-")}
    assert {row[0] for row in rows_of(page, "The label")} == names - {deadletters.PREFIX}
    reasons = {reason for row in rows_of(page, "Reasons") for reason in row[0].replace("`", "").split(", ")}
    assert reasons | {"expired"} == set(get_args(deadletters.Reason))


# -- reference/: every public name stands there once, and nothing else does

REFERENCE = sorted((DOCS / "reference").glob("*.md"))
SHOWN = [name for page in REFERENCE for name in re.findall(r"(?m)^::: (\S+)$", page.read_text(encoding="utf-8"))]


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _kinds(module: Any, base: type) -> dict[str, Any]:
    """What a module without `__all__` defines for its users: all classes of one tree."""
    return {name: kind for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, base)}


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (resilient_rpc, policies, stores, replies, testing)
    for name in module.__all__
} | {
    f"{module.__name__}.{name}": kind
    for module, base in ((errors, errors.RpcError), (events, events.Event))
    for name, kind in _kinds(module, base).items()
}


@pytest.mark.parametrize("path", PUBLIC)
def test_every_public_name_stands_in_the_reference(path: str) -> None:
    assert any(_found(shown) is PUBLIC[path] for shown in SHOWN)


@pytest.mark.parametrize("path", SHOWN)
def test_what_stands_there_can_be_imported_from_there_by_users(path: str) -> None:
    assert path in PUBLIC
    assert Counter(SHOWN)[path] == 1
    assert sum(_found(other) is PUBLIC[path] for other in SHOWN) == 1, "twice, under two names"


def test_the_list_of_the_pages_is_complete() -> None:
    listed = {re.findall(r"\((\S+)\)", row[0])[0] for row in rows_of(DOCS / "reference" / "index.md")}
    assert listed == {page.name for page in REFERENCE} - {"index.md"}
