"""The errors with which a link ends calls: each says how far the call came, so whether it may have been executed."""

from __future__ import annotations

from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    BrokerBlocked,
    ConnectionLost,
    DeadlineExceeded,
    FilterRefused,
    MalformedMessage,
    NoServer,
    NotConnected,
    ProtocolError,
    PublishRejected,
    Rejected,
    ServerLost,
    Unroutable,
)

# -- before it was handed to the transport


def too_many(most: int) -> Rejected:
    """The link's table is full."""
    return Rejected(f"{most} calls wait on this link already (max_pending)")


def too_late() -> ConnectionLost:
    """It came after the link was closed."""
    return ConnectionLost("the client is closed", certainty=NOT_EXECUTED)


def not_connected(method: str, cause: BaseException | None) -> NotConnected:
    """Its deadline came before a session did."""
    error = NotConnected(f"{method}: no connection by the deadline: {cause or 'connecting'}")
    error.__cause__ = cause
    return error


def not_sent(method: str) -> DeadlineExceeded:
    """Its deadline came while the socket was full."""
    return DeadlineExceeded(f"{method}: not sent by the deadline", stage="publish", certainty=NOT_EXECUTED)


def broker_blocked(reason: str) -> BrokerBlocked:
    """An alarm of the broker."""
    return BrokerBlocked(f"the broker accepts no messages for now: {reason}")


# -- by what the broker said of its message


def nacked() -> PublishRejected:
    """`basic.nack`."""
    return PublishRejected("the broker refused the message (basic.nack)")


def refused_by_a_queue() -> PublishRejected:
    """`basic.nack` of what went to several queues."""
    return PublishRejected("a queue refused the event (basic.nack); others may have it", certainty=UNKNOWN)


def all_refused() -> ConnectionLost:
    """Nothing else than `basic.nack` came on a session for a while."""
    return ConnectionLost("the broker refuses all that is published on this connection")


def returned(queue: str, code: int, text: str) -> Unroutable:
    """`basic.return`."""
    return Unroutable(f"no queue {queue!r}: no server of this service has run here ({code} {text})")


def no_server(queue: str) -> NoServer:
    """Nobody consumes the queue that has it."""
    return NoServer(f"nobody consumes {queue!r}: the call waits there, and is executed if a server comes in time")


# -- after that


def not_confirmed(method: str) -> DeadlineExceeded:
    """Its deadline came before the broker's confirm."""
    return DeadlineExceeded(f"{method}: the broker did not confirm it by the deadline", stage="publish")


def not_answered(method: str) -> DeadlineExceeded:
    """Its deadline came before its answer."""
    return DeadlineExceeded(f"{method}: no answer by the deadline", stage="reply")


def server_lost(method: str, server: str, seconds: float) -> ServerLost:
    """The server that had it has fallen silent."""
    return ServerLost(f"{method}: server {server or 'unknown'!r:.120} has been silent for {seconds:g} s", server=server)


def unreadable(error: ProtocolError) -> ProtocolError:
    """A reply came that no filter accepts, or nobody can read."""
    if isinstance(error, FilterRefused):
        failure = FilterRefused(f"the reply was refused: {error}", filter=error.filter, certainty=UNKNOWN)
        failure.__cause__ = error.__cause__
        return failure
    return MalformedMessage(f"the reply cannot be read: {error}", certainty=UNKNOWN)


def connection_lost(cause: BaseException) -> ConnectionLost:
    """The session on which it was sent has ended."""
    error = ConnectionLost(f"the connection was lost while the call was on its way: {cause}")
    error.__cause__ = cause
    return error


def reply_queue_gone() -> ConnectionLost:
    """There is a session again, and the queue that its answer was to go to is not there any more."""
    return ConnectionLost("the connection was lost while the call was on its way, and its reply queue is gone")


def client_closed(*, sent: bool) -> ConnectionLost:
    """The link was closed while it waited."""
    return ConnectionLost("the client was closed", certainty=None if sent else NOT_EXECUTED)
