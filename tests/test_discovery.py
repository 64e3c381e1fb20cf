"""What services say of themselves, asked in both colours and virtual time."""

from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_rpc.call import Safety
from resilient_rpc.discovery import NOTHING, PATIENCE, PAUSE, VALID, Discovery, Table
from resilient_rpc.errors import MethodNotFound, NotConnected
from resilient_rpc.events import ServiceDiscovered
from resilient_rpc.hub import Events
from resilient_rpc.policy import Runtime
from tests.runtimes import Bench


def document(version: str = "v1", **methods: Any) -> dict[str, Any]:
    return {
        "info": {"version": version, "title": "orders"},
        "methods": [{"name": name, **each} for name, each in methods.items()],
    }


READ = document(price={"x-safety": "read_only", "x-timeout": 2.5})


class Service:
    """Says what it is told to, after a while; an error is raised."""

    def __init__(self, *says: Any, after: float = 0.1) -> None:
        self.says, self.after = list(says), after
        self.asked: list[float] = []

    async def __call__(self, runtime: Runtime, service: str, deadline: float) -> Any:
        self.asked.append(runtime.now())
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        wait = min(self.after, deadline - runtime.now())
        await runtime.sleep(wait)
        if wait < self.after or isinstance(said, Exception):
            raise said if isinstance(said, Exception) else TimeoutError
        return said


class Asking:
    """A `Discovery`, and how to ask it."""

    def __init__(self, runtime: Bench, *says: Any, after: float = 0.1) -> None:
        self.runtime, self.service, self.events = runtime, Service(*says, after=after), Events()
        self.heard: list[ServiceDiscovered] = []
        self.events.on(ServiceDiscovered, self.heard.append)
        self.discovery = Discovery(self.service, self.events)

    async def of(self, service: str = "orders", *, timeout: float = 30.0) -> Table:
        port = self.runtime.port
        return await self.discovery.of(port, service, port.now() + timeout)

    def table(self, service: str = "orders", *, timeout: float = 30.0) -> Table:
        return self.runtime.run(lambda: self.of(service, timeout=timeout))

    @property
    def asked(self) -> int:
        return len(self.service.asked)


def test_a_service_is_asked_once_for_a_minute(runtime: Bench) -> None:
    asking = Asking(runtime, READ)
    assert asking.table()["price"][:2] == (Safety.READ_ONLY, 2.5)
    assert asking.table().get("other", NOTHING) == (None, None, None)
    runtime.advance(VALID - 0.2)
    assert asking.table()
    assert asking.asked == 1
    runtime.advance(0.3)
    assert asking.table()
    assert asking.asked == 2
    assert [(each.version, each.methods, each.error) for each in asking.heard] == [("v1", 1, None)] * 2


def test_all_that_want_to_know_at_once_ask_one_question(runtime: Bench) -> None:
    asking = Asking(runtime, READ, after=0.5)
    tables = runtime.together(*[asking.of] * 5, lambda: asking.of("stock"))
    assert all("price" in table for table in tables)
    assert asking.asked == 2
    assert runtime.passed == pytest.approx(0.5)


def test_another_version_in_a_reply_has_it_asked_anew(runtime: Bench) -> None:
    asking = Asking(runtime, READ, document("v2", price={"x-safety": "unsafe"}))
    assert asking.table()["price"].safety is Safety.READ_ONLY
    asking.discovery.answered("orders", "v1")
    asking.discovery.answered("orders", None)
    asking.discovery.answered("stock", "v9")
    runtime.advance(PAUSE)
    asking.table()
    assert asking.asked == 1
    asking.discovery.answered("orders", "v2")
    assert asking.table()["price"].safety is Safety.UNSAFE
    assert asking.asked == 2


def test_a_method_that_is_not_there_has_it_asked_anew(runtime: Bench) -> None:
    asking = Asking(runtime, READ, document("v1", price={}, late={}))
    assert "late" not in asking.table()
    runtime.advance(PAUSE)
    asking.discovery.missed("orders")
    assert "late" in asking.table()


def test_it_is_asked_at_most_once_in_ten_seconds(runtime: Bench) -> None:
    asking = Asking(runtime, READ, document("v2", price={"x-safety": "idempotent"}), after=0.0)
    asking.table()
    for _ in range(20):  # half of the servers have another contract: what was heard last counts meanwhile
        asking.discovery.answered("orders", "v2")
        assert asking.table()["price"].safety is Safety.READ_ONLY
        runtime.advance(PAUSE / 21)
    runtime.advance(PAUSE / 21)
    assert asking.table()["price"].safety is Safety.IDEMPOTENT
    assert asking.asked == 2


@pytest.mark.parametrize(
    "answer", [NotConnected("nobody"), MethodNotFound("what?"), ValueError("x"), None, 5, [], {}, {"info": {}}]
)
def test_who_does_not_answer_declares_nothing_and_is_not_waited_for_again(runtime: Bench, answer: Any) -> None:
    asking = Asking(runtime, answer, answer, READ, after=0.3)
    assert asking.table() == {}
    assert runtime.passed == pytest.approx(0.3)
    runtime.advance(PAUSE - 1)
    assert asking.table() == {}
    assert asking.asked == 1
    runtime.advance(1)
    before = runtime.passed
    assert asking.table() == {}  # asked, and not waited for
    assert (asking.asked, runtime.passed) == (2, before)
    runtime.advance(PAUSE)
    assert asking.table() == {}
    runtime.advance(1)
    assert asking.table()["price"].safety is Safety.READ_ONLY  # the third answer came meanwhile
    assert asking.asked == 3
    assert [each.error is None for each in asking.heard] == [False, False, True]


def test_a_silent_service_holds_nobody_for_long(runtime: Bench) -> None:
    asking = Asking(runtime, READ, after=math.inf)
    assert runtime.together(*[asking.of] * 3, lambda: asking.of(timeout=1.0)) == [{}] * 4
    assert runtime.passed == pytest.approx(PATIENCE)
    assert asking.asked == 1


def test_a_call_waits_no_longer_than_half_of_its_time(runtime: Bench) -> None:
    asking = Asking(runtime, READ, after=1.0)
    assert asking.table(timeout=0.4) == {}
    assert runtime.passed == pytest.approx(0.2)
    assert asking.table(timeout=-1.0) == {}
    runtime.advance(1.0)
    assert asking.table(timeout=0.4)["price"]
    assert asking.asked == 1


def test_a_description_that_is_over_does_not_count_while_the_next_one_fails(runtime: Bench) -> None:
    asking = Asking(runtime, READ, NotConnected("gone"))
    assert asking.table()
    runtime.advance(VALID)
    assert asking.table() == {}
    assert asking.asked == 2


def test_an_old_description_counts_while_a_question_because_of_another_version_fails(runtime: Bench) -> None:
    asking = Asking(runtime, READ, NotConnected("gone"))
    asking.table()
    runtime.advance(PAUSE)
    asking.discovery.answered("orders", "v2")
    assert asking.table()["price"].safety is Safety.READ_ONLY
    assert asking.asked == 2


def test_names_of_services_do_not_add_up_for_ever(runtime: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.discovery.MAX_SERVICES", 3)
    asking = Asking(runtime, READ, after=0.0)
    for number in range(10):
        assert asking.table(f"s{number}")
        assert len(asking.discovery._services) <= 3
