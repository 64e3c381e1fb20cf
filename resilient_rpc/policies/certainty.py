"""What is known of a call that was sent more than once."""

from __future__ import annotations

from collections.abc import Iterable

from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty, RpcError


def certainty_of(error: BaseException) -> Certainty:
    """What `error` says; nothing is known after one that is not of this library."""
    return error.certainty if isinstance(error, RpcError) else UNKNOWN


def joined(parts: Iterable[Certainty]) -> Certainty:
    """Of the whole: executed if any part was, not executed if none was, else nobody knows."""
    found = set(parts)
    if EXECUTED in found:
        return EXECUTED
    return NOT_EXECUTED if found <= {NOT_EXECUTED} else UNKNOWN
