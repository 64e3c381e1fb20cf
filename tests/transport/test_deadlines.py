from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_rpc.testing import VirtualClock
from resilient_rpc.transport import deadlines
from resilient_rpc.transport.deadlines import GRAIN, NOWHERE, Deadlines

SLACK = 1e-6


class Item:
    def __init__(self, id_: int, deadline: float) -> None:
        self.id, self.deadline = id_, deadline
        self.bucket: dict[int, Any] = NOWHERE

    def __repr__(self) -> str:
        return f"Item({self.id}, {self.deadline})"


def in_virtual_time(scenario: Any) -> None:
    with VirtualClock() as clock:
        clock.run_async(lambda: scenario(clock))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 5), st.booleans()), max_size=60))
def test_each_expires_once_not_before_its_deadline_and_at_most_a_grain_late_unless_discarded(
    plans: list[tuple[float, bool]],
) -> None:
    async def scenario(clock: VirtualClock) -> None:
        expired: dict[int, float] = {}
        table: Deadlines[Item] = Deadlines(
            asyncio.get_running_loop(), clock.now, lambda item: expired.setdefault(item.id, clock.now())
        )
        begin = clock.now()
        items = [Item(n, begin + after) for n, (after, _) in enumerate(plans)]
        for item in items:
            table.add(item)
        assert len(table) == len(items)
        for item, (_, discarded) in zip(items, plans, strict=True):
            if discarded:
                table.discard(item)
        await asyncio.sleep(6)
        for item, (_, discarded) in zip(items, plans, strict=True):
            if discarded:
                assert item.id not in expired
            else:
                assert (
                    max(item.deadline, begin) - SLACK <= expired[item.id] <= max(item.deadline, begin) + GRAIN + 0.001
                )
        assert len(table) == 0
        assert table._order == []
        assert table._buckets == {}
        assert table._timer is None

    in_virtual_time(scenario)


def test_what_never_ends_never_expires() -> None:
    async def scenario(clock: VirtualClock) -> None:
        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, lambda _: pytest.fail("never"))
        item = Item(1, math.inf)
        table.add(item)
        table.discard(item)
        table.discard(item)
        assert len(table) == 0
        assert table._timer is None
        assert NOWHERE == {}

    in_virtual_time(scenario)


def test_a_crowd_expires_in_portions_and_the_loop_has_its_turn_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "AT_ONCE", 10)

    async def scenario(clock: VirtualClock) -> None:
        portions, count = [], 0

        def expire(_: Item) -> None:
            nonlocal count
            count += 1

        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, expire)
        for number in range(95):
            table.add(Item(number, clock.now() + 1 + 0.001 * (number % 3)))
        await asyncio.sleep(0.99)
        while count < 95:
            before = count
            await asyncio.sleep(0)
            if count > before:
                portions.append(count - before)
            if clock.now() > 1002:
                break
            if not portions:
                await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        assert count == 95
        assert max(portions) <= 20
        assert len(table) == 0

    in_virtual_time(scenario)


def test_one_that_fails_does_not_keep_the_others_alive() -> None:
    async def scenario(clock: VirtualClock) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        expired: list[int] = []

        def expire(item: Item) -> None:
            if item.id % 2:
                raise ValueError(item.id)
            expired.append(item.id)

        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, expire)
        for number in range(10):
            table.add(Item(number, clock.now() + 0.1 * (number // 4)))
        await asyncio.sleep(2)
        assert sorted(expired) == [0, 2, 4, 6, 8]
        assert len(told) == 5
        assert len(table) == 0

    in_virtual_time(scenario)


def test_what_expires_may_add_and_discard_others() -> None:
    async def scenario(clock: VirtualClock) -> None:
        expired: list[int] = []
        begin = clock.now()
        others = {n: Item(n, begin + 0.5) for n in range(1, 6)}

        def expire(item: Item) -> None:
            expired.append(item.id)
            if item.id < 50:
                table.add(Item(item.id + 50, begin))  # its time is past already
                table.add(Item(item.id + 100, item.deadline))  # due at once, too
                table.add(Item(item.id + 200, clock.now() + 0.3))
            if item.id == 0:
                for other in (2, 4):
                    table.discard(others[other])

        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, expire)
        table.add(Item(0, begin + 0.1))
        for other in others.values():
            table.add(other)
        await asyncio.sleep(3)
        assert sorted(expired) == sorted(
            [
                *(n + more for n in (0, 1, 3, 5) for more in (0, 50, 100, 200)),
            ]
        )
        assert len(table) == 0
        assert table._order == []
        assert table._timer is None

    in_virtual_time(scenario)


def test_after_closing_nothing_expires_not_even_what_was_due() -> None:
    async def scenario(clock: VirtualClock) -> None:
        expired: list[int] = []

        def expire(item: Item) -> None:
            expired.append(item.id)
            table.close()

        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, expire)
        for number in range(5):
            table.add(Item(number, clock.now() + 0.1))
        table.add(Item(9, clock.now() + 0.2))
        await asyncio.sleep(1)
        assert len(expired) == 1
        assert len(table) == 0
        table.close()

    in_virtual_time(scenario)


def test_what_ended_in_time_costs_no_wake_up() -> None:
    async def scenario(clock: VirtualClock) -> None:
        table: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), clock.now, lambda _: None)
        for number in range(100):
            item = Item(number, clock.now() + 10 + number)
            table.add(item)
            table.discard(item)
        late = Item(1000, clock.now() + 500)
        table.add(late)
        before = table._timer
        await asyncio.sleep(20)
        assert table._timer is not before
        assert len(table._order) == 1, "one look cleared all that had ended"
        table.close()

    in_virtual_time(scenario)


class DeadlinesMachine(RuleBasedStateMachine):
    """Against a plain dict from id to deadline, with a clock turned by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.loop = _FakeLoop(self)
        self.expired: set[int] = set()
        self.model: dict[int, float] = {}
        self.items: dict[int, Item] = {}
        self.table: Deadlines[Item] = Deadlines(self.loop, lambda: self.now, self._expire)  # type: ignore[arg-type]
        self.number = 0

    def _expire(self, item: Item) -> None:
        assert item.deadline <= self.now + SLACK
        assert item.id in self.model, "expired twice, or after it was discarded"
        del self.model[item.id]

    @rule(after=st.floats(-2, 3))
    def add(self, after: float) -> None:
        self.number += 1
        item = self.items[self.number] = Item(self.number, self.now + after)
        self.model[item.id] = item.deadline
        self.table.add(item)

    @rule(pick=st.integers(0, 1000))
    def discard(self, pick: int) -> None:
        if self.items:
            item = list(self.items.values())[pick % len(self.items)]
            self.model.pop(item.id, None)
            self.table.discard(item)

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.loop.run()

    @invariant()
    def nothing_overdue_is_left(self) -> None:
        self.loop.run()
        assert all(deadline > self.now - 2 * GRAIN for deadline in self.model.values())
        assert len(self.table) == len(self.model)

    @invariant()
    def there_is_a_timer_while_there_is_anything_to_wait_for(self) -> None:
        assert not self.model or self.loop.timers


class _FakeLoop:
    def __init__(self, machine: DeadlinesMachine) -> None:
        self.machine = machine
        self.timers: list[_Timer] = []

    def call_later(self, seconds: float, callback: Any) -> _Timer:
        timer = _Timer(self, self.machine.now + seconds, callback)
        self.timers.append(timer)
        return timer

    def run(self) -> None:
        while due := [timer for timer in self.timers if timer.when <= self.machine.now]:
            self.timers.remove(due[0])
            due[0].callback()


class _Timer:
    def __init__(self, loop: _FakeLoop, when: float, callback: Any) -> None:
        self.loop, self.when, self.callback = loop, when, callback

    def cancel(self) -> None:
        if self in self.loop.timers:
            self.loop.timers.remove(self)


TestDeadlinesMachine = DeadlinesMachine.TestCase
