"""The circuit of one target: a state machine behind a lock, which waits for nothing and reads no clock.

::

                 trip                     open time over
    CLOSED ───────────────▶ OPEN ────────────────────────────▶ HALF_OPEN
      ▲                      ▲   a probe failed, or all hang       │
      │                      └─────────────────────────────────────┤
      └────────────────────────────────────────────────────────────┘
                         enough probes succeeded

FORCED_OPEN and DISABLED are entered and left by hand only.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from resilient_rpc.policies.circuit_state import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    Change,
    Permit,
    Probe,
    Reason,
    Refusal,
    State,
)
from resilient_rpc.policies.window import Window

if TYPE_CHECKING:
    from resilient_rpc.policies.breaker_rules import Rules

MOST_DOUBLINGS = 60
"""Of the open time: keeps the power of two a small number, however long a target is away."""


class Circuit:
    """Decides on each call to one target, and counts how those end that it let pass.

    Thresholds are read from the rules that are passed to each decision, so that changed ones apply at once. Every
    change of state begins a new `generation`: an outcome that belongs to an older one is only counted as `late`.
    """

    __slots__ = (
        "_closed_at", "_half_open_ends", "_lock", "_open_for", "_probes", "_until", "error", "generation", "in_row",
        "late", "state", "successes", "trips", "why", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state: State = CLOSED
        self.generation = 0
        self.window = Window()
        self.in_row = 0
        """Failures since the last success, while closed."""
        self.successes = 0
        """Of probes, while half-open."""
        self.trips = 0
        """In a row: the circuit has not been closed for a whole window in between."""
        self.late = 0
        """Outcomes that came when the state in which their call began was over."""
        self.why = ""
        """What the circuit opened for, in words."""
        self.error: BaseException | None = None
        """The failure that opened it."""
        self._until: float | None = None
        self._open_for = 0.0
        self._closed_at = -math.inf
        self._half_open_ends: float | None = None
        self._probes: set[Probe] = set()
        self._lock = threading.Lock()

    def admit(self, rules: Rules, now: float) -> tuple[Permit | Refusal, Change | None]:
        """Decide on a call that found the circuit not closed.

        A closed circuit lets every call pass, so nobody needs to ask: the permit is the `generation`, read *before*
        the state.
        """
        until = self._until
        if self.state is OPEN and until is not None and now < until <= now + rules.max_open:  # needs no lock
            return Refusal(OPEN, until - now), None
        with self._lock:
            return self._admit(rules, now)

    def count_success(self, generation: int, now: float, seconds: float) -> None:
        """What `count` does for a quick success of a closed circuit, in half the time."""
        with self._lock:
            if generation != self.generation:
                self.late += 1
                return
            window = self.window
            if now >= window.ends:
                window.advance(now, seconds)
            window.calls += 1
            self.in_row = 0

    def count(self, permit: int | Probe, rules: Rules, now: float, *, failed: bool, slow: bool) -> Change | None:
        """Count how a call ended."""
        with self._lock:
            if isinstance(permit, Probe):
                if permit not in self._probes:
                    self.late += 1
                    return None
                self._probes.remove(permit)
                return self._count_probe(rules, now, failed=failed, slow=slow)
            if permit != self.generation:
                self.late += 1
                return None
            self.window.add(now, rules.window, failed=failed, slow=slow)
            self.in_row = self.in_row + 1 if failed else 0
            reason = self._reason(rules) if failed or slow else None
            return None if reason is None else self._open(rules, reason, now)

    def give_back(self, permit: Permit) -> None:
        """A call ended in a way that says nothing about the target."""
        if isinstance(permit, Probe):
            with self._lock:
                self._probes.discard(permit)

    def force_open(self) -> Change | None:
        """Refuse every call from now on."""
        with self._lock:
            self.why, self.error = "forced open by hand", None
            return None if self.state is FORCED_OPEN else self._move(FORCED_OPEN, "manual")

    def disable(self) -> Change | None:
        """Let every call pass from now on, and count nothing."""
        with self._lock:
            return None if self.state is DISABLED else self._move(DISABLED, "manual")

    def open(self, rules: Rules) -> Change:
        """Open as if it had tripped. The open time begins with the first call that is refused."""
        with self._lock:
            return self._open(rules, "manual", None)

    def half_open(self) -> Change | None:
        """Let the next calls pass as probes."""
        with self._lock:
            self.why = "half-opened by hand"
            return None if self.state is HALF_OPEN else self._half_open("manual")

    def close(self) -> Change | None:
        """Close, if it is not closed, with nothing counted."""
        with self._lock:
            return None if self.state is CLOSED else self._reset()

    def reset(self) -> Change | None:
        """Begin anew, whatever the state is."""
        with self._lock:
            return self._reset()

    def _admit(self, rules: Rules, now: float) -> tuple[Permit | Refusal, Change | None]:
        change = None
        if self.state is OPEN:
            if self._until is None:
                self._until = now + self._open_for
            self._until = min(self._until, now + rules.max_open)  # which a reload may have lowered
            if now < self._until:
                return Refusal(OPEN, self._until - now), None
            change = self._half_open("open_time_over")
        if self.state is HALF_OPEN:
            permit, again = self._probe(rules, now)
            return permit, again or change
        if self.state is FORCED_OPEN:
            return Refusal(FORCED_OPEN, None), None
        return (None if self.state is DISABLED else self.generation), None

    def _probe(self, rules: Rules, now: float) -> tuple[Permit | Refusal, Change | None]:
        if self._half_open_ends is None:
            self._half_open_ends = now + rules.max_half_open
        hung = [probe for probe in self._probes if probe.overdue <= now]
        if hung and now >= self._half_open_ends:
            change = self._open(rules, "probes_hang", now)
            return Refusal(OPEN, self._open_for), change
        self._probes.difference_update(hung)
        if len(self._probes) >= rules.permits:
            return Refusal(HALF_OPEN, None), None
        probe = Probe(now + rules.probe_timeout)
        self._probes.add(probe)
        return probe, None

    def _count_probe(self, rules: Rules, now: float, *, failed: bool, slow: bool) -> Change | None:
        if failed or slow:
            return self._open(rules, "probe_failed" if failed else "probe_slow", now)
        self.successes += 1
        if self.successes < rules.successes_required:
            return None
        self._closed_at = now
        return self._close("probes_succeeded")

    def _reason(self, rules: Rules) -> Reason | None:
        window = self.window
        calls = window.calls
        if calls >= rules.min_calls:
            if window.failures / calls >= rules.failure_rate:
                return "failure_rate"
            if rules.slow_call is not None and window.slow / calls >= rules.slow_rate:
                return "slow_rate"
        if rules.consecutive is not None and self.in_row >= rules.consecutive and window.failures == calls:
            return "consecutive"
        return None

    def _open(self, rules: Rules, reason: Reason, now: float | None) -> Change:
        """Equal jitter: half of the time is certain, half is drawn, and the whole doubles with each trip in a row."""
        if now is not None and self.state is CLOSED and now - self._closed_at >= rules.window:
            self.trips = 0
        whole = min(rules.max_open, rules.open_for * 2.0 ** min(self.trips, MOST_DOUBLINGS))
        self._open_for = whole / 2 + rules.random() * whole / 2
        self._until = None if now is None else now + self._open_for
        self.trips += 1
        self.why, self.error = self._words(reason), None
        return self._move(OPEN, reason, self._open_for)

    def _words(self, reason: Reason) -> str:
        match reason:
            case "failure_rate":
                return f"{self.window.failures} of {self.window.calls} calls failed"
            case "slow_rate":
                return f"{self.window.slow} of {self.window.calls} calls were slow"
            case "consecutive":
                return f"{self.in_row} calls in a row failed"
            case "manual":
                return "opened by hand"
            case _:
                return {"probe_failed": "a probe failed", "probe_slow": "a probe was slow"}.get(reason, "probes hang")

    def _half_open(self, reason: Reason) -> Change:
        self._half_open_ends = None
        return self._move(HALF_OPEN, reason)

    def _reset(self) -> Change | None:
        self.trips = 0
        self._closed_at = -math.inf
        if self.state is not CLOSED:
            return self._close("manual")
        self.window.clear()
        self.in_row = 0
        return None

    def _close(self, reason: Reason) -> Change:
        self.window.clear()
        self.in_row = 0
        self.why, self.error = "", None
        return self._move(CLOSED, reason)

    def _move(self, new: State, reason: Reason, open_for: float | None = None) -> Change:
        # The state before the generation: whoever reads them without the lock, the other way round, may see an old
        # generation with a new state (its outcome is late), and never a new one with an old state.
        old, self.state = self.state, new
        self.generation += 1
        self.successes = 0
        self._probes.clear()
        return Change(old, new, reason, self.generation, open_for)
