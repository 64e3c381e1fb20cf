from __future__ import annotations

import asyncio

import pytest

from resilient_rpc.parking import Outcome
from resilient_rpc.stores import New, StoreUnavailable
from resilient_rpc.stores.faults import unavailable
from resilient_rpc.stores.scripts import DIGEST, SCRIPT
from resilient_rpc.stores.steps import abandon, command, get


def test_who_is_gone_gets_neither_answer_nor_error() -> None:
    async def main() -> None:
        answered, failed = get(b"a"), get(b"b")
        for step in (answered, failed):
            step.future = Outcome(asyncio.get_running_loop(), lambda: None, lambda: None)
            step.future.cancel()
        assert answered.settle([b"I", 7]) == ""
        failed.fail(unavailable("down", sent=False))
        assert answered.result == New(7)
        assert isinstance(failed.result, StoreUnavailable)

    asyncio.run(main())


def test_after_a_lost_attempt_no_error_says_that_nothing_was_written() -> None:
    async def main() -> None:
        step = get(b"a")
        step.future = Outcome(asyncio.get_running_loop(), lambda: None, lambda: None)
        step.lost = True
        assert step.settle([b"F", b"OOM command not allowed"]) == "full"
        with pytest.raises(StoreUnavailable) as caught:
            await step.future
        assert caught.value.written is None

    asyncio.run(main())


def test_a_command_names_all_keys_first_and_then_what_is_asked_of_each() -> None:
    steps = [get(b"a"), abandon(b"b", 7)]
    assert command(steps, b"3", whole=False) == ["EVALSHA", DIGEST, 2, b"a", b"b", b"3", b"g", b"a", 7]
    assert command(steps, b"3", whole=True)[:2] == ["EVAL", SCRIPT]
