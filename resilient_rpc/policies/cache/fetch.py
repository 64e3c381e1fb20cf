"""What a cache does for a call that it cannot answer at once: fetch, wait, refresh, stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_rpc.call import Reply
from resilient_rpc.errors import NOT_EXECUTED, DeadlineExceeded
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.policies.cache.entries import Entry
from resilient_rpc.policies.cache.events import CacheUsed, Use
from resilient_rpc.policies.cache.flight import ALONE, LEAD, Failed, Flight, Outcome, lead_of, leads
from resilient_rpc.policies.cache.frozen import another
from resilient_rpc.policies.cache.keys import Key
from resilient_rpc.policies.cache.levels import load, save
from resilient_rpc.policies.cache.rules import Rules, hands_on, may_be_rescued
from resilient_rpc.policies.cache.state import State

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.cache.redis_level import RedisCache
    from resilient_rpc.policy import Handler, Runtime


class Fetch:
    """The slower half of a `Cache`. Settings as there."""

    def __init__(self, state: State, rules: Rules, shared: RedisCache | None, policy: str) -> None:
        self.state = state
        self._rules, self._shared, self._policy = rules, shared, policy

    async def __call__(self, call: Call, proceed: Handler, key: Key) -> Reply:
        """The answer: of a fetch of one's own, of somebody else's, or an old one."""
        state = self.state
        while True:
            entry, flight, lead = state.store.board(key)
            if entry is not None and state.is_valid(key, entry):
                late = call.runtime.now() - entry.fresh_until
                if late < 0:  # it has come since we looked
                    if lead:
                        flight.land(entry)
                    return self.answer(call, key, entry, "hit") or await proceed(call)
                if late < self._rules.stale and entry.error is None:
                    if lead:
                        self._refresh(call, proceed, key, flight)
                    return self.answer(call, key, entry, "stale") or await proceed(call)
            if lead:
                return await self._lead(call, proceed, key, flight)
            if flight.must_not_join(call.runtime):
                return await proceed(call)
            waiter = flight.join()
            if waiter is not None:
                outcome = await flight.wait(waiter, call)
                if outcome is LEAD:
                    return await self._lead(call, proceed, key, flight)
                if outcome is ALONE:
                    return await proceed(call)
                return self._share(call, key, outcome) or await proceed(call)

    def answer(self, call: Call, key: Key, entry: Entry, outcome: Use) -> Reply | None:
        """What an entry says, to one caller; a remembered error is raised. None: it cannot be copied any more."""
        if entry.error is not None:
            call.announce(CacheUsed, self._policy, outcome="negative")
            raise another(entry.error)
        try:
            reply = entry.reply(degraded=outcome == "stale_if_error")
        except Exception:  # the code of a user's type
            self.state.store.drop(key)
            call.announce(PolicyBypassed, self._policy, reason="value")
            return None
        if call.wants(CacheUsed):  # asked here too: most calls end here, and a call with keywords takes longer
            call.announce(CacheUsed, self._policy, outcome=outcome)
        return reply

    async def _lead(self, call: Call, proceed: Handler, key: Key, flight: Flight, *, refresh: bool = False) -> Reply:
        """Fetch it, and settle the flight whatever happens."""
        outcome: Outcome | None = None
        keep: Entry | None = None
        born, since = self.state.voids.last, None
        before = leads(flight, call.runtime)
        try:
            if self._shared is not None:
                found, since = await self._load(self._shared, call, key, born)
                there = None if found is None else self.answer(call, key, found, "shared")
                if there is not None:
                    outcome = keep = found
                    return there
            if not refresh and call.wants(CacheUsed):
                call.announce(CacheUsed, self._policy, outcome="miss")
            reply = await proceed(call)
            outcome, keep = self._judged_reply(call, key, reply, born, since)
        except Exception as error:
            outcome, keep = self._judged_error(call, key, error, born)
            instead = self._rescued(call, key, error) if not refresh else None
            if instead is None:
                raise
            return instead
        else:
            return reply
        finally:
            lead_of(before)
            if outcome is None:
                flight.hand_on()
            elif not flight.land(outcome, keep):
                call.announce(PolicyBypassed, self._policy, reason="too_large")

    async def _load(self, shared: RedisCache, call: Call, key: Key, born: int) -> tuple[Entry | None, int | None]:
        if not shared.is_up(call.runtime.now()) or not self.state.has_told(call.runtime):
            call.announce(PolicyBypassed, self._policy, reason="shared_down")
            return None, None
        found, since, trouble = await load(shared, call, key, born)
        if trouble is not None:
            call.announce(PolicyBypassed, self._policy, reason=trouble)
        return found, since

    def _judged_reply(
        self, call: Call, key: Key, reply: Reply, born: int, since: int | None
    ) -> tuple[Outcome, Entry | None]:
        """What those who wait are told of a reply, and whether it is kept, as far as it and its server allow."""
        if reply.cache is not None and reply.cache.no_store:
            self.state.store.drop(key)
            return ALONE, None
        try:
            entry, life = self._rules.entry(call, key, reply, born)
        except Exception:
            call.announce(PolicyBypassed, self._policy, reason="value")
            return ALONE, None
        if life <= 0 or reply.degraded:
            self.state.store.drop(key)
            return entry, None
        if self._shared is not None and since is not None:
            save(self._shared, call, key, reply, entry, life, since)
        return entry, entry

    def _judged_error(self, call: Call, key: Key, error: Exception, born: int) -> tuple[Outcome | None, Entry | None]:
        """What those who wait are told of the leader's error, and whether it is kept; None: it is the leader's own."""
        remembered = self._rules.negative_entry(call, key, error, born)
        if remembered is not None:
            return remembered, remembered
        if hands_on(error, call):
            return None, None
        if not may_be_rescued(error):  # an answer: what was kept is no longer true
            self.state.store.drop(key)
        return Failed(error), None

    def _share(self, call: Call, key: Key, outcome: Outcome | None) -> Reply | None:
        """The answer to another's call, for this one; None: it cannot be copied."""
        if isinstance(outcome, Entry):
            return self.answer(call, key, outcome, "joined")
        error: BaseException
        if isinstance(outcome, Failed):
            error = another(outcome.error)
        else:
            message = f"{call.method}: the same call of somebody else was under way, and not answered by the deadline"
            error = DeadlineExceeded(message, stage="policy", certainty=NOT_EXECUTED)
        reply = self._rescued(call, key, error)
        if reply is None:
            raise error
        return reply

    def _rescued(self, call: Call, key: Key, error: BaseException) -> Reply | None:
        """An old value in place of a failure."""
        limit = self._rules.stale_if_error
        if not limit or not may_be_rescued(error):
            return None
        entry = self.state.store.get(key)
        if entry is None or entry.error is not None or not self.state.is_valid(key, entry):
            return None
        if call.runtime.now() >= entry.fresh_until + limit:
            return None
        return self.answer(call, key, entry, "stale_if_error")

    def _refresh(self, call: Call, proceed: Handler, key: Key, flight: Flight) -> None:
        """Fetch a new value beside the caller, with a deadline of its own."""
        begun = False
        limit = call.timeout or max(call.remaining(), 0.0)

        async def work(runtime: Runtime) -> None:
            nonlocal begun
            begun = True
            mine = call.replace(runtime=runtime, deadline=runtime.now() + limit)
            outcome: Use = "refresh_failed"
            try:
                await self._lead(mine, proceed, key, flight, refresh=True)
                outcome = "refreshed"
            finally:
                call.announce(CacheUsed, self._policy, outcome=outcome)

        def ended() -> None:
            if not begun:  # cancelled before its first step
                flight.hand_on()

        try:
            started = call.runtime.start(work)
        except Exception:
            call.announce(PolicyBypassed, self._policy, reason="refresh")
            ended()
        else:
            if not started.watch(ended):
                ended()
