"""A circuit breaker for each target."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from resilient_rpc.errors import CircuitOpen, RemoteError, RpcError, fresh
from resilient_rpc.events import CallRejected
from resilient_rpc.policies.breaker_events import CircuitStateChanged, CircuitWouldReject
from resilient_rpc.policies.breaker_rules import Rules
from resilient_rpc.policies.circuit_state import CLOSED, FORCED_OPEN, Change, Permit, Refusal, State
from resilient_rpc.policies.circuits import Circuits, TargetCircuit
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.outcome import health

if TYPE_CHECKING:
    from pybreaker import CircuitBreaker as PyBreaker

    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler

log = logging.getLogger(__name__)

LONGEST_TEXT = 500
"""Characters of an error's message that are kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CircuitBreaker(Rules):
    """Refuses calls to a target that fails, with `CircuitOpen`, until a few probes have succeeded.

    Times are seconds, rates are shares. Opens when of at least `min_calls` in the last `window` the share
    `failure_rate` failed, or the share `slow_rate` took longer than `slow_call`, or after `consecutive` failures in a
    row. Opens for a time with equal jitter, ``d/2 + random()·d/2`` with ``d = min(max_open, open_for·2ⁿ)`` after n
    trips in a row (as in Finagle's failure accrual; trips are in a row until the circuit was closed for a `window`).
    Then lets `permits` probes through at once, and closes after `successes_required` of them succeeded. Cancellation,
    refusals by other policies, and a broker that is away count neither way (`outcome.health`). ConfigurationError: a
    setting is wrong.
    """

    role: ClassVar[str] = "breaker"
    below: ClassVar[Mapping[str, str]] = {
        "retry": "outside of a retry it would see one failure for several failed attempts, and the retry could not"
        " stop at an open circuit",
        "hedge": "outside of a hedge it would not see the attempts that lose",
    }
    above: ClassVar[Mapping[str, str]] = {
        "attempt_timeout": "it must see an attempt that took too long, to count it",
        "rate_limit": "a call that is refused by an open circuit must not use up a token",
        "adaptive_limit": "a call that is refused by an open circuit must not use up a permit",
    }

    _circuits: Circuits = field(init=False, repr=False)
    _quick: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "listeners", tuple(self.listeners))
        object.__setattr__(self, "_circuits", Circuits(self))
        object.__setattr__(self, "_quick", math.inf if self.slow_call is None else self.slow_call)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on, unless the circuit of its target is open."""
        circuit = self._circuits.of(call.target if self.key is None else self.key(call))
        permit: Permit = circuit.generation
        now = call.runtime.now
        began = now()
        if circuit.events is not call.events:
            circuit.events = call.events
        if circuit.state is not CLOSED:
            permit = self._enter(circuit, call, began)
        try:
            if circuit.heard:
                circuit.pybreaker.began(proceed, call)
            reply = await proceed(call)
        except BaseException as error:
            self._leave(circuit, call, permit, began, error)
            raise
        ended = now()
        if type(permit) is int and ended - began <= self._quick and self.counts is None and not circuit.heard:
            circuit.count_success(permit, ended, self.window)
        else:
            self._leave(circuit, call, permit, began, None)
        return reply

    def adopt(self, old: Self) -> None:
        """Go on with the circuits of `old`: their state and counts stay, the settings of this one apply at once."""
        object.__setattr__(self, "_circuits", old._circuits)
        self._circuits.hand_over(self)

    def state(self, target: str) -> State:
        """The state of the circuit of `target`. An open one half-opens with the first call after its time."""
        return self._circuits.of(target).state

    def states(self) -> dict[str, State]:
        """Of every target that is known."""
        return {target: circuit.state for target, circuit in self._circuits.snapshot().items()}

    def pybreaker(self, target: str) -> PyBreaker:
        """The circuit of `target` as pybreaker shows it: `current_state`, listeners, `open()`, `close()`."""
        return self._circuits.of(target).pybreaker

    def force_open(self, target: str) -> None:
        """Refuse every call to `target`, in either mode, until `close` or `reset`."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.force_open())

    def disable(self, target: str) -> None:
        """Let every call to `target` pass, and count nothing, until `close` or `reset`."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.disable())

    def open(self, target: str) -> None:
        """Open as if it had tripped. The open time begins with the first call that is refused."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.open(self))

    def half_open(self, target: str) -> None:
        """Let the next calls to `target` pass as probes."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.half_open())

    def close(self, target: str) -> None:
        """Let calls to `target` pass again, with nothing counted; a closed circuit stays as it is."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.close())

    def reset(self, target: str) -> None:
        """Begin anew with `target`: closed, nothing counted, no trips."""
        circuit = self._circuits.of(target)
        self._announce(circuit, circuit.reset())

    def _enter(self, circuit: TargetCircuit, call: Call, now: float) -> Permit:
        permit, change = circuit.admit(self, now)
        self._announce(circuit, change, call)
        if not isinstance(permit, Refusal):
            return permit
        if self.mode == "metrics_only" and permit.state is not FORCED_OPEN:
            self._emit(CircuitWouldReject, circuit, call, reason=str(permit.state), retry_after=permit.retry_after)
            return None
        self._emit(CallRejected, circuit, call, reason=str(permit.state), retry_after=permit.retry_after)
        raise _refused(circuit, call, permit) from circuit.error

    def _leave(
        self, circuit: TargetCircuit, call: Call, permit: Permit, began: float, error: BaseException | None
    ) -> None:
        healthy = self._health(error)
        if permit is None:
            pass
        elif healthy is None:
            circuit.give_back(permit)
        else:
            now = call.runtime.now()
            change = circuit.count(permit, self, now, failed=not healthy, slow=now - began > self._quick)
            if change is not None and change.open_for is not None and error is not None:
                circuit.error = _memento(error)
            self._announce(circuit, change, call)
        if circuit.heard and healthy is not None:
            circuit.pybreaker.ended(None if healthy else error)

    def _health(self, error: BaseException | None) -> bool | None:
        if error is not None and not isinstance(error, Exception):
            return None  # cancelled: nobody is asked
        if self.counts is not None:
            try:
                return self.counts(error)
            except Exception:
                log.exception("CircuitBreaker.counts=%r failed with %r", self.counts, error)
        return health(error)

    def _announce(self, circuit: TargetCircuit, change: Change | None, call: Call | None = None) -> None:
        if change is None:
            return
        old, new, reason, generation, open_for = change
        self._emit(
            CircuitStateChanged, circuit, call, old=old, new=new, reason=reason, generation=generation,
            open_for=open_for,
        )  # fmt: skip
        if circuit.heard:
            circuit.pybreaker.told(change)

    def _emit(self, kind: type[Any], circuit: TargetCircuit, call: Call | None, **fields: Any) -> None:
        events = circuit.events if call is None else call.events
        if events is None or not events.wants(kind):
            return
        method, attempt = ("", 1) if call is None else (call.method, call.attempt)
        events.emit(kind(policy=name_of(self), method=method, target=circuit.target, attempt=attempt, **fields))


def _refused(circuit: TargetCircuit, call: Call, refusal: Refusal) -> CircuitOpen:
    state, retry_after = refusal
    until = "" if retry_after is None else f" for another {retry_after:.3g} s"
    words = "forced open" if state is FORCED_OPEN else f"{str(state).replace('_', '-')}{until}, after {circuit.why}"
    error = CircuitOpen(
        f"{call.method} was not executed: the circuit of {circuit.target!r} is {words}", retry_after=retry_after
    )
    error.target, error.state = circuit.target, str(state)
    error.retryable = state is not FORCED_OPEN
    return error


def _memento(error: BaseException) -> BaseException:
    """What is kept of an error: neither its traceback, which holds every frame of a call, nor what hangs on it."""
    text = str(error)
    twin = fresh(error)
    if twin is error or len(text) > LONGEST_TEXT:
        twin = RpcError(f"{type(error).__name__}: {text[:LONGEST_TEXT]}")
    twin.__cause__ = None
    if isinstance(twin, RpcError):
        twin.history = ()
    if isinstance(twin, RemoteError):
        twin.details = None
    return twin
