"""`discover` and `stub`: what a service offers, to read, and as source that type checkers accept."""

from __future__ import annotations

import datetime as dt
import enum
import importlib.util
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import ApplicationError, Client, InvalidParams, Server
from resilient_rpc.cli.stub_source import source
from resilient_rpc.openrpc import describe
from tests.cli.conftest import Run


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    sku: str
    qty: int = 1
    inside: "Line | None" = None  # noqa: UP037 - as users write it


@dataclass
class Order:
    r"""An order \ with "quotes"."""

    id: uuid.UUID
    lines: list[Line]
    colour: Colour
    day: dt.date = dt.date(2026, 1, 1)
    notes: dict[str, list[str]] = field(default_factory=dict)
    type: Literal["a", 5] = "a"


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag="cash", tag_field="kind"):
    coins: set[int]


class Paper(msgspec.Struct, tag=True):
    size: float = msgspec.field(default=1.5, name="paper-size")
    count: int = msgspec.field(default=0, name="int")


def shop(url: str, service: str = "shop") -> Server:
    server = Server(url, service=service)

    @server.error("out_of_stock")
    class OutOfStock(ApplicationError):
        """None left."""

    @server.method(safety="read_only", timeout=2.5)
    def find(key: uuid.UUID, /, deep: bool = False) -> Order:
        r"""Find an order. 'Quoted', "twice" and with a \."""
        return Order(key, [Line("A", 2, Line("B"))], Colour.BLUE)

    @server.method(name="deep.name", safety="idempotent")
    def deep(
        *, pay: Card | Paper, to: list[tuple[int, str]] | None = None, when: dt.timedelta | None = None
    ) -> Card | Paper:
        return pay

    @server.method(name="list")
    def all_of_them(colour: Colour = Colour.RED, *, cash: Cash | None = None) -> list[Order]:
        return []

    @server.method
    def sell(sku: str) -> None:
        raise OutOfStock(sku)

    @server.method
    async def anything(value, **more: int):  # noqa: ANN001, ANN202 - as users write them
        return [value, more]

    @server.method(name="with_")
    def odd(
        self: int, def_: dict[int, float], a_very_long_name: dict[str, dict[str, int | str | None]]
    ) -> Line | Order:
        return Line("x")

    return server


@pytest.fixture
def shop_url(service: str) -> Iterator[str]:
    url = f"memory://{service}"
    server = shop(url)
    server.start()
    yield url
    server.stop()


def test_discover_shows_what_there_is(run: Run, shop_url: str) -> None:
    result = run("discover", "shop", "--url", shop_url)
    assert (result.exit_code, result.stderr) == (0, "")
    first, *lines = result.stdout.splitlines()
    assert first.startswith("shop, contract ")
    assert lines == [
        "  anything(value: Any, **more: Any) -> Any",
        (
            "  deep.name(*, pay: Card | Paper, to: list[tuple[int, str]] | None = ..., "
            "when: datetime.timedelta | None = ...) -> Card | Paper  [idempotent]"
        ),
        (
            "  find(key: uuid.UUID, deep: bool = ..., /) -> Order  [read_only, 2.5 s]  "
            "Find an order. 'Quoted', \"twice\" and with a \\."
        ),
        '  list(*, colour: Literal["blue", "red"] = ..., cash: Cash | None = ...) -> list[Order]',
        "  sell(sku: str) -> None",
        "  with_(**arguments: Any) -> Any",
    ]


def test_discover_prints_the_document(run: Run, shop_url: str) -> None:
    result = run("discover", "shop", "--json", "--url", shop_url)
    assert json.loads(result.stdout) == describe(shop(shop_url)._methods).document


def load(text: str, path: Path) -> Any:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # the types look their names up there
    spec.loader.exec_module(module)
    return module


USE = """
from typing import assert_type
import uuid
import {module} as written
from resilient_rpc import {client}


{async_}def use(client: {client}) -> None:
    shop = client.service("shop", written.Shop)
    order = {await_}shop.find(uuid.UUID(int=1))
    assert_type(order, written.Order)
    assert_type(order.lines[0].inside, written.Line | None)
    assert_type({await_}shop.with_(timeout=1.0).deep_name(pay=written.Card(number="1")), written.Card | written.Paper)
    assert_type({await_}shop.sell("A"), None)
    {await_}shop.sell(5)  # type: ignore[arg-type]
"""


@pytest.mark.slow
@pytest.mark.parametrize("asyncio", [False, True])
def test_a_stub_passes_mypy_and_is_followed(run: Run, shop_url: str, tmp_path: Path, asyncio: bool) -> None:
    path = tmp_path / f"stub_{asyncio}.py"
    options = ["--asyncio"] if asyncio else []
    result = run("stub", "shop", "--url", shop_url, "--output", str(path), *options)
    assert (result.exit_code, result.output) == (0, "")
    names = {"client": "AsyncClient", "async_": "async ", "await_": "await "} if asyncio else {"client": "Client"}
    use = tmp_path / "use.py"
    use.write_text(USE.format(**{"async_": "", "await_": "", "module": path.stem, **names}), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental", str(path), str(use)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert checked.stdout == "Success: no issues found in 2 source files\n", checked.stdout + path.read_text("utf-8")


def test_calls_by_a_stub_arrive(run: Run, shop_url: str, tmp_path: Path) -> None:
    written = load(run("stub", "shop", "--url", shop_url).stdout, tmp_path / "stub_called.py")
    with Client(shop_url, errors=written.ERRORS) as client:
        found = client.service("shop", written.Shop)
        order = found.find(uuid.UUID(int=7), True)
        assert isinstance(order, written.Order)
        assert (order.id, order.lines[0].inside.sku, order.colour) == (uuid.UUID(int=7), "B", "blue")
        paper = written.Paper(paper_size=2.0, int_=5)
        assert found.deep_name(pay=paper) == paper
        assert found.deep_name(pay=written.Card(number="1"), to=[(1, "a")]) == written.Card(number="1")
        assert found.list_(colour="red", cash=written.Cash(kind="cash", coins={1})) == []
        assert found.anything(5, more=6) == [5, {"more": 6}]
        with pytest.raises(written.OutOfStock):
            found.sell("A")
        with pytest.raises(TypeError):
            found.find()
        with pytest.raises(InvalidParams):
            found.sell(5)


def test_the_same_description_gives_the_same_source(run: Run, shop_url: str, service: str) -> None:
    first = run("stub", "shop", "--url", shop_url).stdout
    assert first == run("stub", "shop", "--url", shop_url).stdout
    document = describe(shop(f"memory://{service}")._methods).document
    shuffled = {
        **document,
        "methods": document["methods"][::-1],
        "components": {kind: dict(reversed(each.items())) for kind, each in reversed(document["components"].items())},
    }
    assert first == source(shuffled, service="shop")


def test_a_file_that_cannot_be_written_is_said_to_be_such(run: Run, shop_url: str, tmp_path: Path) -> None:
    result = run("stub", "shop", "--url", shop_url, "-o", str(tmp_path / "none" / "x.py"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


@pytest.mark.parametrize("command", ["discover", "stub"])
@pytest.mark.parametrize(
    ("service", "more", "code"), [("nobody", [], 3), ("a b", [], 2), ("shop", ["--timeout", "0"], 2)]
)
def test_what_goes_wrong_is_one_line_and_a_number(
    run: Run, shop_url: str, command: str, service: str, more: list[str], code: int
) -> None:
    result = run(command, service, "--url", shop_url, *more)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("answer", [5, {}, {"info": {"version": "1"}, "methods": [{"name": 5}]}])
def test_an_answer_that_is_no_description_is_no_description(run: Run, service: str, answer: Any) -> None:
    server = shop(f"memory://{service}")
    server.start()
    try:
        server._serving._introspection._methods_of_all["rpc.discover"] = lambda _: answer  # type: ignore[union-attr]
        result = run("discover", "shop", "--url", f"memory://{service}")
    finally:
        server.stop()
    assert result.exit_code == 1
    assert "no description" in result.stderr


# -- what strangers say

EVIL = 'x"""\nimport os\nos.abort()\n"""'
HOSTILE: dict[str, Any] = {
    "info": {"version": EVIL},
    "methods": [
        {"name": EVIL, "params": []},
        {"name": "one", "summary": EVIL, "params": [{"name": EVIL, "schema": {"$ref": EVIL}}]},
        {"name": "two", "params": [{"name": "self"}, {"name": "x", "schema": {"enum": [EVIL]}}], "x-safety": EVIL},
        {"name": "three", "params": [{"name": "a", "schema": {"$ref": "#/components/schemas/" + EVIL}}]},
        {"name": "four", "params": "x", "result": 5, "x-timeout": float("inf"), "errors": 5},
        5,
    ],
    "components": {
        "schemas": {
            EVIL: {
                "type": "object",
                "description": EVIL,
                "required": EVIL,
                "properties": {
                    EVIL: {"type": "string", "default": EVIL},
                    "class": {"type": "number", "default": float("nan")},
                    "class_": {},
                    "__init__": {"type": "integer", "default": True},
                    "str": {"enum": [EVIL, 1.5]},
                    "kind": {"enum": [EVIL]},
                },
            },
            "class": {"type": "object", "properties": {"a": {"anyOf": [5, {"$ref": "#/components/schemas/loop"}]}}},
            "loop": {"$ref": "#/components/schemas/loop"},
            "all": {"anyOf": [], "discriminator": {"propertyName": "kind", "mapping": {"a": REF_EVIL}}},
        }
        if (REF_EVIL := "#/components/schemas/" + EVIL)
        else {},
        "errors": {EVIL: {"message": EVIL}, "late": {"message": EVIL}, "Shop": 5, "error": {"code": 5}},
    },
}


def test_words_of_strangers_cannot_leave_their_quotes(tmp_path: Path) -> None:
    text = source(HOSTILE, service="shop")
    module = load(text, tmp_path / "stub_hostile.py")
    assert sorted(name for name in vars(module.Shop) if not name.startswith("_")) == ["four", "one", "three", "two"]
    assert module.late.type if hasattr(module, "late") else module.Late.type == "late"


words = st.sampled_from(
    [
        "type", "string", "object", "array", "null", "integer", "format", "date", "anyOf", "items", "$ref", "enum",
        "prefixItems", "properties", "required", "default", "name", "class", "#/components/schemas/A", "A", EVIL,
    ]
)  # fmt: skip
trees: Any = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(trees, trees, trees)
def test_whatever_is_described_the_source_compiles(schema: Any, other: Any, whole: Any) -> None:
    document = {
        "info": {"version": "1"},
        "methods": [{"name": "x", "params": [{"name": "a", "schema": schema}], "result": {"schema": other}}],
        "components": {"schemas": {"A": schema, "B": {"type": "object", "properties": {"x": other, "int": schema}}}},
    }
    for each in (document, {"methods": whole, "components": whole, "info": whole}):
        compile(source(each, service="shop"), "stub", "exec", dont_inherit=True)
