"""The circuits of a circuit breaker, by target, and what it takes to announce their changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from resilient_rpc.policies.circuit import Circuit
from resilient_rpc.policies.circuit_state import DISABLED, FORCED_OPEN
from resilient_rpc.policies.targets import Targets

if TYPE_CHECKING:
    from resilient_rpc.hub import Events
    from resilient_rpc.policies.pybreaker_state import TargetBreaker


class Operator(Protocol):
    """The policy to which circuits belong: what it does by hand is announced."""

    @property
    def listeners(self) -> Sequence[Any]:
        """Of pybreaker; those of a new target."""

    def open(self, target: str) -> None:
        """Open the circuit of `target`."""

    def half_open(self, target: str) -> None:
        """Half-open it."""

    def close(self, target: str) -> None:
        """Close it."""


class TargetCircuit(Circuit):
    """The circuit of a target, and who is told of it."""

    __slots__ = ("_circuits", "_pybreaker", "events", "heard", "target")

    def __init__(self, target: str, circuits: Circuits) -> None:
        super().__init__()
        self.target = target
        self.events: Events | None = None
        """Of the last call's client: where a change by hand is announced."""
        self.heard = bool(circuits.policy.listeners)
        """Whether there are listeners."""
        self._circuits = circuits
        self._pybreaker: TargetBreaker | None = None

    @property
    def pybreaker(self) -> TargetBreaker:
        """The circuit as a `pybreaker.CircuitBreaker`, made when first asked for."""
        if self._pybreaker is None:
            from resilient_rpc.policies.pybreaker_state import TargetBreaker  # noqa: PLC0415 - loads redis

            with self._lock:
                if self._pybreaker is None:
                    self._pybreaker = TargetBreaker(self, self._circuits)
        return self._pybreaker

    def exchange(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        """Put one policy's listeners in the place of another's."""
        if new or self._pybreaker is not None:
            self.pybreaker.exchange(old, new)


class Circuits(Targets[TargetCircuit]):
    """Circuits by target, and the policy to which they belong now: after a reload it is another one."""

    def __init__(self, policy: Operator) -> None:
        self.policy = policy
        super().__init__(self._new, busy=_set_by_hand)

    def hand_over(self, policy: Operator) -> None:
        """Give the circuits to the policy that takes the place of the present one."""
        old, self.policy = self.policy, policy
        for circuit in self.snapshot().values():
            circuit.exchange(old.listeners, policy.listeners)

    def _new(self, target: str) -> TargetCircuit:
        return TargetCircuit(target, self)


def _set_by_hand(circuit: TargetCircuit) -> bool:
    # What an operator has said is not forgotten for want of room; an open circuit may be: it opens again.
    return circuit.state in {FORCED_OPEN, DISABLED}
