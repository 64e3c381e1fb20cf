"""The `pybreaker.CircuitBreaker` of each target: its vocabulary, its manual control and its listeners.

pybreaker's own `call()` and `calling()` are never used: the one holds its lock for as long as the call takes, the other
lets any number of probes through, and both count a cancellation as a failure. What remains of it is fed from our
circuit, which stands where pybreaker has its storage. Importing pybreaker imports redis, 0.1 s: this module is loaded
when somebody asks for such a breaker, or has listeners.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pybreaker

from resilient_rpc.errors import UsageError
from resilient_rpc.policies.circuit import Circuit
from resilient_rpc.policies.circuit_state import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN, Change, State

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.circuits import Circuits, TargetCircuit

log = logging.getLogger(__name__)

NAMES = {
    CLOSED: pybreaker.STATE_CLOSED,
    OPEN: pybreaker.STATE_OPEN,
    HALF_OPEN: pybreaker.STATE_HALF_OPEN,
    FORCED_OPEN: pybreaker.STATE_OPEN,
    DISABLED: pybreaker.STATE_CLOSED,
}
"""pybreaker knows three states."""


class CircuitStorage(pybreaker.CircuitBreakerStorage):
    """Our circuit in the place of pybreaker's storage: `current_state` and the counters are read from it.

    Nothing is written to it: what of pybreaker would do that, `TargetBreaker` replaces.
    """

    def __init__(self, circuit: Circuit) -> None:
        super().__init__("circuit")
        self._circuit = circuit

    @property  # type: ignore[misc] # read only
    def state(self) -> str:
        """In pybreaker's words."""
        return NAMES[self._circuit.state]

    @property
    def counter(self) -> int:
        """Failures in a row."""
        return self._circuit.in_row

    @property
    def success_counter(self) -> int:
        """Successes of probes."""
        return self._circuit.successes

    @property  # type: ignore[misc] # read only
    def opened_at(self) -> None:
        """Unknown: a circuit reads no calendar."""
        return


class TargetBreaker(pybreaker.CircuitBreaker):
    """pybreaker's face of the circuit of one target."""

    def __init__(self, circuit: TargetCircuit, circuits: Circuits) -> None:
        super().__init__(
            listeners=circuits.policy.listeners,
            state_storage=CircuitStorage(circuit),
            name=circuit.target,
            throw_new_error_on_trip=False,
        )
        self._circuit, self._circuits = circuit, circuits
        self._broken: set[int] = set()
        circuit.heard = bool(self._listeners)

    @property
    def state(self) -> Any:
        """The current state as an object of pybreaker."""
        return _state_object(self, self._circuit.state)

    @state.setter
    def state(self, name: str) -> None:
        by_hand = {
            pybreaker.STATE_CLOSED: self.close,
            pybreaker.STATE_OPEN: self.open,
            pybreaker.STATE_HALF_OPEN: self.half_open,
        }
        if name not in by_hand:
            raise ValueError(f"unknown state {name!r}, valid states: {', '.join(by_hand)}")
        by_hand[name]()

    def open(self) -> bool:
        """Open the circuit."""
        self._circuits.policy.open(self._circuit.target)
        return False

    def half_open(self) -> None:
        """Let the next calls pass as probes."""
        self._circuits.policy.half_open(self._circuit.target)

    def close(self) -> None:
        """Close the circuit."""
        self._circuits.policy.close(self._circuit.target)

    def call(self, *_: Any, **__: Any) -> NoReturn:
        """Refused, and with it `calling()` and the decorator, which use it."""
        raise UsageError(f"the circuit of {self.name!r} belongs to a policy; make calls through the client")

    def call_async(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        self.call()

    def add_listener(self, listener: Any) -> None:
        """Have `listener` told from now on."""
        super().add_listener(listener)
        self._circuit.heard = True

    def remove_listener(self, listener: Any) -> None:
        """Tell `listener` nothing more."""
        super().remove_listener(listener)
        self._circuit.heard = bool(self._listeners)

    def exchange(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        """Put one policy's listeners in the place of another's; those that were added here stay."""
        for listener in old:
            if listener in self.listeners:
                self.remove_listener(listener)
        for listener in new:
            if listener not in self.listeners:
                self.add_listener(listener)

    def told(self, change: Change) -> None:
        """Tell the listeners of a change."""
        old, new = _state_object(self, change.old), _state_object(self, change.new)
        self._tell(lambda listener: listener.state_change(self, old, new))

    def began(self, func: Callable[..., Any], call: Call) -> None:
        """Tell the listeners that a call was let through."""
        self._tell(lambda listener: listener.before_call(self, func, call))

    def ended(self, error: BaseException | None) -> None:
        """Tell the listeners how a call ended; None: it says that the target is healthy."""
        if error is None:
            self._tell(lambda listener: listener.success(self))
        else:
            self._tell(lambda listener: listener.failure(self, error))

    def _tell(self, tell: Callable[[Any], object]) -> None:
        for listener in self.listeners:
            try:
                tell(listener)
            except Exception:
                if id(listener) not in self._broken:
                    self._broken.add(id(listener))
                    log.exception("the listener %r failed; further failures are not logged", listener)


def _state_object(breaker: TargetBreaker, state: State) -> pybreaker.CircuitBreakerState:
    match NAMES[state]:
        case pybreaker.STATE_CLOSED:
            return pybreaker.CircuitClosedState(breaker)
        case pybreaker.STATE_OPEN:
            return pybreaker.CircuitOpenState(breaker)
        case _:
            return pybreaker.CircuitHalfOpenState(breaker, None)
