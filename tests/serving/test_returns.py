"""Messages that came back: counted in copies, suspects one at a time, and the innocent never at the limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.serving import returns
from resilient_rpc.serving.forwards import Forward
from resilient_rpc.serving.job import Letter
from resilient_rpc.serving.returns import Returns
from resilient_rpc.transport.base import Delivery, QueueSpec
from resilient_rpc.transport.deadletters import DELIVERIES
from resilient_rpc.transport.memory import MemoryTransport
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers
from resilient_rpc.transport.users import USER, Users
from resilient_rpc.wire.codec import JSON
from tests.contract.recorder import Worker
from tests.serving.bench import OURS, QUEUE, Bench, bench, call
from tests.serving.test_door import Witness
from tests.waiting import turns


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with bench() as made:
            await scenario(made)

    asyncio.run(main())


class Rig:
    """Returns whose forwards go nowhere by themselves."""

    def __init__(self, limit: int = 5) -> None:
        self.sent: list[Forward] = []
        self.settled: list[tuple[str | None, bool]] = []
        self.buried: list[Letter] = []
        forwards: Any = self
        self.returns = Returns(
            limit, "rpc.shop", forwards, Users("guest"), settle=self._settle, bury=self.buried.append
        )

    def add(self, forward: Forward) -> None:
        self.sent.append(forward)

    def _settle(self, letter: Letter, ok: bool) -> None:
        self.settled.append((letter.correlation_id, ok))

    def letter(self, name: str, returns: int = 0, tag: int = 1) -> Letter:
        headers = OURS | ({DELIVERIES: returns} if returns else {})
        delivery = Delivery(tag, True, {"headers": encode_headers(headers), "correlation_id": name}, name.encode())
        return Letter(object(), delivery, reply_to="r", correlation_id=name, codec=JSON, ours=True)  # type: ignore[arg-type]

    def take(self, name: str, returns: int = 0) -> Letter:
        made = self.letter(name, returns)
        self.returns.take(made)
        return made

    @property
    def copies(self) -> list[tuple[str, int]]:
        """Whose, and what they say."""
        return [
            (forward.body.decode(), decode_headers(decode_properties(forward.properties)["headers"])[DELIVERIES])
            for forward in self.sent
        ]


def test_the_first_return_is_copied_at_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        for name in "abc":
            rig.take(name)
        assert rig.copies == [("a", 1), ("b", 1), ("c", 1)]
        assert (rig.returns.pending, rig.settled) == (3, [])
        rig.sent[1].done(True)
        rig.sent[0].done(False)
        assert (rig.returns.pending, rig.settled) == (1, [("b", True), ("a", False)])

    asyncio.run(scenario())


def test_a_copy_does_not_run_before_what_it_replaces_is_acked() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.take("a")
        resumed: list[Letter] = []
        early, late, other = rig.letter("a", 1), rig.letter("a", 1), rig.letter("b", 1)
        assert rig.returns.hold(early, resumed.append)
        assert not rig.returns.hold(late, resumed.append), "only one can be the copy"
        assert not rig.returns.hold(other, resumed.append)
        assert not rig.returns.hold(rig.letter("a", 2), resumed.append)
        rig.sent[0].done(True)
        assert (rig.settled, resumed) == ([("a", True)], [])
        await turns(lambda: resumed == [early])
        rig.take("c")
        rig.sent[1].done(True)
        assert rig.returns.hold(rig.letter("c", 1), resumed.append), "the ack is on its way"
        await turns(lambda: len(resumed) == 2)
        assert not rig.returns.hold(rig.letter("c", 1), resumed.append)

    asyncio.run(scenario())


def test_a_copy_does_not_wait_any_more_when_the_server_stops() -> None:
    """It has not begun: its caller is told so, or another server has it."""
    rig = Rig()
    rig.take("a")
    resumed: list[Letter] = []
    copy = rig.letter("a", 1)
    assert rig.returns.hold(copy, resumed.append)
    assert rig.returns.unacked == 2
    assert rig.returns.give_up() == []
    assert (resumed, rig.returns.unacked, rig.returns.pending) == ([copy], 1, 1)


def test_two_messages_that_look_the_same_are_two() -> None:
    rig = Rig()
    first, second = rig.letter("a", tag=1), rig.letter("a", tag=2)
    second.session = first.session
    rig.returns.take(first)
    rig.returns.take(second)
    assert (rig.copies, rig.returns.pending) == ([("a", 1), ("a", 1)], 2)


@pytest.mark.parametrize("limit", [1, 3])
def test_over_the_limit_it_is_dead(limit: int) -> None:
    rig = Rig(limit)
    letter = rig.take("a", limit)
    assert (rig.buried, rig.sent, letter.deaths) == ([letter], [], [(-1, "delivery_limit", None)])
    assert letter.attempts == limit + 1


def test_one_that_comes_again_while_its_copy_is_on_its_way_is_not_copied_twice() -> None:
    rig = Rig()
    first = rig.take("a")
    second = rig.letter("a", tag=9)
    rig.returns.take(second)
    assert (len(rig.sent), first.tag, first.session) == (1, 9, second.session)


def test_suspects_are_tried_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "WATCH", 0.01)

    async def scenario() -> None:
        rig = Rig()
        for name in "abc":
            rig.take(name, 1)
        assert rig.copies == [("a", 2)]
        rig.sent[0].done(True)
        copy = rig.letter("a", 2)
        rig.returns.arrived(copy)
        await asyncio.sleep(0.03)
        assert len(rig.sent) == 1, "its copy runs here"
        rig.returns.ended(copy)
        rig.returns.ended(copy)
        assert rig.copies == [("a", 2), ("b", 2)]
        rig.sent[1].done(True)
        await turns(lambda: len(rig.sent) == 3)  # somebody else has got the copy
        assert [letter.correlation_id for letter in rig.returns.give_up()] == []
        rig.take("d", 2)
        assert [letter.correlation_id for letter in rig.returns.give_up()] == ["d"]
        assert rig.returns.pending == 1
        rig.sent[2].done(True)
        assert rig.returns.pending == 0
        rig.returns.close()

    asyncio.run(scenario())


def test_a_copy_that_is_faster_than_its_confirm_is_waited_for() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.take("a", 1)
        rig.take("b", 1)
        copy = rig.letter("a", 2)
        rig.returns.arrived(copy)
        rig.sent[0].done(True)
        assert len(rig.sent) == 1
        rig.returns.ended(copy)
        assert rig.copies == [("a", 2), ("b", 2)]
        rig.returns.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [True, False], ids=["poison first", "poison last"])
def test_who_kills_its_server_dies_alone(first: bool) -> None:
    """A row of servers, each killed by the poison: the others in its prefetch are all answered in the end."""
    innocents, limit = 12, 3

    async def scenario(b: Bench) -> None:
        deaths: list[str] = []
        names = [f"server-{number}" for number in range(20)]

        async def poison() -> None:
            deaths.append(names[len(deaths)])
            b.bus.kill(deaths[-1])
            await asyncio.sleep(0)

        b.method(poison, safety=Safety.IDEMPOTENT)
        b.method(b.note, name="innocent", safety=Safety.IDEMPOTENT)
        await b.serve(names[-1])  # declares the queue
        b.bus.kill(names[-1])
        numbers = range(1, innocents + 1)
        messages = [("innocent", number) for number in numbers]
        messages.insert(0 if first else innocents, ("poison", 0))
        for method, number in messages:
            params = [number] if number else None
            b.send(call(method, params, number, ttl=60_000), OURS, correlation_id=f"t.{number}")
        for name in names[:-1]:
            await b.serve(name, delivery_limit=limit, batching=None)
            await turns(lambda name=name: name in deaths or b.bus.queue("rpc.shop.dead").depth == 1)  # type: ignore[misc]
            if name not in deaths:
                break
        await turns(lambda: b.depth == 0 and b.unacked == 0)
        answered = {json.loads(reply.body)["id"] for reply in b.replies.deliveries}
        assert answered == set(numbers)
        assert len(deaths) == limit + 1
        assert b.dead() == ["delivery_limit"]

    run(scenario)


def test_a_second_copy_of_a_running_call_is_acked_and_not_run() -> None:
    async def scenario(b: Bench) -> None:
        await b.serve(delivery_limit=5)
        for returns_ in (1, 2):
            headers = {**OURS, DELIVERIES: returns_}
            b.send(call("wait", [1], safety="read_only"), headers)
        await turns(lambda: b.ran == [1] and b.unacked == 1)
        b.gate.set()
        await b.settled()
        assert b.ran == [1]
        assert len(b.replies.deliveries) == 1

    run(scenario)


def test_filters_are_not_told_by_a_header_that_a_message_came_back() -> None:
    """Anybody can write one, and a filter that refuses replays lets through what the broker delivers again."""

    async def scenario(b: Bench) -> None:
        async def again(ctx: Context) -> bool:
            return ctx.redelivered

        b.method(again, safety=Safety.IDEMPOTENT)
        witness = Witness()
        await b.serve(delivery_limit=5, filters=(witness,))
        assert (await b.ask(call("again"), {**OURS, DELIVERIES: 1}))["result"] is True
        assert [message.redelivered for message in witness.seen] == [False]

    run(scenario)


def test_a_copy_of_a_lost_session_is_left_to_the_next_one() -> None:
    async def scenario(b: Bench) -> None:
        serving = await b.serve(delivery_limit=5)
        delivery = Delivery(1, False, {"headers": encode_headers({**OURS, DELIVERIES: 1})}, b"{}")
        old: Any = object()
        serving._requests._resume(Letter(old, delivery, reply_to="", correlation_id="t.1", codec=JSON, ours=True))
        assert serving.health()["unacked"] == 0

    run(scenario)


def test_a_drain_gives_back_suspects_as_they_are() -> None:
    async def scenario(b: Bench) -> None:
        worker = Worker(acks=False)
        spec = QueueSpec(name=QUEUE, service="shop")
        other = await MemoryTransport(b.bus.name).consumer(worker, spec, prefetch=10, timeout=5)
        for number in range(3):  # they have come back before, and come back again
            body = call("wait", [number], safety="read_only")
            b.send(body, {**OURS, DELIVERIES: 1}, correlation_id=f"t.{number}")
        await worker.received(3)
        await other.close()
        serving = await b.serve(delivery_limit=5)
        await turns(lambda: b.ran == [0] and b.unacked == 3)
        assert serving.health()["unacked"] == 3, "those that wait for their turn are with this server, too"
        b.gate.set()
        draining = asyncio.create_task(serving.drain())
        assert await draining
        counts = [decode_headers(d.properties["headers"])[DELIVERIES] for d in b.bus.queue(QUEUE).messages()]
        assert set(counts) <= {1, 2}
        assert len(counts) == 3 - len(b.ran)

    run(scenario)


def test_a_copy_names_the_sender_whom_the_broker_vouched_for() -> None:
    async def scenario(b: Bench) -> None:
        witness = Witness()
        await b.as_redelivered(call("note", [1], safety="read_only"), OURS, user_id="guest")
        await b.serve(delivery_limit=1, filters=(witness,))
        await b.received(1)
        await b.settled()
        assert b.ran == [1]
        [copy] = witness.seen
        assert (copy.user_id, copy.headers[USER], copy.headers[DELIVERIES]) == ("guest", "guest", 1)

    run(scenario)
