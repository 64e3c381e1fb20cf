"""Results of declared types, and typed services, over every transport."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypedDict, TypeVar

import msgspec
import pytest

from resilient_rpc import ApplicationError, AsyncClient, Certainty, Client, Contract, Server, Unroutable, remote
from resilient_rpc.errors import ConfigurationError, MalformedMessage
from tests.colours import Colour
from tests.contract.sides import Side

T = TypeVar("T")


class Colours(enum.Enum):
    RED = "red"


@dataclass
class Part:
    sku: str
    tags: list[str] = field(default_factory=list)


class Box(msgspec.Struct, Generic[T]):
    content: T
    count: int = 1


class Point(NamedTuple):
    x: int
    y: int


class Row(TypedDict):
    id: int


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class Shop(Contract, Protocol):
    @remote(safety="read_only", timeout=10.0)
    def part(self, sku: str, tags: list[str] | None = None) -> Part: ...

    def total(self, *values: int) -> int: ...

    @remote(name="sold_out")
    def buy(self) -> None: ...


class AsyncShop(Contract, Protocol):
    async def part(self, sku: str, tags: list[str] | None = None) -> Part: ...


@pytest.fixture
def server(side: Side) -> Iterator[Server]:
    made = Server(side.url, service=side.service)

    @made.method
    async def echo(value: Any = None) -> Any:
        return value

    @made.method
    def part(sku: str, tags: list[str] | None = None) -> Part:
        return Part(sku, tags or [])

    @made.method
    def total(*values: int) -> int:
        return sum(values)

    @made.method
    def sold_out() -> None:
        raise OutOfStock("none left")

    made.start()
    yield made
    made.stop()


VALUES = [
    (float, 3, 3.0),
    (int | None, None, None),
    (Part, {"sku": "A1", "tags": ["x"]}, Part("A1", ["x"])),
    (list[Part], [{"sku": "A1"}], [Part("A1")]),
    (dict[str, Part], {"a": {"sku": "A1"}}, {"a": Part("A1")}),
    (Box[int], {"content": 1}, Box(1)),
    (Box[list[Part]], {"content": [{"sku": "A1"}], "count": 2}, Box([Part("A1")], 2)),
    (Point, [1, 2], Point(1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2, 2], {1, 2}),
    (Row, {"id": 1}, {"id": 1}),
    (Colours, "red", Colours.RED),
    (dt.date, "2026-01-02", dt.date(2026, 1, 2)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (bytes, "aGk=", b"hi"),
    (Annotated[int, msgspec.Meta(ge=1)], 1, 1),
    (type(None), None, None),
]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_results_come_as_the_type_that_was_declared(server: Server, side: Side, colour: Colour, codec: str) -> None:
    client = colour.client(side.url, codec=codec)
    for type_, sent, expected in VALUES:
        if (codec, type_) == ("msgpack", bytes):  # there it has a form of its own
            sent = b"hi"  # noqa: PLW2901
        found = colour.call(client, f"{side.service}.echo", [sent], returns=type_, timeout=10.0)
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("type_", "sent", "path"),
    [
        (int, "three", ""),
        (Part, {"tags": []}, "sku"),
        (list[Part], [{"sku": "A1"}, {"sku": 1}], r"\$\[1\]\.sku"),
        (Box[int], {"content": "x"}, r"\$\.content"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, ""),
        (type(None), 0, ""),
    ],
)
def test_another_type_is_an_error_that_names_the_place_and_says_executed(
    server: Server, side: Side, colour: Colour, type_: Any, sent: Any, path: str
) -> None:
    client = colour.client(side.url)
    with pytest.raises(
        MalformedMessage, match=rf"{side.service}\.echo: the result is not what was declared.*{path}"
    ) as caught:
        colour.call(client, f"{side.service}.echo", [sent], returns=type_, timeout=10.0)
    assert caught.value.certainty is Certainty.EXECUTED
    assert not caught.value.retryable


def test_a_type_that_cannot_be_decoded_is_refused(server: Server, side: Side, colour: Colour) -> None:
    client = colour.client(side.url)
    with pytest.raises(ConfigurationError, match="cannot be decoded"):
        colour.call(client, f"{side.service}.echo", [1], returns=dict[int, str] | dict[str, int], timeout=10.0)


def test_a_typed_service_calls_what_its_contract_says(server: Server, side: Side) -> None:
    with Client(side.url, errors=[OutOfStock]) as client:
        shop = client.service(side.service, Shop)
        assert shop.part("A1") == Part("A1")
        assert shop.with_(timeout=5.0).part("A1", tags=["x"]) == Part("A1", ["x"])
        assert shop.total(1, 2, 3) == 6
        with pytest.raises(OutOfStock):
            shop.buy()

    async def scenario() -> None:
        async with AsyncClient(side.url) as client:
            shop = client.service(side.service, AsyncShop)
            assert await shop.part("A1", ["x"]) == Part("A1", ["x"])

    asyncio.run(scenario())


def test_one_client_calls_several_services_whether_they_live_or_not(server: Server, side: Side, colour: Colour) -> None:
    other = Server(side.url, service=f"{side.service}b", name="other")
    other.method(lambda: "other", name="who")
    other.start()
    client = colour.client(side.url, errors=[OutOfStock], policies=[])
    names = [f"{side.service}.part", f"{side.service}b.who", f"{side.service}dead.part", f"{side.service}.sold_out"]
    params: list[Any] = [["A1"], [], ["A1"], []]
    calls: list[Any] = [
        lambda name=name, given=given: colour.call(client, name, given, timeout=10.0)
        for _ in range(20)
        for name, given in zip(names, params, strict=True)
    ]
    found = colour.together(*calls)
    for at in range(0, len(found), 4):
        part, who, dead, sold_out = found[at : at + 4]
        assert (part, who) == ({"sku": "A1", "tags": []}, "other")
        assert (type(dead), type(sold_out)) == (Unroutable, OutOfStock)
    other.stop()
