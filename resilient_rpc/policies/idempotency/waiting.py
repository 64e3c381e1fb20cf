"""A repeat waits for the answer of the execution that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resilient_rpc.errors import InProgress
from resilient_rpc.policies.idempotency.replies import Kept
from resilient_rpc.policies.idempotency.state import ask

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.idempotency.policy import Idempotency
    from resilient_rpc.policies.idempotency.served import Served
    from resilient_rpc.stores.base import Record, RecordKey

FIRST, LONGEST = 0.05, 0.5
"""Seconds between two looks at a record that another process holds: at first, and at most; doubled, and jittered."""
LEAST = 0.05
"""Seconds after which a caller may ask again, at least."""


class Wait:
    """The time that one call has for waiting. Without a slot, for it executes nothing."""

    def __init__(self, rules: Idempotency, call: Call, served: Served, key: RecordKey) -> None:
        self._rules, self._call, self._served, self._key = rules, call, served, key
        now = call.runtime.now()
        self._until = min(now + rules.wait, call.deadline)
        self._left = rules.lease

    async def kept(self, lease_left: float) -> Kept | None:
        """The answer; None: nobody holds the record any more. Raises `InProgress`."""
        rules, state = self._rules, self._rules.state
        self._left = lease_left
        if self._call.runtime.now() >= self._until:
            raise self._in_progress("it is being executed")
        places = min(rules.max_waiting, self._served.places)
        if not state.line_up(places):
            raise self._in_progress(f"it is being executed, and {places} calls wait for others already")
        self._served.step_out()
        try:
            return await self._watch()
        finally:
            state.leave()

    async def _watch(self) -> Kept | None:
        runtime, flights = self._call.runtime, self._rules.state.flights
        pause = FIRST
        while (left := self._until - runtime.now()) > 0:
            answer = flights.join(self._key)
            if answer is not None:
                if await runtime.wait((answer,), left) is None:
                    break
                return answer.result()
            await runtime.sleep(min(pause * (0.5 + self._rules.random() / 2), left))
            pause = min(2 * pause, LONGEST)
            found = await self._look()
            if found is not True:
                return found
        raise self._in_progress("it is still being executed")

    async def _look(self) -> Kept | Literal[True] | None:
        """The answer; None: the record is free; True: somebody holds it, or the store does not say."""
        try:
            record: Record | None = await ask(self._call.runtime, self._rules.store.get(self._key))
        except Exception:  # a store of anybody's; it is asked again, and whoever waits in vain is told so
            return True
        if record is None:
            return None
        if record.payload is not None:
            return Kept(record.fingerprint, record.payload, record.progress == "ok")
        self._left = record.lease_left
        return True if record.lease_left > 0 else None

    def _in_progress(self, why: str) -> InProgress:
        return InProgress(f"{self._call.method}: {why}", retry_after=max(LEAST, self._left))
