"""The metrics, once for each registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from resilient_rpc_prometheus.bounded import Children

PREFIX = "resilient_rpc"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""
Sample = tuple[str, str, float]
Read = Callable[[], Iterable[Sample]]


class Metrics:
    """All of them; attributes are named as the metrics are, and find a child by its labels in order."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        def counter(name: str, text: str, *labels: str) -> Children[Any]:
            return Children(Counter(f"{PREFIX}_{name}", text, labels, registry=registry).labels)

        def gauge(name: str, text: str, *labels: str) -> Children[Any]:
            return Children(Gauge(f"{PREFIX}_{name}", text, labels, registry=registry).labels)

        def histogram(name: str, text: str, *labels: str) -> Children[Any]:
            made = Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=registry)
            return Children(made.labels)

        self.client_calls = counter("client_calls", "Calls that ended.", "method", "outcome", "error", "certainty")
        self.client_call_seconds = histogram("client_call_seconds", "From the user's call to its end.", "method")
        self.client_attempts = counter("client_attempts", "Attempts that ended.", "method", "outcome", "error")
        self.client_attempt_seconds = histogram("client_attempt_seconds", "Duration of attempts.", "method")
        self.client_substitutes = counter(
            "client_substitutes", "Results that no handler made for this call: replayed, or degraded.", "method", "kind"
        )
        self.late_replies = counter("late_replies", "Replies for which no call waited any more.", "name")
        self.server_calls = counter("server_calls", "Calls that a server took.", "method", "outcome", "error")
        self.server_call_seconds = histogram("server_call_seconds", "Duration of handlers and policies.", "method")
        self.server_refused = counter("server_refused", "Calls that a server did not begin with.", "name", "error")
        self.server_redelivered = counter("server_redelivered", "Calls that a server took a second time.", "method")
        self.messages_refused = counter("messages_refused", "Messages that a filter did not accept.", "name", "filter")
        self.malformed = counter("malformed", "Messages that broke the rules of the wire.", "name")
        self.connection_changes = counter("connection_changes", "What became of connections.", "name", "state")
        self.reloads = counter("reloads", "Chains of policies that were replaced, or not.", "name", "outcome")
        self.loop_blocked_seconds = counter("loop_blocked_seconds", "Time for which work held the I/O loop.", "name")
        self.policy_events = counter("policy_events", "Decisions of policies.", "event", "policy", "target", "reason")
        self.rejections = counter("rejections", "Calls that a policy refused.", "policy", "target", "reason")
        self.retries = counter("retries", "Attempts that were made again.", "target", "reason")
        self.retries_suppressed = counter("retries_suppressed", "Retries that were not made.", "target", "reason")
        self.cache_uses = counter("cache_uses", "What a cache did for a call.", "policy", "target", "outcome")
        self.hedges = counter("hedges", "Hedged attempts: started, won or suppressed.", "target", "outcome")
        self.circuit_changes = counter("circuit_changes", "Changes of circuits.", "policy", "target", "state")
        self.circuit_state = gauge("circuit_state", "1 for the state it is in.", "name", "policy", "target", "state")
        self.limit = gauge("limit", "Concurrency that an adaptive limit allows.", "name", "policy", "target")
        self.live = _Live()
        registry.register(self.live)


class _Live(Collector):
    """What is read when somebody asks: pending calls of clients, running and waiting ones of servers."""

    TEXTS: ClassVar[dict[str, str]] = {
        f"{PREFIX}_connections": "Connections to the broker, as far as they were not closed by us.",
        f"{PREFIX}_client_pending": "Calls that have not ended.",
        f"{PREFIX}_server_running": "Calls in a slot of a server.",
        f"{PREFIX}_server_waiting": "Calls that wait for a slot of a server.",
    }  # fmt: skip

    def __init__(self) -> None:
        self._reads: list[Read] = []

    def add(self, read: Read) -> Callable[[], None]:
        """Ask `read` for samples: metric, name, value. Returns what ends it."""
        self._reads = [*self._reads, read]

        def remove() -> None:
            self._reads = [known for known in self._reads if known is not read]

        return remove

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Those of one name are added up."""
        sums: dict[tuple[str, str], float] = {}
        for read in self._reads:
            for metric, name, value in read():
                sums[metric, name] = sums.get((metric, name), 0.0) + value
        for metric, text in self.TEXTS.items():
            family = GaugeMetricFamily(metric, text, labels=["name"])
            for (found, name), value in sums.items():
                if found == metric:
                    family.add_metric([name], value)
            yield family


_made: WeakKeyDictionary[CollectorRegistry, Metrics] = WeakKeyDictionary()


def metrics_of(registry: CollectorRegistry, buckets: Sequence[float]) -> Metrics:
    """Those of a registry; whoever asks first chooses the buckets."""
    found = _made.get(registry)
    if found is None:
        found = _made[registry] = Metrics(registry, buckets)
    return found
