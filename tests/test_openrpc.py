"""The description of a service: valid OpenRPC, complete, and of the same version wherever the contract is the same."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import functools
import json
import typing
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT7

from resilient_rpc import ApplicationError, Context, Server
from resilient_rpc.openrpc import OPENRPC, Description, describe

SCHEMAS = Path(__file__).parent / "openrpc"


@functools.cache
def validator() -> Any:
    """Of OpenRPC documents, with the schema of JSON schemas at the address where OpenRPC's own looks for it."""
    found = {name: json.loads((SCHEMAS / f"{name}.json").read_text("utf-8")) for name in ("openrpc", "json-schema")}
    resource = DRAFT7.create_resource(found["json-schema"])
    registry: Any = Registry().with_resources([(f"https://meta.json-schema.tools{end}", resource) for end in ("", "/")])
    return jsonschema.Draft7Validator(found["openrpc"], registry=registry)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    """One line of an order."""

    sku: str
    qty: int = 1
    parent: Item | None = None


@dataclass
class Order:
    id: uuid.UUID
    lines: list[Item]
    total: decimal.Decimal
    colour: Colour
    description: str = ""


class Filter(typing.TypedDict, total=False):
    summary: str


class Opaque:
    pass


def get(ctx: Context, order: uuid.UUID, /, deep: bool = False) -> Order:
    """Get an order.

    With *all* of its lines.
    """
    raise NotImplementedError


async def put(
    order: Order,
    note: str = "",
    *,
    flt: Filter,
    raw: bytes = b"",
    pair: tuple[int, str] = (1, ""),
    choice: Literal["a", 1] = "a",
    count: Annotated[int, msgspec.Meta(ge=0)] = 0,
    when: dt.timedelta | None = None,
) -> Opaque:
    raise NotImplementedError


def many(*values: int, **named: str) -> Iterator[Opaque]:
    raise NotImplementedError


def untyped(anything, ids: set[int] | None = None):  # noqa: ANN001, ANN201 - as users write them
    raise NotImplementedError


def nothing() -> None:
    raise NotImplementedError


FUNCTIONS: list[Callable[..., Any]] = [get, put, many, untyped, nothing]


def service(*functions: Callable[..., Any], name: str = "shop", **settings: Any) -> Server:
    server = Server("memory://openrpc", service=name)
    for function in functions:
        server.method(**settings)(function)
    return server


def described(server: Server) -> Description:
    return describe(server._methods)


def methods(found: Description) -> dict[str, Any]:
    return {each["name"]: each for each in found.document["methods"]}


def test_the_document_is_valid() -> None:
    server = service(*FUNCTIONS, safety="read_only", timeout=1.5)
    server.method(name="deep.name")(functools.partial(get, uuid.UUID(int=1)))
    server.method(Item)

    @server.error("out_of_stock")
    class OutOfStock(ApplicationError):
        """Nothing left.

        Ask again tomorrow.
        """

    document = described(server).document
    validator().validate(document)
    assert document["openrpc"] == OPENRPC
    assert document["info"]["title"] == "shop"
    assert [each["name"] for each in document["methods"]] == [
        "Item", "deep.name", "get", "many", "nothing", "put", "untyped",
    ]  # fmt: skip
    assert document["components"]["errors"] == {
        "out_of_stock": {"code": -32000, "message": "Nothing left.", "data": {"type": "out_of_stock"}}
    }


def test_a_wrong_document_would_be_noticed() -> None:
    document = described(service(get)).document
    for wrong in (
        {**document, "openrpc": "9.9"},
        {**document, "methods": [{"name": "x"}]},
        {**document, "methods": [{**document["methods"][0], "safety": "read_only"}]},
        {**document, "components": {"schemas": {"X": {"type": 5}}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator().validate(wrong)


def test_a_method_is_described_with_what_a_caller_needs_to_know() -> None:
    found = methods(described(service(get, safety="read_only", timeout=1.5)))
    assert found["get"] == {
        "name": "get",
        "summary": "Get an order.",
        "description": "With *all* of its lines.",
        "paramStructure": "by-position",
        "params": [
            {"name": "order", "required": True, "schema": {"type": "string", "format": "uuid"}},
            {"name": "deep", "required": False, "schema": {"type": "boolean"}},
        ],
        "result": {"name": "result", "schema": {"$ref": "#/components/schemas/Order"}},
        "x-safety": "read_only",
        "x-timeout": 1.5,
    }


def test_what_is_not_said_is_left_open() -> None:
    found = methods(described(service(untyped, many, nothing)))
    assert found["untyped"]["params"][0] == {"name": "anything", "required": True, "schema": {}}
    assert found["untyped"]["result"]["schema"] == {}
    assert found["many"]["x-open"] is True
    assert found["many"]["params"] == []
    assert found["many"]["result"]["schema"] == {}  # an iterator has no schema
    assert found["nothing"]["result"]["schema"] == {"type": "null"}
    assert not {"x-safety", "x-timeout", "errors", "summary"} & set(found["nothing"])


def test_required_arguments_stand_first_and_keywords_are_said_to_be_such() -> None:
    found = methods(described(service(put)))["put"]
    assert [(each["name"], each["required"]) for each in found["params"]][:3] == [
        ("order", True), ("flt", True), ("note", False),
    ]  # fmt: skip
    assert found["paramStructure"] == "by-name"
    assert found["result"]["schema"] == {}  # a class that nothing describes


def test_named_types_stand_among_the_components() -> None:
    schemas = described(service(get, put)).document["components"]["schemas"]
    assert list(schemas) == ["Colour", "Filter", "Item", "Order"]
    assert schemas["Item"]["properties"]["parent"]["anyOf"][0] == {"$ref": "#/components/schemas/Item"}


class TestVersion:
    def test_it_is_that_of_the_contract(self) -> None:
        one = service(get, put, nothing)
        other = service(nothing, put, get)
        assert described(one).version == described(other).version == described(one).document["info"]["version"]

    def test_prose_is_no_part_of_it(self) -> None:
        def with_words(value: str) -> Filter:
            """Words."""
            return {}

        def other_words(value: str) -> Filter:
            """Other words.

            And more.
            """
            return {}

        one, other = (Server("memory://openrpc", service="shop") for _ in range(2))
        one.method(name="x")(with_words)
        other.method(name="x")(other_words)
        assert described(one).version == described(other).version

    def test_everything_else_is(self) -> None:
        def first(value: str) -> str:
            return value

        def optional(value: str = "") -> str:
            return value

        def other_type(value: int) -> str:
            return str(value)

        def other_result(value: str) -> int:
            return len(value)

        def field(value: str) -> Filter:
            return {}

        settings: list[dict[str, Any]] = [
            {}, {"safety": "read_only"}, {"safety": "idempotent"}, {"timeout": 1}, {"timeout": 2},
        ]  # fmt: skip
        servers = [service(first, **each) for each in settings]
        for function in (optional, other_type, other_result, field):
            function.__name__ = "first"
            servers.append(service(function))
        servers.append(service(first, name="other"))
        with_error = service(first)
        with_error.error("late")(type("Late", (ApplicationError,), {}))
        servers.append(with_error)
        versions = {described(server).version for server in servers}
        assert len(versions) == len(servers)
        assert all(len(version) == 12 and int(version, 16) for version in versions)
