from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient_rpc.context import Context
from resilient_rpc.events import MessageRefused, RequestRefused
from resilient_rpc.wire.filters import Message
from resilient_rpc.wire.limits import Limits
from tests.serving.bench import OURS, Bench, bench, call


class Witness:
    """Lets everything pass."""

    def __init__(self) -> None:
        self.seen: list[Message] = []

    def outgoing(self, message: Message) -> Message:
        return message

    def incoming(self, message: Message) -> Message:
        self.seen.append(message)
        return message.replace(principal="somebody")


class Refuses(Witness):
    def incoming(self, message: Message) -> Message:
        raise ValueError


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await scenario(made)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "headers", "properties", "code"),
    [
        (b"x" * 1_001, OURS, {}, -32006),
        (b"{}", {"x": "y" * 200}, {}, -32006),
        (b"{}", OURS, {"expiration": "9" * 16}, -32700),
    ],
)
def test_what_no_filter_should_have_to_look_at_is_refused_before(
    body: bytes, headers: dict[str, Any], properties: dict[str, Any], code: int
) -> None:
    async def scenario(made: Bench) -> None:
        witness = Witness()
        await made.serve(filters=(witness,), limits=Limits(max_body=1_000, max_headers=100))
        assert (await made.ask(body, headers, **properties))["error"]["code"] == code
        assert witness.seen == []
        assert not [event for event in made.events if isinstance(event, MessageRefused)]

    run(scenario)


def test_a_message_that_is_refused_and_has_no_address_is_a_dead_letter() -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(filters=(Refuses(),))
        made.send(call("note", [1]), OURS, reply_to=None)
        await made.settled()
        assert made.ran == []
        assert made.dead() == ["refused"]
        assert MessageRefused(filter="Refuses", reason="Refuses: ValueError") in made.events
        assert [type(event.error).__name__ for event in made.events if isinstance(event, RequestRefused)] == ["Refused"]

    run(scenario)


def test_every_call_of_a_batch_has_the_principal_of_its_message() -> None:
    async def scenario(made: Bench) -> None:
        async def who(ctx: Context) -> str | None:
            return ctx.principal

        made.method(who)
        witness = Witness()
        await made.serve(filters=(witness,))
        found = await made.ask([call("who", id_=1), call("who", id_=2)])
        assert [item["result"] for item in found] == ["somebody", "somebody"]
        assert len(witness.seen) == 1

    run(scenario)
