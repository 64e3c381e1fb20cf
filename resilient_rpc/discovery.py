"""What services say of their methods: asked once, shared by all calls of a client, asked anew when it may have changed.

Nothing here fails a call: what is not known counts as not declared.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from resilient_rpc.call import Safety
from resilient_rpc.events import ServiceDiscovered
from resilient_rpc.hub import Events
from resilient_rpc.pending import Pending
from resilient_rpc.policy import Runtime
from resilient_rpc.schemas import Convert, converter
from resilient_rpc.settings import MAX_TIMEOUT

VALID = 60.0
"""Seconds for which a description counts."""
PAUSE = 10.0
"""Seconds between two questions to a service, at least."""
PATIENCE = 2.0
"""Seconds that a question may take."""
SHARE = 0.5
"""Of the time that a call has left, it waits at most so much for a description."""
MAX_SERVICES = 1_000


class Terms(NamedTuple):
    """What a service declares of one of its methods. None: nothing."""

    safety: Safety | None = None
    timeout: float | None = None
    convert: Convert | None = None
    """Makes of a result as it is decoded what its type says; None: it is that already."""


NOTHING = Terms()
Ask = Callable[[Runtime, str, float], Coroutine[Any, Any, Any]]
"""Asks a service for its description, until a deadline."""
Table = Mapping[str, Terms]
_UNKNOWN: Table = {}


class _Result(msgspec.Struct):
    schema: Any = None


class _Method(msgspec.Struct, rename={"safety": "x-safety", "timeout": "x-timeout"}):
    name: str
    result: _Result = msgspec.field(default_factory=_Result)
    safety: Safety | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT)] | None = None


class _Info(msgspec.Struct):
    version: str


class _Components(msgspec.Struct):
    schemas: dict[str, Any] = {}


class _Document(msgspec.Struct):
    info: _Info
    methods: list[_Method]
    components: _Components = msgspec.field(default_factory=_Components)


class _Service:
    """What is known of one."""

    __slots__ = ("asked", "failed", "flight", "outdated", "table", "until", "version")

    def __init__(self) -> None:
        self.table: Table = _UNKNOWN
        self.version = ""
        self.until = self.asked = -math.inf
        self.outdated = self.failed = False
        self.flight: Pending[Any] | None = None


class Discovery:
    """Of one client; used from any thread and loop."""

    def __init__(self, ask: Ask, events: Events) -> None:
        self._ask, self._events = ask, events
        self._lock = threading.RLock()  # re-entrant: a task may begin in the very call that starts it
        self._services: dict[str, _Service] = {}

    async def of(self, runtime: Runtime, service: str, deadline: float) -> Table:
        """What the service declares, by method; waited for, if nobody has asked it lately. Empty: not known."""
        known, now = self._services.get(service), runtime.now()
        if known is not None and now < known.until and not known.outdated:
            return known.table
        known, flight = self._join(runtime, service, now)
        if flight is not None and not known.failed:  # whoever does not answer is asked again, but not waited for
            await runtime.wait((flight,), max(min(PATIENCE, (deadline - now) * SHARE), 0.0))
        return known.table if runtime.now() < known.until else _UNKNOWN

    def answered(self, service: str, version: str | None) -> None:
        """A server of it has sent a reply, with the version of its contract."""
        known = self._services.get(service)
        if known is not None and version is not None and version != known.version and known.table is not _UNKNOWN:
            known.outdated = True

    def missed(self, service: str) -> None:
        """A server of it has not found a method."""
        self.answered(service, "")

    def _join(self, runtime: Runtime, service: str, now: float) -> tuple[_Service, Pending[Any] | None]:
        """The question that is under way, or a new one, if it is time for it."""
        with self._lock:
            known = self._services.get(service)
            if known is None:
                if len(self._services) >= MAX_SERVICES:
                    self._services.clear()
                known = self._services[service] = _Service()
            if known.flight is not None and not known.flight.done():
                return known, known.flight
            if now < known.asked + PAUSE:
                return known, None
            known.asked = now
            about = known
            known.flight = runtime.start(lambda there: self._question(there, service, about))
            return known, known.flight

    async def _question(self, runtime: Runtime, service: str, known: _Service) -> None:
        try:
            version, table = read(await self._ask(runtime, service, runtime.now() + PATIENCE))
        except Exception as error:
            known.failed = True
            self._events.emit(ServiceDiscovered(service=service, error=error))
            return
        with self._lock:
            known.table, known.version, known.until = table, version, runtime.now() + VALID
            known.outdated = known.failed = False
        self._events.emit(ServiceDiscovered(service=service, version=version, methods=len(table)))


def read(document: Any) -> tuple[str, Table]:
    """The version and the methods of a description. Raises `msgspec.ValidationError` for what is none."""
    found = msgspec.convert(document, _Document)
    schemas = found.components.schemas
    return found.info.version, {
        each.name: Terms(each.safety, each.timeout, converter(each.result.schema, schemas)) for each in found.methods
    }
