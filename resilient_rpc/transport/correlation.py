"""Correlation ids: ``<128 random bits>.<number of the message>``, and what `Client(correlation=...)` adds to that.

The random part is a secret between a link and those who serve one target: who does not know it cannot forge a reply.
The number finds the calls of a message. Both always stand there; a strategy appends a part for whoever reads logs.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from resilient_rpc.errors import ConfigurationError

Suffix = Callable[[int], str]
"""From the id of the first call of a message to what is appended, behind a dot."""
STRATEGIES = ("sequence", "uuid", "time", "thread")
SEQUENCE_BITS = 31
_SEQUENCE = (1 << SEQUENCE_BITS) - 1
_THREAD = (1 << 22) - 1
"""What Linux gives to threads; both together are a number that every reader of JSON keeps exactly (2**53)."""


def check_correlation(value: object) -> str:
    """Return `value` if it names a strategy; `ConfigurationError` otherwise."""
    if not isinstance(value, str) or value not in STRATEGIES:
        raise ConfigurationError(f"correlation={value!r:.200}: give one of {', '.join(STRATEGIES)}")
    return value


def suffix_of(strategy: str) -> Suffix | None:
    """What a strategy appends to a correlation id; None: nothing, the number is the sequence."""
    return {"uuid": _by_uuid, "time": _by_time, "thread": _by_thread}.get(strategy)


def ids_of(strategy: str) -> Iterator[int]:
    """The ids of calls. ``next`` on it is atomic, and called in the thread that makes the call."""
    return _thread_ids() if strategy == "thread" else itertools.count(1)


def _by_uuid(_first: int) -> str:
    return str(uuid.uuid4())


def _by_time(_first: int) -> str:
    return f"{time.time_ns()}-{secrets.token_hex(4)}"


def _by_thread(first: int) -> str:
    return f"{first >> SEQUENCE_BITS}-{first & _SEQUENCE}"


def _thread_ids() -> Iterator[int]:
    # map() and count() are C: no other thread can come between.
    return map(_of_this_thread, itertools.count(1))


def _of_this_thread(number: int) -> int:
    return (threading.get_native_id() & _THREAD) << SEQUENCE_BITS | number & _SEQUENCE
