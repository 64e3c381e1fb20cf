"""What both clients share: the settings of a client and of a call, statistics, events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from resilient_rpc import forking
from resilient_rpc.call import Safety
from resilient_rpc.caller import Caller, CallerOptions, check_safety, default_policies
from resilient_rpc.chain import check_order
from resilient_rpc.errors import ConfigurationError, RemoteError, UsageError
from resilient_rpc.events import Event, Events
from resilient_rpc.policy import Policy
from resilient_rpc.service import Service
from resilient_rpc.stats import CallStats, StatsSnapshot
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.wire.codec import CODECS, JSON
from resilient_rpc.wire.limits import Limits

E = TypeVar("E", bound=Event)


class Settings(TypedDict, total=False):
    """The keywords of `Client` and `AsyncClient`, for type checkers; defaults and meanings stand at `Client`."""

    policies: Sequence[Policy] | None
    timeout: float
    safety: Safety | str | Mapping[str, Safety | str]
    errors: Iterable[type[RemoteError]]
    codec: str
    batching: Batching | None
    limits: Limits
    links: int
    max_pending: int
    prefix: str
    app_id: str | None
    lane: bool


class How(TypedDict, total=False):
    """What may be said of a single call."""

    timeout: float | None
    """Seconds from here to the result; None: the client's."""
    safety: Safety | str | None
    idempotency_key: str | None
    tags: Mapping[str, str] | None
    """Travel with the call, and with the calls that its handler makes."""
    returns: Any
    """The type of the result."""
    detached: bool
    """Inherit nothing from the call that the running handler serves."""


CODEC_NAMES = {"json": JSON.content_type, "msgpack": "application/msgpack"}


class Face:
    """What both clients share: settings, statistics, events."""

    def __init__(
        self,
        url: str,
        *,
        policies: Sequence[Policy] | None = None,
        timeout: float = 30.0,
        safety: Safety | str | Mapping[str, Safety | str] = Safety.UNSAFE,
        errors: Iterable[type[RemoteError]] = (),
        codec: str = "json",
        batching: Batching | None = Batching(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        links: int = 1,
        max_pending: int = 250_000,
        prefix: str = "rpc.",
        app_id: str | None = None,
        lane: bool = True,
    ) -> None:
        chain = default_policies() if policies is None else list(policies)
        check_order(chain)
        self._options = CallerOptions(
            policies=tuple(chain),
            timeout=timeout,
            safety=_safeties(safety),
            errors=_registry(errors),
            codec=CODECS[_content_type(codec)],
            links=links,
            link=LinkOptions(batching=batching, limits=limits, max_pending=max_pending, app_id=app_id),
            prefix=prefix,
        )
        self._transport = open_transport(url, lane=lane)
        self._events = Events()
        self._stats = CallStats()
        self._caller: Caller | None = None
        self._closed = False
        forking.register(self)

    def after_fork(self) -> None:
        """The connections are the parent's; the child makes its own."""
        self._caller = None
        self._stats = CallStats()

    def on(self, event_type: type[E], hook: Callable[[E], object]) -> Callable[[], None]:
        """Have `hook` called with every event of a type; it must not wait. Returns what ends the subscription."""
        return self._events.on(event_type, hook)

    def stats(self) -> StatsSnapshot:
        """Counts, rates and times of the calls of this client."""
        return self._stats.snapshot()

    def service(self, name: str) -> Service:
        """The methods of a service as attributes: ``orders = client.service("orders"); orders.price(sku="A1")``."""
        return Service(self.call, name)  # type: ignore[attr-defined]  # both faces have it

    def _new_caller(self) -> Caller:
        if self._closed:
            raise UsageError("the client is closed")
        return Caller(self._options, self._events, self._stats)


_NOTHING: dict[str, Any] = {}
_HOW = frozenset(How.__annotations__)


def check_how(how: Any) -> dict[str, Any]:
    """Check the keywords of a call."""
    if not how:
        return _NOTHING
    if unknown := how.keys() - _HOW:
        raise TypeError(f"a call has no {', '.join(sorted(unknown))!r}; it has {', '.join(sorted(_HOW))}")
    return dict(how)


def _safeties(safety: Safety | str | Mapping[str, Safety | str]) -> Safety | dict[str, Safety]:
    if isinstance(safety, Mapping):
        return {method: check_safety(value) for method, value in safety.items()}
    return check_safety(safety)


def _registry(errors: Iterable[Any]) -> dict[str, type[RemoteError]]:
    found: dict[str, type[RemoteError]] = {}
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, RemoteError) and error.type):
            raise ConfigurationError(f"errors={error!r}: give subclasses of ApplicationError with a `type`")
        found[error.type] = error
    return found


def _content_type(codec: str) -> str:
    if codec not in CODEC_NAMES:
        raise ConfigurationError(f"codec={codec!r}: give one of {', '.join(CODEC_NAMES)}")
    return CODEC_NAMES[codec]
