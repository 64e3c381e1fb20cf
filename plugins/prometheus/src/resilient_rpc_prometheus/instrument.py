"""From events to metrics."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from resilient_rpc import AsyncClient, Client, ConfigurationError, RpcError, Server
from resilient_rpc.events import (
    AttemptEnded,
    CallEnded,
    CallRejected,
    CallServed,
    ChainReloaded,
    ConnectionStateChanged,
    LateReply,
    LoopBlocked,
    MalformedDropped,
    MessageRefused,
    PolicyEvent,
    ReloadFailed,
    RequestRefused,
)
from resilient_rpc.policies import (
    CacheUsed,
    CircuitStateChanged,
    HedgeStarted,
    HedgeSuppressed,
    HedgeWon,
    LimitChanged,
    RetryScheduled,
    RetrySuppressed,
)
from resilient_rpc_prometheus.bounded import Bounded
from resilient_rpc_prometheus.metrics import BUCKETS, PREFIX, Metrics, Sample, metrics_of

Source = Client | AsyncClient | Server
_making = threading.Lock()
_HEDGES: dict[type[PolicyEvent], str] = {HedgeStarted: "started", HedgeWon: "won", HedgeSuppressed: "suppressed"}


def instrument(
    source: Source,
    *,
    registry: CollectorRegistry = REGISTRY,
    name: str | None = None,
    methods: int = 500,
    buckets: Sequence[float] = BUCKETS,
) -> Callable[[], None]:
    """Count what a client or a server does, in metrics of a registry; returns what ends it.

    Before it connects: connections of before are not counted.

    Args:
        source: A client or a server.
        registry: Several sources share the metrics of one registry.
        name: Tells sources apart in metrics that are not about calls; None: ``client``, or the server's service.
        methods: Methods, targets and errors that have time series of their own; further ones count as ``other``.
        buckets: Upper bounds of the histograms, seconds; of a registry, the first ones given.

    Raises:
        ConfigurationError: `source` is neither, or `methods` is no number of at least 1.
    """
    if not isinstance(source, Client | AsyncClient | Server):
        raise ConfigurationError(f"instrument({source!r:.100}): give a Client, an AsyncClient or a Server")
    if type(methods) is not int or methods < 1:
        raise ConfigurationError(f"instrument(methods={methods!r}): give a whole number of at least 1")
    with _making:
        metrics = metrics_of(registry, buckets)
    called = name or (source.service if isinstance(source, Server) else "client")
    hooks = _Hooks(metrics, called, methods)
    ends = [source.on(event_type, hook) for event_type, hook in hooks.all().items()]
    ends.append(metrics.live.add(_reader(source, called, hooks)))

    def end() -> None:
        for each in ends:
            each()

    return end


def _reader(source: Source, name: str, hooks: _Hooks) -> Callable[[], Iterable[Sample]]:
    found = weakref.ref(source)

    def read() -> Iterable[Sample]:
        alive = found()
        if alive is None:
            return
        yield f"{PREFIX}_connections", name, hooks.connections
        if isinstance(alive, Server):
            health = alive.health()
            for what in ("running", "waiting"):
                yield f"{PREFIX}_server_{what}", name, health.get(what, 0)
        else:
            yield f"{PREFIX}_client_pending", name, alive.stats().pending

    return read


class _Hooks:
    """One source's."""

    def __init__(self, metrics: Metrics, name: str, most: int) -> None:
        self._m, self._name = metrics, name
        self._method, self._target, self._error = Bounded(most), Bounded(most), Bounded(most)
        self._word = Bounded(100)
        self._circuits: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self.connections = 0
        self._policies: dict[type[PolicyEvent], Callable[[Any], None]] = {
            CallRejected: self._rejected,
            RetryScheduled: self._retried,
            RetrySuppressed: self._not_retried,
            CacheUsed: self._cached,
            CircuitStateChanged: self._circuit,
            LimitChanged: self._limited,
            **dict.fromkeys(_HEDGES, self._hedged),
        }

    def all(self) -> dict[type[Any], Callable[[Any], None]]:
        """What listens to what."""
        name, m = self._name, self._m
        return {
            CallEnded: self._ended,
            AttemptEnded: self._attempted,
            CallServed: self._served,
            PolicyEvent: self._policy,
            ConnectionStateChanged: self._connection,
            LateReply: lambda event: m.late_replies(name).inc(event.count),
            MalformedDropped: lambda _: m.malformed(name).inc(),
            MessageRefused: lambda event: m.messages_refused(name, self._word(event.filter)).inc(),
            RequestRefused: lambda event: m.server_refused(name, self._class(event.error)).inc(),
            LoopBlocked: lambda event: m.loop_blocked_seconds(name).inc(event.seconds),
            ChainReloaded: lambda _: m.reloads(name, "ok").inc(),
            ReloadFailed: lambda _: m.reloads(name, "error").inc(),
        }

    def _class(self, error: BaseException | None) -> str:
        return self._error(type(error).__name__) if error is not None else ""

    def _ended(self, event: CallEnded) -> None:
        method, error = self._method(event.method), event.error
        outcome = "ok" if error is None else "error"
        certainty = "" if error is None else str(error.certainty) if isinstance(error, RpcError) else "unknown"
        self._m.client_calls(method, outcome, self._class(error), certainty).inc()
        self._m.client_call_seconds(method).observe(event.seconds)
        for kind in ("replayed", "degraded"):
            if getattr(event, kind):
                self._m.client_substitutes(method, kind).inc()

    def _attempted(self, event: AttemptEnded) -> None:
        method = self._method(event.method)
        outcome = "ok" if event.error is None else "error"
        self._m.client_attempts(method, outcome, self._class(event.error)).inc()
        self._m.client_attempt_seconds(method).observe(event.seconds)

    def _served(self, event: CallServed) -> None:
        method = self._method(event.method)
        self._m.server_calls(method, "ok" if event.error is None else "error", self._class(event.error)).inc()
        self._m.server_call_seconds(method).observe(event.seconds)
        if event.redelivered:
            self._m.server_redelivered(method).inc()

    def _connection(self, event: ConnectionStateChanged) -> None:
        self._m.connection_changes(self._name, event.state).inc()
        change = {"connected": 1, "lost": -1}.get(event.state, 0)
        self.connections = max(0, self.connections + change)  # one may be lost that was there before us

    def _policy(self, event: PolicyEvent) -> None:
        kind, policy, target = type(event), self._word(event.policy), self._target(event.target)
        said = getattr(event, "reason", "")
        self._m.policy_events(self._word(kind.__name__), policy, target, self._word(str(said))).inc()
        special = self._policies.get(kind)
        if special is not None:
            special(event)

    def _rejected(self, event: CallRejected) -> None:
        self._m.rejections(self._word(event.policy), self._target(event.target), self._word(event.reason)).inc()

    def _retried(self, event: RetryScheduled) -> None:
        self._m.retries(self._target(event.target), self._word(event.reason)).inc()

    def _not_retried(self, event: RetrySuppressed) -> None:
        self._m.retries_suppressed(self._target(event.target), self._word(event.reason)).inc()

    def _cached(self, event: CacheUsed) -> None:
        self._m.cache_uses(self._word(event.policy), self._target(event.target), str(event.outcome)).inc()

    def _hedged(self, event: PolicyEvent) -> None:
        self._m.hedges(self._target(event.target), _HEDGES[type(event)]).inc()

    def _limited(self, event: LimitChanged) -> None:
        self._m.limit(self._name, self._word(event.policy), self._target(event.target)).set(event.new)

    def _circuit(self, event: CircuitStateChanged) -> None:
        policy, target, state = self._word(event.policy), self._target(event.target), str(event.new)
        self._m.circuit_changes(policy, target, state).inc()
        with self._lock:  # two threads may announce their changes in the other order
            if event.generation < self._circuits.get((policy, target), 0):
                return
            self._circuits[policy, target] = event.generation
            for each in type(event.new):
                self._m.circuit_state(self._name, policy, target, each.value).set(1 if each is event.new else 0)
