from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
import pytest

from resilient_rpc import AsyncClient, Client, Contract, Safety, remote
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.typed import typed_service
from resilient_rpc.wire.codec import JSON

T = TypeVar("T")


@dataclass
class Order:
    sku: str
    qty: int = 1


class Orders(Contract, Protocol):
    def price(self, sku: str, qty: int = 1) -> float: ...

    @remote(safety="read_only", timeout=2.0, name="find_all")
    def find(self, text: str, *, limit: int = 10) -> list[Order]: ...

    def close(self) -> None: ...

    def anything(self, value: Any) -> Any: ...

    def untyped(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        ...

    def many(self, *values: int) -> int: ...

    def placed(self, first: int, /, second: int = 2) -> int: ...

    def named(self, one: int, **more: int) -> int: ...

    @remote(safety="unsafe")
    def create(self, sku: str) -> str: ...


class Line(Protocol[T]):
    def one(self) -> T: ...

    def all(self) -> list[T]: ...

    def fixed(self) -> list[int]: ...


Sent = list[tuple[str, Any, dict[str, Any]]]


def made(contract: Any = Orders, *, awaits: bool = False) -> tuple[Any, Sent]:
    calls: Sent = []

    def send(method: str, params: Any, **how: Any) -> str:
        calls.append((method, params, how))
        return "sent"

    return typed_service(send, "orders", contract, JSON, awaits=awaits), calls


def test_arguments_are_bound_to_the_names_of_the_contract_and_defaults_are_not_sent() -> None:
    orders, calls = made()
    assert orders.price("A1") == "sent"
    orders.price("A1", 2)
    orders.price("A1", qty=2)
    orders.price(qty=2, sku="A1")
    orders.close()
    assert [params for _, params, _ in calls] == [
        {"sku": "A1"}, {"sku": "A1", "qty": 2}, {"sku": "A1", "qty": 2}, {"qty": 2, "sku": "A1"}, {},
    ]  # fmt: skip
    assert {method for method, _, _ in calls} == {"orders.price", "orders.close"}


@pytest.mark.parametrize(
    ("call", "params"),
    [
        (lambda orders: orders.many(1, 2, 3), (1, 2, 3)),
        (lambda orders: orders.many(), ()),
        (lambda orders: orders.placed(1), (1,)),
        (lambda orders: orders.placed(1, 2), (1, 2)),
        (lambda orders: orders.named(1, two=2, three=3), {"one": 1, "two": 2, "three": 3}),
        (lambda orders: orders.find("a", limit=3), {"text": "a", "limit": 3}),
    ],
)
def test_what_has_no_name_goes_by_position(call: Callable[[Any], Any], params: Any) -> None:
    orders, calls = made()
    call(orders)
    assert calls[0][1] == params


@pytest.mark.parametrize(
    "call",
    [
        lambda orders: orders.price(),
        lambda orders: orders.price("A1", 2, 3),
        lambda orders: orders.price("A1", sku="A1"),
        lambda orders: orders.price("A1", amount=1),
        lambda orders: orders.find("a", 3),
        lambda orders: orders.close(1),
        lambda orders: orders.placed(first=1),
        lambda orders: orders.placed(1, second=2),
        lambda orders: orders.many(1, values=2),
    ],
)
def test_arguments_that_the_contract_does_not_take_are_refused_before_anything_is_sent(
    call: Callable[[Any], Any],
) -> None:
    orders, calls = made()
    with pytest.raises(TypeError, match=r"^orders\.\w+\(\): "):
        call(orders)
    assert calls == []


def test_types_safety_timeout_and_name_come_from_the_contract_and_the_call_goes_before() -> None:
    orders, calls = made()
    orders.price("A1")
    orders.find("a")
    orders.close()
    orders.anything(1)
    orders.untyped(1)
    orders.with_(timeout=1.0, safety="idempotent", returns=int).find("a")
    assert [(method, how) for method, _, how in calls] == [
        ("orders.price", {"returns": float}),
        ("orders.find_all", {"returns": list[Order], "safety": Safety.READ_ONLY, "timeout": 2.0}),
        ("orders.close", {"returns": type(None)}),
        ("orders.anything", {}),
        ("orders.untyped", {}),
        ("orders.find_all", {"returns": int, "safety": "idempotent", "timeout": 1.0}),
    ]


def test_a_key_makes_an_unsafe_method_dedup_and_leaves_the_others() -> None:
    orders, calls = made()
    orders.create("A1")
    orders.with_(idempotency_key="k").create("A1")
    orders.with_(idempotency_key="k", safety="unsafe").create("A1")
    orders.with_(idempotency_key="k").find("a")
    assert [how.get("safety") for _, _, how in calls] == ["unsafe", None, "unsafe", "read_only"]


def test_with_leaves_the_service_that_it_was_asked_of_as_it_was() -> None:
    orders, calls = made()
    orders.price("A1")
    quick = orders.with_(timeout=1.0)
    quick.with_(tags={"a": "b"}).price("A1")
    orders.price("A1")
    assert [how.get("timeout") for _, _, how in calls] == [None, 1.0, None]
    assert calls[1][2]["tags"] == {"a": "b"}


def test_type_variables_stand_for_what_the_contract_was_given() -> None:
    lines, calls = made(Line[Order])
    lines.one()
    lines.all()
    lines.fixed()
    unbound, more = made(Line)
    unbound.one()
    unbound.all()
    assert [how["returns"] for _, _, how in calls] == [Order, list[Order], list[int]]
    assert [how.get("returns") for _, _, how in more] == [None, list[Any]]


def test_methods_are_inherited_and_overridden() -> None:
    class More(Orders, Protocol):
        def price(self, sku: str, currency: str) -> int: ...

        def extra(self) -> str: ...

    orders, calls = made(More)
    orders.price("A1", "EUR")
    orders.extra()
    orders.close()
    assert calls[0] == ("orders.price", {"sku": "A1", "currency": "EUR"}, {"returns": int})


def test_a_class_that_is_no_protocol_is_a_contract_as_well() -> None:
    class Plain(Generic[T]):
        def ping(self) -> Annotated[str, msgspec.Meta(max_length=4)]:
            raise NotImplementedError

    plain, calls = made(Plain)
    plain.ping()
    assert calls[0][0] == "orders.ping"
    assert "ping" in dir(plain)
    assert repr(plain) == "TypedService('orders' as Plain)"


@pytest.mark.parametrize("name", ["cost", "_price", "__len__"])
def test_what_the_contract_does_not_have_is_no_attribute(name: str) -> None:
    orders, _ = made()
    with pytest.raises(AttributeError, match=name):
        getattr(orders, name)


def test_coroutines_are_for_async_clients_and_the_other_way_round() -> None:
    class Later(Protocol):
        async def price(self, sku: str) -> float: ...

        def soon(self) -> Awaitable[int]: ...

        def then(self) -> Coroutine[Any, Any, str]: ...

    later, calls = made(Later, awaits=True)
    later.price("A1")
    later.soon()
    later.then()
    assert [how["returns"] for _, _, how in calls] == [float, int, str]
    with pytest.raises(ConfigurationError, match=r"Later\.price: .*AsyncClient"):
        Client("memory://typed").service("orders", Later)
    with pytest.raises(ConfigurationError, match=r"Orders\.price: AsyncClient wants"):
        AsyncClient("memory://typed").service("orders", Orders)


class Unsupported(Protocol):
    def price(self) -> dict[int, str] | dict[str, int]: ...


class Unreadable(Protocol):
    def price(self) -> NoSuchType: ...  # type: ignore[name-defined]  # noqa: F821


class Constant(Protocol):
    price: float = 1.0


class Property(Protocol):
    @property
    def price(self) -> float: ...


class Static(Protocol):
    @staticmethod
    def price() -> float: ...


class Empty(Protocol):
    _hidden: int


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        (Unsupported, r"Unsupported\.price: .*cannot be decoded"),
        (Unreadable, r"Unreadable\.price: an annotation cannot be read: .*NoSuchType"),
        (Constant, r"Constant\.price is no method"),
        (Property, r"Property\.price is no method"),
        (Static, r"Static\.price is no method"),
        (Empty, "it has no methods"),
        ("Orders", "contract='Orders': give a class"),
        (Order(""), "give a class"),
    ],
)
def test_a_contract_that_cannot_be_one_is_refused_when_it_is_given(contract: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        made(contract)


@pytest.mark.parametrize(
    ("how", "says"),
    [({"safety": "maybe"}, "safety='maybe'"), ({"timeout": 0}, "timeout=0"), ({"name": "_x"}, "name '_x'")],
)
def test_what_remote_is_told_is_checked(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        remote(**how)


def test_remote_leaves_the_function_as_it_is() -> None:
    def price() -> float:
        return 1.0

    assert remote(safety="read_only")(price) is price
    assert price() == 1.0
