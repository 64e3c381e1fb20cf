"""One keyed call: what the store says of it, the handler, and what becomes of its outcome.

::

    begin ─ New, TakenOver ─▶ handler ─ result, error ─▶ complete ─ ours ──────────▶ the answer
      │                          │                          ├─ lost ──▶ the other one's answer, or Interrupted
      │                          └─ never began,            └─ no word ─▶ the answer; complete again, later
      │                             or in abandon_on ─▶ abandon ─▶ the error
      ├─ Replay ─▶ the first answer
      ├─ Busy ───▶ wait ─▶ the first answer, or begin again, or InProgress
      ├─ Mismatch ─▶ KeyReused    Unknown ─▶ Interrupted
      └─ no word ─▶ DependencyUnavailable, or on_store_error="open": the handler
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from resilient_rpc.call import Reply
from resilient_rpc.errors import (
    ConfigurationError,
    DependencyUnavailable,
    InProgress,
    Interrupted,
    KeyReused,
    RemoteError,
)
from resilient_rpc.events import CallRejected, PolicyBypassed, PolicyEvent
from resilient_rpc.policies.idempotency.claim import Claim
from resilient_rpc.policies.idempotency.events import (
    CallReplayed,
    CallTakenOver,
    OwnershipLost,
    StoreFailed,
    announce,
)
from resilient_rpc.policies.idempotency.outcome import outcome_of
from resilient_rpc.policies.idempotency.replies import (
    Kept,
    error_of,
    keep_marker,
    result_of,
)
from resilient_rpc.policies.idempotency.settling import settle
from resilient_rpc.policies.idempotency.state import ask
from resilient_rpc.policies.idempotency.waiting import Wait
from resilient_rpc.stores.base import Busy, Mismatch, New, RecordKey, Replay, TakenOver, Unknown
from resilient_rpc.stores.errors import CorruptRecord, StoreRefused

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.idempotency.flights import Flight
    from resilient_rpc.policies.idempotency.leases import Lease
    from resilient_rpc.policies.idempotency.policy import Idempotency
    from resilient_rpc.policies.idempotency.served import Served
    from resilient_rpc.policy import Handler
    from resilient_rpc.stores.base import Began

RETRY_AFTER = 1.0
"""Seconds after which a caller is to try again, where the store cannot be asked and does not say for how long."""


class Execution:
    """See the module. Of one call, on one loop or thread."""

    __slots__ = (
        "_call", "_ended", "_fingerprint", "_flight", "_key", "_lease", "_proceed", "_rules", "_served", "_state",
    )  # fmt: skip

    def __init__(
        self,
        rules: Idempotency,
        call: Call,
        proceed: Handler,
        served: Served,
        key: RecordKey,
        fingerprint: bytes,
    ) -> None:
        self._rules, self._call, self._proceed, self._served = rules, call, proceed, served
        self._key, self._fingerprint = key, fingerprint
        self._state = rules.state
        self._flight: Flight | None = None
        self._lease: Lease | None = None
        self._ended = False

    async def reply(self) -> Reply:
        """The answer, from the record or from the handler."""
        state, call = self._state, self._call
        kept = state.local.of(self._key, call.runtime.now())
        if kept is not None:
            return self._replay(kept)
        flight = state.flights.of(self._key)
        if flight is not None and flight.fingerprint != self._fingerprint:
            raise self._reused()
        began: Began | None = await self._ask() if flight is None else Busy(self._rules.lease)
        if type(began) is Busy:
            wait = Wait(self._rules, call, self._served, self._key)
            while type(began) is Busy:
                kept = await self._wait(wait, began.lease_left)
                if kept is not None:
                    return self._replay(kept)
                await self._served.step_in()
                began = await self._ask()
        return await self._answer(began)

    async def _answer(self, began: Began | None) -> Reply:
        match began:
            case New(epoch):
                return await self._execute(epoch)
            case TakenOver(epoch):
                self._emit(CallTakenOver, epoch=epoch)
                return await self._execute(epoch)
            case Replay(payload, ok):
                return self._replay(Kept(self._fingerprint, payload, ok))
            case Mismatch():
                raise self._reused()
            case Unknown():
                text = f"{self._call.method}: an earlier server may have done it, and it is not to be done again"
                error = Interrupted(text)
                error.retryable = False
                raise self._rejected("interrupted", error)
            case _:
                return await self._proceed(self._call)

    async def _ask(self) -> Began | None:
        """What the store says; None: nothing, and the call may be executed all the same."""
        rules, served = self._rules, self._served
        served.asking = served.parking is rules
        try:
            return await ask(
                self._call.runtime,
                rules.store.begin(
                    self._key,
                    fingerprint=self._fingerprint,
                    lease=rules.lease,
                    ttl=rules.ttl,
                    on_takeover=rules.on_takeover,
                ),
            )
        except ConfigurationError:
            raise
        except Exception as error:  # a store of anybody's
            self._failed("begin", error)
            if rules.on_store_error == "closed" or isinstance(error, CorruptRecord):
                raise self._rejected("store", _unavailable(self._call.method, error)) from error
        finally:
            served.asking = False
        self._emit(PolicyBypassed, reason="store")
        return None

    async def _wait(self, wait: Wait, lease_left: float) -> Kept | None:
        try:
            return await wait.kept(lease_left)
        except InProgress as error:
            self._rejected("busy", error)
            raise

    def _replay(self, kept: Kept) -> Reply:
        if kept.fingerprint != self._fingerprint:
            raise self._reused()
        try:
            found = result_of(kept, self._served.codec) if kept.ok else error_of(kept)
        except CorruptRecord as error:
            self._failed("begin", error)
            raise self._rejected("store", _unavailable(self._call.method, error)) from error
        self._keep_here(kept)
        self._emit(CallReplayed, ok=kept.ok)
        if kept.ok:
            return Reply(result=found, replayed=True)
        self._served.replayed = True
        raise found

    # -- as the owner of the record

    async def _execute(self, epoch: int) -> Reply:
        rules, state = self._rules, self._state
        context = self._served.context
        context.fencing_token, context.lost_ownership = epoch, False
        claim = context.claim = Claim(rules, self._key, self._fingerprint, epoch, self._served.codec)
        now = self._call.runtime.now()
        flight = self._flight = state.flights.begin(self._key, self._fingerprint)
        lease = self._lease = rules.leases.hold(self._key, epoch, now, self._renewed)
        self._served.hold(rules.lease)
        kept = None
        try:
            outcome = await outcome_of(rules, self._call, self._proceed, self._served, self._fingerprint)
            # An error of a handler whose transaction has the answer in it: was it committed all the same?
            decided = claim.written and outcome.error is not None and not await self._holds(epoch)
            if outcome.kept is None and not decided:
                if outcome.abandoned:
                    await self._abandon(epoch)
                return outcome.answer()
            if outcome.kept is not None and not decided and await self._complete(epoch, outcome.kept):
                kept = outcome.kept
                self._keep_here(kept)
                return outcome.answer()
        finally:
            self._ended = True
            if not self._served.running:  # else it is held until then: see `_renewed`
                rules.leases.release(lease)
            state.flights.end(self._key, flight, kept)
        return await self._succeeded()

    async def _complete(self, epoch: int, kept: Kept) -> bool:
        """Record the outcome. False: another server has the record; a store that fails is not the caller's affair."""
        rules, served = self._rules, self._served
        served.asking = served.parking is rules
        try:
            stored = await ask(
                self._call.runtime,
                rules.store.complete(self._key, epoch, kept.payload, ok=kept.ok, ttl=rules.ttl),
            )
        except Exception as error:  # a store of anybody's
            self._failed("complete", error)
            if kept.ok and isinstance(error, StoreRefused) and error.reason == "too_large":
                return await self._complete(epoch, keep_marker(kept.fingerprint, len(kept.payload)))
            self._settle(epoch, kept)
            return True
        finally:
            served.asking = False
        if not stored:
            self._emit(OwnershipLost, epoch=epoch, step="complete")
        return stored

    async def _holds(self, epoch: int) -> bool:
        """Whether the record is ours and without an answer; a store in doubt waits for the transaction to end."""
        rules = self._rules
        try:
            return await ask(self._call.runtime, rules.store.renew(self._key, epoch, lease=rules.lease))
        except Exception as error:  # a store of anybody's
            self._failed("renew", error)
        return False

    def _settle(self, epoch: int, kept: Kept) -> None:
        """Answer repeats from here, until the store has it."""
        now = self._call.runtime.now()
        self._state.local.keep(self._key, kept, now + self._rules.ttl)
        settle(self._rules, self._call, self._key, epoch, kept)

    async def _abandon(self, epoch: int) -> None:
        rules = self._rules
        try:
            await ask(self._call.runtime, rules.store.abandon(self._key, epoch))
        except Exception as error:  # a store of anybody's; the lease ends by itself
            self._failed("abandon", error)

    async def _succeeded(self) -> Reply:
        """The answer of the one who has the record now."""
        self._served.context.lost_ownership = True
        text = f"{self._call.method}: another server has taken it over, and its outcome is not known yet"
        try:
            kept = await Wait(self._rules, self._call, self._served, self._key).kept(self._rules.lease)
        except InProgress as error:
            raise Interrupted(text, retry_after=error.retry_after) from None
        if kept is None or kept.fingerprint != self._fingerprint:
            raise Interrupted(text)
        try:
            return self._replay(kept)
        except DependencyUnavailable as error:  # it cannot be read
            raise Interrupted(text) from error

    def _renewed(self, outcome: bool | Exception) -> None:
        """On the I/O thread."""
        lease, context = self._lease, self._served.context
        assert lease is not None  # noqa: S101 - it is what was renewed
        if self._ended and not self._served.running:  # its handler has outlived the call, and has ended now
            self._rules.leases.release(lease)
        if outcome is True:
            context.lost_ownership = False
        elif outcome is False:
            context.lost_ownership = True
            self._emit(OwnershipLost, epoch=lease.epoch, step="renew")
            assert self._flight is not None  # noqa: S101 - as the lease
            self._state.flights.end(self._key, self._flight, None)  # who waits here asks for the other one's answer
        else:
            # A little early: another server may begin when it is over, and the next renewal comes after that.
            context.lost_ownership = lease.until - self._call.runtime.now() <= self._rules.lease / 10
            self._failed("renew", outcome)

    # -- what others are told

    def _reused(self) -> RemoteError:
        return self._rejected("reused", KeyReused(f"{self._call.method}: the key was used with other arguments"))

    def _keep_here(self, kept: Kept) -> None:
        if not self._rules.local:
            return
        now = self._call.runtime.now()
        if self._state.local.of(self._key, now) is None:
            self._state.local.keep(self._key, kept, now + self._rules.ttl)

    def _rejected(self, reason: str, error: RemoteError) -> RemoteError:
        self._emit(CallRejected, reason=reason, retry_after=error.retry_after)
        return error

    def _failed(self, step: Literal["begin", "renew", "complete", "abandon"], error: Exception) -> None:
        self._emit(StoreFailed, step=step, error=error)

    def _emit(self, kind: type[PolicyEvent], **details: Any) -> None:
        announce(self._rules, self._call, kind, **details)


def _unavailable(method: str, error: Exception) -> DependencyUnavailable:
    corrupt = isinstance(error, CorruptRecord)
    what = "the record of its key cannot be read" if corrupt else "the store of its keys does not answer"
    refusal = DependencyUnavailable(f"{method}: {what}")
    refusal.retryable = getattr(error, "retryable", True)
    if refusal.retryable:
        refusal.retry_after = getattr(error, "retry_after", None) or RETRY_AFTER
    return refusal
