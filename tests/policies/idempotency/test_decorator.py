"""`@idempotent` around functions of one's own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from resilient_rpc.context import current_context
from resilient_rpc.errors import ConfigurationError, KeyReused, RemoteError, UsageError
from resilient_rpc.policies import idempotent
from resilient_rpc.stores.base import RecordKey
from resilient_rpc.stores.errors import CorruptRecord
from resilient_rpc.stores.memory import MemoryStore
from tests.waiting import PATIENCE, until


class Receipt(msgspec.Struct):
    number: int
    amount: float


class Till:
    """Counts what was paid."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.paid: list[Any] = []


@pytest.fixture
def till() -> Till:
    return Till()


def test_a_plain_function_takes_effect_once(till: Till) -> None:
    @idempotent(till.store, key="order")
    def pay(order: str, amount: float = 1.0) -> Receipt:
        context = current_context()
        assert context is not None
        till.paid.append(context.fencing_token)
        return Receipt(len(till.paid), amount)

    assert pay("a", 2) == pay(order="a", amount=2) == Receipt(1, 2.0)
    assert pay("b") == Receipt(2, 1.0)
    assert till.paid == sorted(till.paid)
    assert current_context() is None
    assert pay.__name__ == "pay"
    with pytest.raises(KeyReused):
        pay("a", 3)


def test_a_coroutine_function_takes_effect_once(till: Till) -> None:
    @idempotent(till.store, key=lambda order, **_: f"order-{order}", name="shop.pay", tenant="acme")
    async def pay(order: int, **more: Any) -> Any:
        till.paid.append(order)
        await asyncio.sleep(0)
        return {"paid": len(till.paid), "more": [*more]}

    async def main() -> None:
        together = await asyncio.gather(*[pay(5, tip=1) for _ in range(10)])
        assert together == [{"paid": 1, "more": ["tip"]}] * 10
        record = await till.store.get(RecordKey("acme", "shop", "pay", "order-5"))
        assert record is not None
        assert record.progress == "ok"

    asyncio.run(main())


def test_threads_wait_for_the_first_one(till: Till) -> None:
    gate = threading.Event()

    @idempotent(till.store, key="order")
    def pay(order: str) -> int:
        till.paid.append(order)
        gate.wait(PATIENCE)
        return len(till.paid)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(pay, "a")
        until(lambda: till.paid)
        others = [pool.submit(pay, "a") for _ in range(4)]
        gate.set()
        assert [future.result(PATIENCE) for future in (first, *others)] == [1] * 5


def test_an_exception_is_an_answer_unless_it_is_to_be_abandoned(till: Till) -> None:
    @idempotent(till.store, key="order", abandon_on=(ConnectionError,))
    def pay(order: str) -> None:
        till.paid.append(order)
        if order == "down":
            raise ConnectionResetError
        if order == "refused":
            raise PermissionError("no money")

    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            pay("down")
    with pytest.raises(PermissionError):
        pay("refused")
    with pytest.raises(RemoteError, match="no money") as again:
        pay("refused")
    assert again.value.type == "PermissionError"
    assert pay("x") is pay("x") is None
    assert till.paid == ["down", "down", "refused", "x"]
    assert current_context() is None


def test_where_no_type_is_named_plain_values_come_back(till: Till) -> None:
    @idempotent(till.store, key="order")
    def pay(order: str) -> Any:
        return (order, b"raw")

    assert pay("a") == ("a", b"raw")
    assert pay("a") == ["a", b"raw"]


def test_a_record_of_another_type_is_corrupt(till: Till) -> None:
    def make(kind: Any) -> Any:
        def pay(order: str) -> Any:
            return "text"

        pay.__annotations__["return"] = kind
        return idempotent(till.store, key="order", name="shop.pay")(pay)

    make(str)("a")
    with pytest.raises(CorruptRecord, match="return type"):
        make(int)("a")


@pytest.mark.parametrize("key", [5, "", None, "x" * 256])
def test_a_key_is_a_text(till: Till, key: Any) -> None:
    @idempotent(till.store, key="order")
    def pay(order: Any) -> None:
        till.paid.append(order)

    with pytest.raises(UsageError, match="key"):
        pay(key)
    assert till.paid == []


def test_mistakes_are_found_when_it_is_made(till: Till) -> None:
    with pytest.raises(ConfigurationError, match="no parameter 'orders'"):

        @idempotent(till.store, key="orders")
        def pay(order: str) -> None: ...

    with pytest.raises(ConfigurationError, match="lease"):
        idempotent(till.store, key="order", lease=-1)
    with pytest.raises(TypeError):
        idempotent(till.store, key="order", nonsense=1)


def test_a_wrong_call_is_the_functions_own_error(till: Till) -> None:
    @idempotent(till.store, key="order")
    def pay(order: str) -> None: ...

    with pytest.raises(TypeError):
        pay()  # type: ignore[call-arg]
