"""How a message is labelled that nobody could handle, and one whose deliveries are counted. Pure."""

from __future__ import annotations

import functools
import time
import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties

Reason = Literal["malformed", "refused", "failed", "interrupted", "delivery_limit", "expired", "rejected", "maxlen"]
"""Why it is dead. The last four are the broker's words too; `expired` ones lie in a queue of their own."""
PREFIX = "rpc-dead-"
REASON, EXCEPTION, STACK, QUEUE = PREFIX + "reason", PREFIX + "exception", PREFIX + "stack", PREFIX + "queue"
ATTEMPTS, TIME, SERVER, PARTIAL = PREFIX + "attempts", PREFIX + "time", PREFIX + "server", PREFIX + "partial"
DELIVERIES = "x-rpc-deliveries"
"""How often the message came back before this copy of it was made. No `rpc-` header: signatures cover those."""
PASSED = "x-rpc-passed"
"""How often an event was left to other servers of its service."""
BROKER_COUNT = "x-delivery-count"
BROKERS = ("x-death", "x-first-death-", "x-last-death-", BROKER_COUNT, "x-acquired-count")
"""What the broker notes of a message's way; a copy begins a new one."""
MAX_FRAMES, MAX_STACK, MAX_TYPE = 20, 4_096, 200
MAX_DELIVERIES = 2**31


def label(reason: Reason, error: BaseException | None, *, queue: str, attempts: int, server: str) -> dict[str, Any]:
    """The headers of a dead letter.

    Of the error only its type and where it was raised: its text may hold what the caller sent.
    """
    headers: dict[str, Any] = {
        REASON: reason,
        QUEUE: queue,
        ATTEMPTS: attempts,
        TIME: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        SERVER: server[:MAX_TYPE],
    }
    if error is not None:
        kind = type(error)
        headers[EXCEPTION] = f"{kind.__module__}.{kind.__qualname__}"[:MAX_TYPE]
        if stack := stack_of(error):
            headers[STACK] = stack
    return headers


def stack_of(error: BaseException) -> str:
    """Where it was raised, the innermost frame last: file, line and function, no source and no values."""
    lines: deque[str] = deque(maxlen=MAX_FRAMES)
    # Not traceback.extract_tb: it looks at every source file on the disk.
    for frame, line in traceback.walk_tb(error.__traceback__):
        lines.append(f"{_short(frame.f_code.co_filename)}:{line} {frame.f_code.co_name}")
    return "\n".join(lines)[-MAX_STACK:]


@functools.lru_cache(maxsize=1_000)
def _short(file: str) -> str:
    return "/".join(PurePath(file).parts[-2:])


def deliveries_of(delivery: Delivery) -> int:
    """How often this message came back before, as its copies say; 0 for what no server of ours has written."""
    return number_in(delivery, DELIVERIES)


def number_in(delivery: Delivery, header: str) -> int:
    """What a server of ours has counted in a header; 0 for anything else."""
    encoded = delivery.properties.get("headers", b"")
    if header.encode() not in encoded:
        return 0
    try:
        found = decode_headers(encoded).get(header)
    except MalformedMessage:
        return 0
    return found if type(found) is int and 0 <= found < MAX_DELIVERIES else 0


def broker_count(delivery: Delivery) -> int:
    """How often it came back, as a quorum queue says."""
    return number_in(delivery, BROKER_COUNT)


def copied(delivery: Delivery, headers: Mapping[str, Any], *, drop: tuple[str, ...] = (), **changes: Any) -> bytes:
    """The properties of a message once more, with more `headers` and other `changes`; None leaves one out.

    Headers whose names begin with one of `drop`, and the broker's own, are left out. Headers that cannot be written
    again (they were broken when they came) are left out as a whole.
    """
    kept = {name: value for name, value in delivery.properties.items() if name != "headers"}
    kept |= changes
    try:
        found = decode_headers(delivery.properties.get("headers", b""))
        own = {name: value for name, value in found.items() if not name.startswith((*BROKERS, *drop))}
        encoded = encode_headers({**own, **headers})
    except (MalformedMessage, ConfigurationError, TooLarge):
        encoded = encode_headers(headers)
    return encode_properties(**{name: value for name, value in kept.items() if value is not None}, headers=encoded)
