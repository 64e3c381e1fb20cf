"""What an error says to a policy: about the health of the target, and whether the call may be sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_rpc.errors import NOT_EXECUTED, UNKNOWN, Draining, RemoteError, RpcError

if TYPE_CHECKING:
    from resilient_rpc.call import Call


def health(error: BaseException | None) -> bool | None:
    """True: the target answered. False: it failed. None: this says nothing about it.

    An error of the application is an answer. Cancellation, refusals of other policies, a broker that is, or goes, away
    and a server that is stopping say nothing about the health of the target (DESIGN 8, `errors.counted`).
    """
    if error is None:
        return True
    if not isinstance(error, RpcError):
        return None
    if error.counted:
        return False
    if isinstance(error, RemoteError) and not isinstance(error, Draining):
        return True
    return None


def safe_to_repeat(error: BaseException, call: Call) -> bool:
    """Whether sending `call` again after `error` can not make it take effect twice."""
    if not isinstance(error, RpcError):
        return False
    return error.certainty is NOT_EXECUTED or (error.certainty is UNKNOWN and call.safety.repeatable)
