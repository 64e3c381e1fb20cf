"""A handler that records its answer itself, in a transaction: what its caller gets when it fails all the same."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.call import IDEMPOTENT
from resilient_rpc.context import Context
from resilient_rpc.errors import Interrupted, RemoteError
from resilient_rpc.policies.idempotency.events import StoreFailed
from tests.policies.idempotency.bench import Host, World
from tests.runtimes import Bench


@pytest.fixture
def world(runtime: Bench) -> World:
    return World(runtime)


class Handler:
    """Commits its answer, or not, and then does as it is told."""

    def __init__(self, world: World, *, commits: bool, error: Exception | None) -> None:
        self.world, self.commits, self.error = world, commits, error

    async def __call__(self, context: Context) -> Any:
        claim = context.claim
        assert claim is not None
        assert claim.key == self.world.record()
        claim.written = True
        result = {"number": 1}
        if self.commits:
            kept = claim.kept(result)
            assert await self.world.memory.complete(claim.key, claim.epoch, kept.payload, ok=kept.ok, ttl=claim.ttl)
            self.world.effects.append(claim.epoch)
        if self.error is not None:
            raise self.error
        return result


def repeated(host: Host) -> Any:
    reply = host.call()
    assert reply.replayed
    return reply.result


def test_what_it_committed_is_the_answer_and_what_the_policy_records_changes_nothing(world: World) -> None:
    host = world.host()
    first = host.call(Handler(world, commits=True, error=None))
    assert (first.result, first.replayed) == ({"number": 1}, False)
    assert repeated(host) == first.result
    assert len(world.effects) == 1


@pytest.mark.parametrize("settings", [{}, {"abandon_on": [OSError]}], ids=["recorded", "abandoned"])
def test_an_error_after_its_commit_does_not_hide_the_answer(world: World, settings: dict[str, Any]) -> None:
    host = world.host(**settings)
    first = host.call(Handler(world, commits=True, error=OSError("the answer to COMMIT was lost")))
    assert first.result == {"number": 1}
    assert repeated(host) == first.result
    assert len(world.effects) == 1


def test_an_error_of_what_was_rolled_back_is_the_answer(world: World) -> None:
    host = world.host()
    for _ in range(2):
        with pytest.raises((OSError, RemoteError), match="rolled back"):
            host.call(Handler(world, commits=False, error=OSError("rolled back")))
    assert not world.effects
    record = world.look()
    assert record is not None
    assert record.progress == "error"


def test_an_error_of_what_was_rolled_back_may_be_abandoned(world: World) -> None:
    host = world.host(abandon_on=[OSError])
    with pytest.raises(OSError, match="rolled back"):
        host.call(Handler(world, commits=False, error=OSError("rolled back")))
    assert host.call().result == {"number": 1}
    assert len(world.effects) == 1


def test_while_the_store_does_not_say_nobody_is_told_of_a_failure(world: World) -> None:
    host = world.host(wait=0.0)
    host.store.fail("renew")
    with pytest.raises(Interrupted):
        host.call(Handler(world, commits=True, error=OSError("the connection is gone")))
    assert [event.step for event in host.seen(StoreFailed)] == ["renew"]
    assert repeated(host) == {"number": 1}


def test_a_call_without_a_key_has_no_claim(world: World) -> None:
    async def look(context: Context) -> bool:
        return context.claim is None

    assert world.host().call(look, key=None, safety=IDEMPOTENT).result is True
