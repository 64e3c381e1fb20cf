"""The methods of a service as attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.names import check_name

Send = Callable[..., Any]


class Service:
    """``orders.price(sku="A1")`` calls ``orders.price``. Arguments by name or by position, not both.

    With a `Client` an attribute blocks and returns the result; with an `AsyncClient` it returns a coroutine. `with_`
    gives the same service with other settings: ``orders.with_(timeout=1.0).price(sku="A1")``.
    """

    __slots__ = ("_how", "_name", "_send")

    def __init__(self, send: Send, name: str, how: dict[str, Any] | None = None) -> None:
        self._send, self._name, self._how = send, check_name(name, "service"), how or {}

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        full, send, how = f"{self._name}.{method}", self._send, self._how

        def remote(*args: Any, **kwargs: Any) -> Any:
            if args and kwargs:
                raise ConfigurationError(f"{full}: give the arguments by name or by position, not both")
            return send(full, args or kwargs, **how)

        return remote

    def __repr__(self) -> str:
        return f"Service({self._name!r})"

    def with_(self, **how: Any) -> Service:
        """The same service with settings for its calls: timeout, safety, idempotency_key, tags, returns."""
        return Service(self._send, self._name, {**self._how, **how})
