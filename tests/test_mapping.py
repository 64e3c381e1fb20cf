from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.call import Reply
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.mapping import map_calls
from tests.waiting import turns

RUNTIME: Any = object()


class Caller:
    """Carries a number out: waits for as many turns as it says, fails if it is negative; knows how many run at once."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0
        self.most_before_first = 0
        self.answered = 0

    def build(self, runtime: Any, method: str, number: Any, *, offset: int) -> Any:
        assert (runtime, method) == (RUNTIME, "counting.count")
        if number is None:
            raise ConfigurationError("no params")
        return number + offset

    async def request(self, call: Any) -> Reply:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        if not self.answered:
            self.most_before_first = max(self.most_before_first, self.running)
        try:
            for _ in range(abs(call) % 5):
                await asyncio.sleep(0)
            if call < 0:
                raise ValueError(call)
            return Reply(result=call)
        finally:
            self.answered += 1
            self.running -= 1


async def mapped(caller: Caller, numbers: Any, *, window: int = 8, return_errors: bool = False) -> list[Any]:
    found = await map_calls(
        cast("Any", caller),
        RUNTIME,
        "counting.count",
        numbers,
        {"offset": 0},
        window=window,
        return_errors=return_errors,
    )
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return found


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50) | st.none(), max_size=60), st.integers(1, 70))
def test_every_result_or_error_stands_in_its_place_and_the_window_holds(numbers: list[int | None], window: int) -> None:
    caller = Caller()
    found = asyncio.run(mapped(caller, iter(numbers), window=window, return_errors=True))
    assert len(found) == len(numbers)
    for number, outcome in zip(numbers, found, strict=True):
        if number is None:
            assert isinstance(outcome, ConfigurationError)
        elif number < 0:
            assert isinstance(outcome, ValueError)
        else:
            assert outcome == number
    assert caller.most <= window
    if numbers and numbers[0] is not None:
        assert caller.most_before_first == 1, "the first goes alone, and says what its server is"


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), max_size=60), st.integers(1, 70))
def test_without_them_the_first_error_ends_it_all(numbers: list[int], window: int) -> None:
    async def main() -> None:
        caller = Caller()
        if all(number >= 0 for number in numbers):
            assert await mapped(caller, numbers, window=window) == numbers
            return
        with pytest.raises(ValueError, match="-"):
            await mapped(caller, numbers, window=window)
        assert caller.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_cancelling_it_ends_what_it_began() -> None:
    async def main() -> None:
        caller, gate = Caller(), asyncio.Event()

        async def request(call: Any) -> Reply:
            if call:
                caller.running += 1
                try:
                    await gate.wait()
                finally:
                    caller.running -= 1
            return Reply(result=call)

        caller.request = request  # type: ignore[method-assign]
        task = asyncio.create_task(mapped(caller, range(20), window=5))
        await turns(lambda: caller.running == 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert caller.running == 0

    asyncio.run(main())
