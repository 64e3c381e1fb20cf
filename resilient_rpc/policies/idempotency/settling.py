"""An answer was sent that the store did not take: it gets it later, if it can."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Literal

from resilient_rpc.policies.idempotency.events import AnswerSettled, StoreFailed, announce
from resilient_rpc.stores.base import KEEP

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.idempotency.policy import Idempotency
    from resilient_rpc.policies.idempotency.replies import Kept
    from resilient_rpc.policy import Runtime
    from resilient_rpc.stores.base import RecordKey

FIRST, LONGEST = 0.1, 1.0
"""Seconds between two tries: at first, and at most; doubled, and jittered."""


def settle(rules: Idempotency, call: Call, key: RecordKey, epoch: int, kept: Kept) -> None:
    """Try `complete` again, on the I/O loop, for as long as the store remembers the epoch.

    It may succeed even after the lease is over, as long as nobody has taken the record over.
    """
    state = rules.state
    answer = state.unsettled()

    async def work(runtime: Runtime) -> None:
        try:
            outcome = await _settled(rules, call, runtime, key, epoch, kept)
            if outcome == "lost" or (outcome == "stored" and not rules.local):
                state.local.drop(key)
            announce(rules, call, AnswerSettled, outcome=outcome)
        finally:
            state.settled(answer)

    rules.leases.used()
    Context().run(rules.io().start, work)


async def _settled(
    rules: Idempotency, call: Call, runtime: Runtime, key: RecordKey, epoch: int, kept: Kept
) -> Literal["stored", "lost", "given_up"]:
    until, pause = runtime.now() + rules.lease + KEEP, FIRST
    while runtime.now() < until:
        await runtime.sleep(pause * (0.5 + rules.random() / 2))
        pause = min(2 * pause, LONGEST)
        try:
            stored = await rules.store.complete(key, epoch, kept.payload, ok=kept.ok, ttl=rules.ttl)
        except Exception as error:  # a store of anybody's
            announce(rules, call, StoreFailed, step="complete", error=error)
        else:
            return "stored" if stored else "lost"
    return "given_up"
