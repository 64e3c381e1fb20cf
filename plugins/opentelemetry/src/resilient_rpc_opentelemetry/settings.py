"""The settings that both sides have, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, TracerProvider

from resilient_rpc import ConfigurationError
from resilient_rpc_opentelemetry import conventions as names
from resilient_rpc_opentelemetry.span import Around


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracing:
    """What a span is made with, on either side. ConfigurationError for a value of the wrong type."""

    kind: ClassVar[SpanKind]
    """Of its spans."""
    duration: ClassVar[str]
    """The metric of how long they take."""

    prefix: str = "rpc."
    """Of the names of queues, as the client or the server has it."""
    system: str = names.RABBITMQ
    """What carries the messages."""
    texts: bool = False
    """True records the texts of errors too, which may quote arguments."""
    tracers: TracerProvider | None = field(default=None, repr=False)
    """None: the global one."""
    meters: MeterProvider | None = field(default=None, repr=False)
    """None: the global one."""
    _around: Around = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        around = Around(self.kind, self.duration, self.tracers, self.meters, texts=self.texts)
        object.__setattr__(self, "_around", around)


def _check(policy: Any) -> None:
    kind = type(policy).__name__
    for name in ("prefix", "system"):
        if not isinstance(getattr(policy, name), str):
            raise ConfigurationError(f"{kind}.{name}={getattr(policy, name)!r}: give a text")
    if type(policy.texts) is not bool:
        raise ConfigurationError(f"{kind}.texts={policy.texts!r}: give True or False")
    for name, wanted in (("tracers", TracerProvider), ("meters", MeterProvider)):
        value = getattr(policy, name)
        if value is not None and not isinstance(value, wanted):
            raise ConfigurationError(f"{kind}.{name}={value!r:.100}: give a {wanted.__name__}, or None")
