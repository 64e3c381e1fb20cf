"""Where events are announced, and subscribers that cannot break a call."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from resilient_rpc import forking
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.events import Event

log = logging.getLogger("resilient_rpc.events")  # what a hook does wrong stands where `log_events` writes

E = TypeVar("E", bound=Event)
Hook = Callable[[E], object]


class _Subscription:
    """One hook on one type of event, and whether its failure has been logged."""

    __slots__ = ("event_type", "failed", "hook")

    def __init__(self, event_type: type[Event], hook: Callable[[Any], object]) -> None:
        self.event_type, self.hook, self.failed = event_type, hook, False


class Events:
    """Where events are announced and listened to.

    A hook is a plain function; it runs where the event happens and must not wait. What it raises is logged, once for
    each subscription, and goes no further. Hooks are called in the order of their subscription, never under a lock.
    """

    def __init__(self) -> None:
        self._all: tuple[_Subscription, ...] = ()
        self._by_type: dict[type[Event], tuple[_Subscription, ...]] = {}
        self._lock = threading.Lock()
        forking.register(self)

    def after_fork(self) -> None:
        """Keep the hooks, with a lock that nobody holds."""
        self._lock = threading.Lock()

    def on(self, event_type: type[E], hook: Hook[E]) -> Callable[[], None]:
        """Have `hook` called with every event of this type or a subtype; returns what ends the subscription."""
        _check(event_type, hook)
        mine = _Subscription(event_type, hook)
        self._replace(add=mine)
        return lambda: self._replace(remove=mine)

    def wants(self, event_type: type[Event]) -> bool:
        """Whether anybody listens: ask before building an event where it costs. About 0.1 µs."""
        found = self._by_type.get(event_type)
        return bool(self._find(event_type) if found is None else found)

    def emit(self, event: Event) -> None:
        """Call the hooks of this event."""
        event_type = type(event)
        found = self._by_type.get(event_type)
        for subscription in self._find(event_type) if found is None else found:
            try:
                subscription.hook(event)
            except Exception:
                if not subscription.failed:
                    subscription.failed = True
                    log.exception(
                        "the hook %r failed with %r; further failures are not logged", subscription.hook, event
                    )

    def _replace(self, *, add: _Subscription | None = None, remove: _Subscription | None = None) -> None:
        with self._lock:
            kept = tuple(known for known in self._all if known is not remove)
            self._all = (*kept, add) if add is not None else kept
            self._by_type = {}  # after `_all`: whoever fills the new one has seen the new subscriptions

    def _find(self, event_type: type[Event]) -> tuple[_Subscription, ...]:
        by_type = self._by_type
        found = tuple(known for known in self._all if issubclass(event_type, known.event_type))
        by_type[event_type] = found
        return found


def _check(event_type: Any, hook: Any) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise ConfigurationError(f"not a type of event: {event_type!r}")
    if not callable(hook):
        raise ConfigurationError(f"a hook is a plain function, not {hook!r}")
    if inspect.iscoroutinefunction(hook):
        raise ConfigurationError(f"a hook is a plain function, not {hook!r}, which nobody would await")
