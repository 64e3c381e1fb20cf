"""Access, priority and overload from end to end, over every transport."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from resilient_rpc import Admission, Client, Context, Overloaded, Refused, Server
from resilient_rpc.errors import NOT_EXECUTED
from resilient_rpc.events import AttemptEnded
from resilient_rpc.policies import Retry
from tests.contract.sides import Side
from tests.waiting import PATIENCE, until


class Shop:
    """A server with one slot, and a handler that holds it until the gate opens."""

    def __init__(self, side: Side, **settings: Any) -> None:
        self.service = side.service
        self.gate = threading.Event()
        self.ran: list[Any] = []
        self.seen: list[int] = []
        self.server = Server(side.url, service=side.service, concurrency=1, prefetch=50, **settings)
        self.server.method(self.hold)
        self.server.method(self.note)
        self.server.method(name="guarded", allow=lambda ctx: ctx.tags.get("role") == "clerk")(self.note)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.server.stop()

    def hold(self) -> None:
        self.ran.append("hold")
        assert self.gate.wait(PATIENCE)

    async def note(self, ctx: Context, number: int) -> int:
        self.seen.append(ctx.priority)
        self.ran.append(number)
        return number

    def name(self, method: str) -> str:
        return f"{self.service}.{method}"

    def held(self, client: Client) -> Any:
        future = client.submit(self.name("hold"))
        until(lambda: self.ran == ["hold"])
        return future


@pytest.fixture
def client(side: Side) -> Iterator[Client]:
    with Client(side.url, policies=[]) as made:
        yield made


def test_calls_of_a_higher_priority_begin_before_those_that_wait(side: Side, client: Client) -> None:
    with Shop(side) as shop:
        held = shop.held(client)
        futures = [
            client.submit(shop.name("note"), {"number": number}, priority=priority)
            for number, priority in enumerate([0, 3, 9, 3])
        ]
        client.cast(shop.name("note"), {"number": 4}, priority=5)
        until(lambda: shop.server.health()["waiting"] == 5)
        shop.gate.set()
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]
        held.result(PATIENCE)
        assert shop.ran == ["hold", 2, 4, 1, 3, 0]
        assert shop.seen == [9, 5, 3, 3, 0]


def test_calls_of_one_moment_share_messages_only_within_their_priority(side: Side, client: Client) -> None:
    with Shop(side) as shop:
        for number in range(3):  # so that it is known how quick the method is
            client.call(shop.name("note"), {"number": number})
        shop.seen.clear()
        futures = [
            client.submit(shop.name("note"), {"number": number}, priority=9 * (number % 2)) for number in range(40)
        ]
        assert [future.result(PATIENCE) for future in futures] == list(range(40))
        assert sorted(shop.seen) == [0] * 20 + [9] * 20


def test_who_is_not_allowed_is_told_that_nothing_was_executed(side: Side, client: Client) -> None:
    with Shop(side) as shop:
        assert client.call(shop.name("guarded"), {"number": 1}, tags={"role": "clerk"}) == 1
        with pytest.raises(Refused, match="not allowed") as info:
            client.call(shop.name("guarded"), {"number": 2}, tags={"role": "guest"})
        assert (info.value.certainty, info.value.retryable) == (NOT_EXECUTED, False)
        assert shop.ran == [1]
        assert shop.server.health()["refused"] == 1


def test_a_full_server_refuses_and_the_caller_tries_again_when_it_was_told_to(side: Side, client: Client) -> None:
    with Shop(side, admission=Admission(max_waiting=0)) as shop:
        held = shop.held(client)
        with pytest.raises(Overloaded) as info:
            client.call(shop.name("note"), {"number": 1})
        assert (info.value.certainty, info.value.retryable) == (NOT_EXECUTED, True)
        with Client(side.url, policies=[Retry(attempts=20)]) as patient:
            refused: list[Any] = []

            def attempted(event: AttemptEnded) -> None:
                refused.append(event.error)
                shop.gate.set()

            patient.on(AttemptEnded, attempted)
            assert patient.call(shop.name("note"), {"number": 2}, timeout=PATIENCE) == 2
            assert type(refused[0]) is Overloaded
            assert refused[-1] is None
        held.result(PATIENCE)
        assert shop.ran == ["hold", 2]
