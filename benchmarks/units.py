"""What is measured: its unit, how it is written, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a run. `steps`: the units it is shown in, each with what it is worth, the smallest first."""

    title: str
    steps: tuple[tuple[float, str], ...]
    more_is_better: bool = False

    def step(self, value: float) -> tuple[float, str]:
        """The largest unit that `value` fills."""
        fits = [step for step in self.steps if abs(value) >= step[0]]
        return fits[-1] if fits else self.steps[0]

    def show(self, value: float, step: tuple[float, str] | None = None) -> str:
        """``12,345 calls/s``, ``0.46 ms``."""
        worth, name = step or self.step(value)
        return f"{number(value / worth)} {name}".rstrip()

    def spread(self, low: float, middle: float, high: float) -> str:
        """``458 (455 - 465) µs``: the median, the least and the greatest."""
        worth, name = self.step(middle)
        return f"{number(middle / worth)} ({number(low / worth)} - {number(high / worth)}) {name}".rstrip()


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


_TIME = ((1.0, "µs"), (1e3, "ms"), (1e6, "s"))
MEASURES = {
    "calls_per_s": Measure(title="calls a second", steps=((1.0, "calls/s"),), more_is_better=True),
    "bytes_per_s": Measure(
        title="volume each way", steps=((1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s")), more_is_better=True
    ),
    "p50_us": Measure(title="time of a call, p50", steps=_TIME),
    "p95_us": Measure(title="time of a call, p95", steps=_TIME),
    "p99_us": Measure(title="time of a call, p99", steps=_TIME),
    "p999_us": Measure(title="time of a call, p99.9", steps=_TIME),
    "client_cpu_us": Measure(title="processor time of the client, a call", steps=_TIME[:1]),
    "server_cpu_us": Measure(title="processor time of the server, a call", steps=_TIME[:1]),
    "broker_cpu_us": Measure(title="processor time of the broker, a call", steps=_TIME[:1]),
    "redis_cpu_us": Measure(title="processor time of Redis in scripts, a call", steps=_TIME[:1]),
    "round_trips": Measure(title="round trips to Redis, a call", steps=((1.0, ""),)),
    "calls_a_message": Measure(title="calls in a message", steps=((1.0, ""),), more_is_better=True),
    "micros": Measure(title="added to a call", steps=_TIME[:1]),
    "elapsed_us": Measure(title="until the caller knows", steps=_TIME),
    "bytes": Measure(title="bytes", steps=((1.0, "B"), (1e3, "kB"), (1e6, "MB"))),
    "growth": Measure(title="growth, bytes a call", steps=((1.0, "B"),)),
    "share": Measure(title="share of one processor", steps=((0.01, "%"),)),
    "attempts": Measure(title="requests sent for a call", steps=((1.0, ""),)),
}
