"""What a server can neither handle nor answer goes to the service's dead queue, labelled, and is acked only then."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from resilient_rpc import events
from resilient_rpc.errors import NOT_EXECUTED, Expired, Interrupted, ProtocolError, RpcError
from resilient_rpc.hub import Events
from resilient_rpc.serving.forwards import Forward, Forwards
from resilient_rpc.serving.job import Death, Letter
from resilient_rpc.serving.ration import Ration
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.deadletters import DELIVERIES, PARTIAL, Reason, label
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.transport.topology import DEAD_EXCHANGE, DEAD_LETTER, dead_queue, expired_queue
from resilient_rpc.transport.users import Users

PERSISTENT = 2
LABELLED, EVERY = 50, 0.5
"""So many of those that nobody has to look at one by one are labelled at once, and one more in so many seconds."""
UNREAD: tuple[Reason, ...] = ("malformed", "refused")
"""Why a letter is dead of which nothing was begun, and whose sender cannot be told: anybody can send any number."""
Settle = Callable[[Letter, bool], None]


def reason_of(error: BaseException) -> Reason:
    """Why a call is dead that was answered with this error, or would have been."""
    if isinstance(error, Interrupted):
        return "interrupted"
    if isinstance(error, Expired):
        return "expired"
    if isinstance(error, ProtocolError):
        return "malformed"
    return "refused" if isinstance(error, RpcError) and error.certainty is NOT_EXECUTED else "failed"


class DeadLetters:
    """Lives on the server's loop."""

    def __init__(
        self,
        queue: QueueSpec,
        server: str,
        forwards: Forwards,
        users: Users,
        hub: Events,
        settle: Settle,
        *,
        cuttable: bool,
    ) -> None:
        """Connect nothing.

        `settle(letter, ok)` hears that a dead letter is with the broker, or (not ok) could not be sent. `cuttable`:
        bodies arrive as they were sent, so that some calls can be cut out of a batch.
        """
        self._queue, self._server, self._forwards, self._users = queue, server, forwards, users
        self._hub, self._settle = hub, settle
        self.cuttable = cuttable
        """Whether some calls can be cut out of a batch."""
        self.count = 0
        """Dead letters that were sent."""
        self._labels: Ration | None = None
        """How many of the `UNREAD` are labelled; None: all, for the broker would not keep the others."""
        if queue.declared and queue.arguments.get(DEAD_LETTER, DEAD_EXCHANGE) == DEAD_EXCHANGE:
            self._labels = Ration(LABELLED, 1 / EVERY)

    def bury(self, letter: Letter) -> None:
        """Send what is dead of a letter (`letter.deaths`), in one message.

        A label costs as much as ten calls, and a confirm that the acks of others wait behind. Where they come in
        numbers, the broker is told to take the letter to the same queue, which costs next to nothing.
        """
        reason, error = _worst(letter.deaths)
        whole = not letter.batch or {at for at, _, _ in letter.deaths} in ({-1}, set(range(letter.calls)))
        if whole and reason in UNREAD and self._labels is not None and not self._labels.take():
            self._settle(letter, False)
        else:
            self._send_labelled(letter, reason, error, whole=whole)
        self.count += 1
        if self._hub.wants(events.DeadLettered):
            self._hub.emit(
                events.DeadLettered(
                    reason=reason,
                    method=_method(letter),
                    attempts=letter.attempts,
                    error=error,
                    calls=len(letter.deaths),
                )
            )

    def _send_labelled(self, letter: Letter, reason: Reason, error: BaseException | None, *, whole: bool) -> None:
        deaths, delivery = letter.deaths, letter.delivery
        headers = label(reason, error, queue=self._queue.name, attempts=letter.attempts, server=self._server)
        body, correlation = delivery.body, letter.correlation_id or ""
        if not whole:
            if self.cuttable:
                body, suffix = _cut(letter, sorted({at for at, _, _ in deaths}))
                headers["rpc-calls"] = len({at for at, _, _ in deaths})
                correlation += suffix
            else:
                headers[PARTIAL] = True
        message_id = delivery.properties.get("message_id") or correlation or None
        properties = self._users.sent_on(
            delivery,
            headers,
            drop=(DELIVERIES,),
            expiration=None,
            delivery_mode=PERSISTENT,
            correlation_id=correlation or None,
            message_id=correlation if correlation != (letter.correlation_id or "") else message_id,
        )
        target = expired_queue if reason == "expired" else dead_queue
        self._send(letter, target(self._queue.main or self._queue.name), body, properties, correlation)

    def return_to_sender(self, letter: Letter) -> None:
        """Put it back into its queue as it came, to be taken by another server as if for the first time."""
        properties = self._users.sent_on(letter.delivery, {})
        self._send(letter, self._queue.name, letter.delivery.body, properties, letter.correlation_id or "")

    def return_calls(self, letter: Letter, calls: list[int], done: Callable[[bool], None]) -> None:
        """Put these calls of a batch into its queue as a message of their own. Only where it is `cuttable`.

        `done` is told whether the broker has it.
        """
        body, suffix = _cut(letter, calls)
        correlation = (letter.correlation_id or "") + suffix
        properties = self._users.sent_on(
            letter.delivery, {"rpc-calls": len(calls)}, correlation_id=correlation, message_id=correlation
        )
        self._forwards.add(Forward(self._queue.name, body, properties, correlation, done))

    def _send(self, letter: Letter, target: str, body: bytes, properties: bytes, correlation: str) -> None:
        settle = self._settle
        self._forwards.add(Forward(target, body, properties, correlation, lambda ok: settle(letter, ok)))


def _worst(deaths: list[Death]) -> tuple[Reason, BaseException | None]:
    """What the letter is labelled with: what was begun and not ended must not be repeated lightly."""
    for _, reason, error in deaths:
        if reason == "interrupted":
            return reason, error
    return deaths[0][1], deaths[0][2]


def _cut(letter: Letter, calls: list[int]) -> tuple[bytes, str]:
    """The body with these calls of a batch only, and what tells it from the others by its id."""
    raws = letter.codec.decoder(list[msgspec.Raw]).decode(letter.delivery.body)
    return letter.codec.join([bytes(raws[at]) for at in calls]), f"/{calls[0]}"


def _method(letter: Letter) -> str:
    """As the sender has labelled it, for whoever reads the event."""
    try:
        return str(decode_headers(letter.delivery.properties.get("headers", b"")).get("rpc-method", ""))[:200]
    except ProtocolError:
        return ""
