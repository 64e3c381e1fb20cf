"""`method`: what of a class is served, with which settings, and what a mark cannot stand on."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import ApplicationError, Client, ConfigurationError, Context, MethodNotFound, Safety, Server, method
from resilient_rpc.contract import Method
from resilient_rpc.declaring import Declared, declarations

_numbers = itertools.count(1)


class Prices(ABC):
    """A contract that several classes keep."""

    @method(safety="read_only", timeout=2.0)
    @abstractmethod
    def price(self, sku: str) -> float: ...

    @method
    def currency(self) -> str:
        return "EUR"

    @method
    def gone(self) -> str:
        return "not served by those that set it to None"


class Shop(Prices):
    def __init__(self, discount: float = 1.0) -> None:
        self.discount, self.sold = discount, 0

    def price(self, sku: str) -> float:
        return len(sku) * self.discount

    @method(name="sell", safety="unsafe", concurrency=3, allow=bool)
    async def sell_one(self, ctx: Context, sku: str) -> int:
        await asyncio.sleep(0)
        self.sold += 1
        return self.sold

    gone = None  # type: ignore[assignment]

    @method
    @staticmethod
    def twice(value: int) -> int:
        return 2 * value

    @method
    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    def secret(self) -> str:
        return "not for callers"

    @property
    def trouble(self) -> str:
        raise AssertionError("nobody reads the properties of what is served")


@pytest.fixture
def url() -> str:
    return f"memory://declaring-{next(_numbers)}"


def served(server: Server) -> dict[str, Method]:
    return {found.name: found for found in server._methods}


@pytest.fixture
def serve(url: str) -> Iterator[Any]:
    servers: list[Server] = []

    def start(server: Server) -> Client:
        servers.append(server)
        server.start()
        return Client(url)

    yield start
    for server in servers:
        server.stop()


def test_marked_methods_are_found_with_what_they_declare() -> None:
    assert declarations(Shop) == {
        "currency": Declared(),
        "kind": Declared(),
        "price": Declared(safety=Safety.READ_ONLY, timeout=2.0),
        "sell_one": Declared(name="sell", safety=Safety.UNSAFE, concurrency=3, allow=bool),
        "twice": Declared(),
    }


def test_an_override_may_be_marked_anew() -> None:
    class Other(Shop):
        @method(safety="idempotent")
        def price(self, sku: str) -> float:
            return 1.0

    assert declarations(Other)["price"] == Declared(safety=Safety.IDEMPOTENT)


def test_an_object_is_served_with_its_own_state(url: str, serve: Any) -> None:
    server = Server(url, service="shop")
    server.add(Shop(discount=0.5))
    assert {name: (m.safety, m.timeout) for name, m in served(server).items()} == {
        "currency": (None, None),
        "kind": (None, None),
        "price": (Safety.READ_ONLY, 2.0),
        "sell": (Safety.UNSAFE, None),
        "twice": (None, None),
    }
    assert (served(server)["sell"].concurrency, served(server)["sell"].allow) == (3, (bool,))
    with serve(server) as client:
        assert client.call("shop.price", ["abcd"]) == 2.0
        assert [client.call("shop.sell", {"sku": "a"}) for _ in range(2)] == [1, 2]
        assert (client.call("shop.twice", [4]), client.call("shop.kind"), client.call("shop.currency")) == (
            8, "Shop", "EUR",
        )  # fmt: skip
        for name in ("secret", "gone", "sell_one", "trouble"):
            with pytest.raises(MethodNotFound):
                client.call(f"shop.{name}")


def test_two_objects_of_one_class_cannot_take_the_same_names(url: str) -> None:
    server = Server(url, service="shop")
    server.add(Shop())
    with pytest.raises(ConfigurationError, match="registered already"):
        server.add(Shop())


def test_a_class_is_served_by_a_decorator(url: str, serve: Any) -> None:
    server = Server(url, service="shop")

    @server.add
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        @method
        async def next(self) -> int:
            self.count += 1
            return self.count

    assert Counter().count == 0
    with serve(server) as client:
        assert [client.call("shop.next") for _ in range(3)] == [1, 2, 3]


class Empty:
    def nothing(self) -> None: ...


class Needy:
    def __init__(self, database: object) -> None: ...

    @method
    def read(self) -> None: ...


class Private:
    @method
    def _hidden(self) -> None: ...


class Taken:
    @method(name="rpc.discover")
    def discover(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "what"),
    [(Empty, "@method"), (Needy, "make it yourself"), (Private, "_hidden"), (Taken, "reserved"), (5, "@method")],
)  # fmt: skip
def test_a_class_that_cannot_be_served_is_found_when_it_is_registered(url: str, kind: Any, what: str) -> None:
    server = Server(url, service="shop")
    with pytest.raises(ConfigurationError, match=what):
        server.add(kind)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "_x"},
        {"name": 5},
        {"safety": "perhaps"},
        {"timeout": 0},
        {"timeout": True},
        {"concurrency": 0},
        {"allow": 5},
    ],
)
def test_a_mark_that_is_wrong_is_found_when_it_is_made(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        method(**settings)


@pytest.mark.parametrize("target", [5, Empty, property(len)])
def test_a_mark_stands_on_a_method(target: Any) -> None:
    with pytest.raises(ConfigurationError, match="methods of a class"):
        method(target)


class TestErrors:
    def test_an_error_crosses_the_wire_by_its_name(self, url: str, serve: Any) -> None:
        server = Server(url, service="shop")

        @server.error("out_of_stock")
        class OutOfStock(ApplicationError): ...

        @server.method
        def sell() -> None:
            raise OutOfStock("none left", details={"sku": "A1"})

        assert OutOfStock.type == "out_of_stock"
        with serve(server), Client(url, errors=[OutOfStock]) as client:
            with pytest.raises(OutOfStock) as caught:
                client.call("shop.sell")
            assert (caught.value.type, caught.value.details) == ("out_of_stock", {"sku": "A1"})

    def test_it_may_have_a_name_for_several_servers(self, url: str) -> None:
        class Late(ApplicationError):
            type = "late"

        class Later(Late): ...

        for service in ("one", "other"):
            server = Server(url, service=service)
            assert server.error("late")(Late) is Late
            assert server.error("late")(Late) is Late
            assert server.error("later")(Later).type == "later"
            assert server._methods.errors == {"late": Late, "later": Later}

    def test_what_cannot_have_it_is_refused(self, url: str) -> None:
        server = Server(url, service="shop")

        class One(ApplicationError): ...

        class Other(ApplicationError): ...

        server.error("taken")(One)
        refused: list[tuple[Any, Any]] = [
            ("x", ApplicationError), ("x", ValueError), ("x", 5), ("other", One), ("taken", Other), ("a b", Other),
            (Other, Other),
        ]  # fmt: skip
        for name, kind in refused:
            with pytest.raises(ConfigurationError, match="error"):
                server.error(name)(kind)
        assert Other.type == ""
