"""Servers that die at any step: how often a call takes effect, and what its callers are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.context import Context
from resilient_rpc.errors import InProgress, Interrupted
from resilient_rpc.testing import VirtualClock
from resilient_rpc.testing.bench import AsyncioBench
from tests.policies.idempotency.bench import Host, World

Point = Literal["none", "before_effect", "after_effect", "after_complete", "after_reply"]
POINTS: tuple[Point, ...] = ("none", "before_effect", "after_effect", "after_complete", "after_reply")


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Ledger:
    """What happened outside of the system: effects with their tokens, answers, and crashes that leave a doubt."""

    effects: list[int | None] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    interrupted: int = 0
    doubts: int = 0
    """Servers that died after the effect and before its record."""


def attempt(world: World, ledger: Ledger, point: Point, **policy: Any) -> None:
    """One delivery of the call to one server, which dies at `point`."""
    host: Host = world.host(**policy)
    if point == "after_complete":
        host.store.after["complete"] = Killed()

    async def work(context: Context) -> Any:
        if point == "before_effect":
            raise Killed
        ledger.effects.append(context.fencing_token)
        if point == "after_effect":
            ledger.doubts += 1
            raise Killed
        return {"effect": len(ledger.effects)}

    try:
        reply = host.call(work)
    except Killed:
        return
    except InProgress:
        return
    except Interrupted:
        ledger.interrupted += 1
        return
    if point != "after_reply":
        ledger.answers.append(reply.result)


schedules = st.lists(st.tuples(st.sampled_from(POINTS), st.sampled_from([0.0, 1.0, 6.0])), max_size=8)


@pytest.mark.parametrize("on_takeover", ["rerun", "fail_unknown"])
@settings(max_examples=150, deadline=None)
@given(schedule=schedules)
def test_whatever_dies_each_doubt_costs_at_most_one_effect_and_all_get_one_answer(
    schedule: list[tuple[Point, float]], on_takeover: str
) -> None:
    with VirtualClock() as clock, asyncio.Runner(loop_factory=clock.new_loop) as runner:
        bench = AsyncioBench(clock, runner)
        world, ledger = World(bench), Ledger()
        for point, pause in schedule:
            attempt(world, ledger, point, on_takeover=on_takeover, wait=0)
            bench.advance(pause)
        bench.advance(6)
        attempt(world, ledger, "none", on_takeover=on_takeover, wait=0)

        assert len(ledger.effects) <= 1 + (ledger.doubts if on_takeover == "rerun" else 0)
        assert ledger.effects == sorted(ledger.effects, key=lambda token: token or 0), "tokens grow"
        assert len(set(ledger.effects)) == len(ledger.effects)
        assert all(answer == ledger.answers[0] for answer in ledger.answers)
        if on_takeover == "rerun":
            assert ledger.answers, "in the end there is an answer"
            assert not ledger.interrupted
        elif ledger.doubts:
            assert not ledger.answers, "nobody is told more than is known"
            assert ledger.interrupted


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("on_takeover", ["rerun", "fail_unknown"])
def test_a_server_that_dies_at_one_step(point: Point, on_takeover: str) -> None:
    with VirtualClock() as clock, asyncio.Runner(loop_factory=clock.new_loop) as runner:
        bench = AsyncioBench(clock, runner)
        world, ledger = World(bench), Ledger()
        attempt(world, ledger, point, on_takeover=on_takeover)
        bench.advance(6)
        attempt(world, ledger, "none", on_takeover=on_takeover)
        recorded = point in {"none", "after_complete", "after_reply"}
        if recorded:
            assert len(ledger.effects) == 1
            assert ledger.answers[-1] == {"effect": 1}
        elif on_takeover == "rerun":
            assert len(ledger.effects) == (2 if point == "after_effect" else 1), "the window: effect without a record"
        else:
            assert len(ledger.effects) == (1 if point == "after_effect" else 0)
            assert ledger.interrupted == 1
