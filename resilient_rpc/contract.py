"""The methods of a service, by name: what each is, and what was declared of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from resilient_rpc.binder import Binder
from resilient_rpc.call import UNSAFE, Safety
from resilient_rpc.errors import ApplicationError, ConfigurationError, MethodNotFound
from resilient_rpc.names import MAX_NAME, check_name

RESERVED = "rpc."
"""How the names of methods begin that every server has; JSON-RPC reserves it for such."""
PING, HEALTH, DISCOVER = f"{RESERVED}ping", f"{RESERVED}health", f"{RESERVED}discover"


def split_method(method: str) -> tuple[str, str]:
    """``service.method`` into the service (before the first dot) and the name that goes on the wire."""
    service, dot, name = method.partition(".")
    if not dot or not service or not name:
        raise ConfigurationError(f"method {method[:MAX_NAME]!r}: give it as 'service.method'")
    return service, name


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """One method of a service, as it was registered."""

    name: str
    function: Callable[..., Any]
    binder: Binder
    safety: Safety | None
    """As declared; None: undeclared, then the caller's word counts."""
    timeout: float | None
    """Seconds that a handler may run, besides the caller's deadline."""
    is_async: bool
    concurrency: int | None = None
    """Calls of it that one server may run at once, besides the server's own limit."""
    allow: tuple[Callable[[Any], object], ...] = ()
    """Functions of the `Context` of a call, all of which must allow it."""

    def safety_for(self, hint: Safety | None) -> Safety:
        """The safety class of a call to it."""
        return self.safety or hint or UNSAFE


class Methods:
    """The methods of a service, by name. Only what was registered can be called."""

    def __init__(self, service: str) -> None:
        self.service = check_name(service, "service")
        if "." in service:
            raise ConfigurationError(f"service name {service!r}: a dot would end it")
        self._methods: dict[str, Method] = {}
        self._errors: dict[str, type[ApplicationError]] = {}

    def __iter__(self) -> Iterator[Method]:
        return iter(sorted(set(self._methods.values()), key=lambda method: method.name))

    @property
    def errors(self) -> dict[str, type[ApplicationError]]:
        """The errors that have a name on the wire, sorted by it."""
        return dict(sorted(self._errors.items()))

    def add(self, method: Method) -> None:
        """Register; `ConfigurationError` if the name is taken, or reserved."""
        check_name(method.name)
        if method.name.startswith(RESERVED):
            raise ConfigurationError(f"method {method.name!r}: names that begin with {RESERVED!r} are reserved")
        names = method.name, f"{self.service}.{method.name}"
        for name in names:
            if name in self._methods:
                raise ConfigurationError(f"method {name!r} is registered already")
        self._methods |= dict.fromkeys(names, method)

    def add_error(self, name: str, kind: Any) -> None:
        """Name an error; `ConfigurationError` if it cannot have that name."""
        if not (isinstance(kind, type) and issubclass(kind, ApplicationError)) or kind is ApplicationError:
            raise ConfigurationError(f"error {name!r}: {kind!r:.200} is not a subclass of ApplicationError")
        if vars(kind).get("type", name) != name:
            raise ConfigurationError(f"error {name!r}: {kind.__name__} is called {kind.type!r} already")
        if self._errors.setdefault(name, kind) is not kind:
            raise ConfigurationError(f"error {name!r} is {self._errors[name].__name__} already")
        kind.type = name

    def find(self, name: str) -> Method:
        """The method a message names, with or without the service. Raises `MethodNotFound`."""
        method = self._methods.get(name)
        if method is None:
            raise MethodNotFound(f"{self.service!r} has no method {name[:MAX_NAME]!r}")
        return method

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted({method.name for method in self._methods.values()})
