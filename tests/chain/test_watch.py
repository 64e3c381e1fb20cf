from __future__ import annotations

import asyncio

from resilient_rpc.chain.watch import GRAIN, Watch
from resilient_rpc.testing import VirtualClock


class Guest:
    """Says when it was told to go."""

    def __init__(self, limit: float, more: float = 0.0) -> None:
        self.limit, self.more = limit, more
        self.told: list[float] = []

    def overstay(self, now: float) -> None:
        self.told.append(now)
        self.limit = now + self.more if self.more else 1e9


def test_each_is_told_once_its_limit_has_passed_and_those_that_have_gone_are_not() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch, begin = Watch(loop, clock.now), clock.now()
        late, soon, gone, again = (Guest(begin + limit) for limit in (30, 5, 7, 9))
        again.more = 1.0
        for guest in (late, soon, gone, again):
            watch.enter(guest)
        watch.leave(gone)
        await asyncio.sleep(10.5)
        watch.leave(again)
        await asyncio.sleep(30)
        assert [round(told - begin, 2) for told in soon.told] == [5]
        assert [round(told - begin, 2) for told in again.told] == [9, 10]
        assert [round(told - begin, 2) for told in late.told] == [30]
        assert gone.told == []

    with VirtualClock() as clock, asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())


def test_many_that_are_due_together_are_looked_at_together() -> None:
    async def main() -> None:
        watch, begin = Watch(asyncio.get_running_loop(), clock.now), clock.now()
        guests = [Guest(begin + 5 + number * GRAIN / 100) for number in range(100)]
        for guest in guests:
            watch.enter(guest)
        await asyncio.sleep(6)
        assert len({guest.told[0] for guest in guests}) <= 3
        assert all(0 <= guest.told[0] - begin - 5 <= 2 * GRAIN for guest in guests)

    with VirtualClock() as clock, asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())


def test_one_that_is_late_on_arrival_is_told_at_once() -> None:
    async def main() -> None:
        watch, guest = Watch(asyncio.get_running_loop(), clock.now), Guest(clock.now() - 3)
        watch.enter(guest)
        await asyncio.sleep(0.001)
        assert len(guest.told) == 1

    with VirtualClock() as clock, asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())
