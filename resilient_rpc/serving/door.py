"""The filters of a server, before anything of a message is read. Used only where there are filters."""

from __future__ import annotations

from collections.abc import Callable

from resilient_rpc import events
from resilient_rpc.errors import FilterRefused, ProtocolError, Refused, RpcError, TooLarge
from resilient_rpc.hub import Events
from resilient_rpc.serving.job import Letter
from resilient_rpc.transport import filtering
from resilient_rpc.transport.base import Delivery
from resilient_rpc.wire.filters import Filters
from resilient_rpc.wire.limits import Limits


class Door:
    """Lets a message in as its filters leave it, or has its sender told why not."""

    def __init__(
        self,
        filters: Filters,
        limits: Limits,
        queue: str,
        hub: Events,
        refuse: Callable[[Letter, None, RpcError], None],
    ) -> None:
        self._filters, self._limits, self._queue, self._hub, self._refuse = filters, limits, queue, hub, refuse

    def admit(self, letter: Letter, delivery: Delivery) -> Delivery | None:
        """What is to be read instead of the delivery; None: its sender has been answered."""
        try:
            self._limits.check_body(len(delivery.body), "the message")
            if len(delivery.properties.get("headers", b"")) > self._limits.max_headers:
                raise TooLarge(f"headers over the limit of {self._limits.max_headers} bytes")
            admitted, seen = filtering.incoming(self._filters, delivery, "request", self._queue)
            letter.principal, letter.accepts = seen.principal, seen.accepts
        except FilterRefused as error:
            self._hub.emit(events.MessageRefused(filter=error.filter, reason=str(error)))
            cause = error.__cause__
            self._refuse(letter, None, cause if isinstance(cause, ProtocolError) else Refused(str(error)))
        except ProtocolError as error:
            self._refuse(letter, None, error)
        else:
            return admitted
        return None
