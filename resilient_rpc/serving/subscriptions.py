"""The events that a service subscribes to, and which handler each of them is for."""

from __future__ import annotations

from resilient_rpc.contract import Method, Methods
from resilient_rpc.errors import ConfigurationError, MethodNotFound
from resilient_rpc.names import MAX_NAME, is_name
from resilient_rpc.topics import check_topic, is_pattern, matches, rank

REMEMBERED = 1_000
"""Names that patterns were looked up for; they come from anybody who publishes."""


class Unwanted(MethodNotFound):
    """An event that the service has subscribed to once, and does not any more."""


class Subscriptions(Methods):
    """Handlers by the name of an event, or by a pattern of names. An event has one: that of the most definite match."""

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.ended: set[str] = set()
        """What it was subscribed to by versions before this one."""
        self._patterns: list[str] = []
        self._found: dict[str, Method] = {}

    def __bool__(self) -> bool:
        return bool(self._methods or self.ended)

    def add(self, method: Method) -> None:
        """Subscribe; `ConfigurationError` if the name or pattern has a handler already, or has been given up."""
        topic = check_topic(method.name)
        if topic in self._methods:
            raise ConfigurationError(
                f"event {topic!r} has a handler already: an event is handled once by a service; call both from one"
            )
        if topic in self.ended:
            raise ConfigurationError(f"event {topic!r}: the same service cannot subscribe to it and give it up")
        self._methods[topic] = method
        self._patterns = sorted(filter(is_pattern, self._methods), key=rank)
        self._found.clear()

    def end(self, topic: str) -> None:
        """Give up what versions before this one have subscribed to."""
        if check_topic(topic) in self._methods:
            raise ConfigurationError(f"event {topic!r}: the same service cannot subscribe to it and give it up")
        self.ended.add(topic)

    def find(self, name: str) -> Method:
        """The handler of an event. Raises `MethodNotFound`, `Unwanted` for what was given up."""
        found = self._found.get(name)
        return found if found is not None else self._look_up(name)

    def _look_up(self, name: str) -> Method:
        text = f"{self.service!r} does not subscribe to {name[:MAX_NAME]!r}"
        if not is_name(name):  # nor to a pattern that somebody publishes under
            raise MethodNotFound(text)
        found = self._methods.get(name)
        if found is None:
            pattern = next((pattern for pattern in self._patterns if matches(pattern, name)), None)
            if pattern is None:
                raise (Unwanted if any(matches(topic, name) for topic in self.ended) else MethodNotFound)(text)
            found = self._methods[pattern]
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[name] = found
        return found
