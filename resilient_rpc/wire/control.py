"""The words of liveness and cancellation: what a beat and a cancel are made of, on both sides.

A beat says to a reply address which of its calls a server still has; a cancel says to a server which calls of a reply
address nobody waits for any more. Both name calls by the ids that these have in JSON-RPC, and both carry the token
that stands before the dot of the calls' correlation ids, which nobody knows but the two sides and their broker.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, TypeGuard

import msgspec

from resilient_rpc.errors import MalformedMessage

BEAT, CANCEL = "rpc.beat", "rpc.cancel"
"""The property `type` of each."""
CONTENT_TYPE = "application/json"
LIVE = "rpc-live"
"""The header of a request in which a client says its `liveness`, ms."""
LEAST, MOST = 1.0, 3_600.0
"""What `liveness` may be, seconds. Less would have servers send more than they receive."""
MAX_IDS = 1_000
"""Calls that one message may name."""
MAX_ID = 64
"""Characters of an id that is a text."""
MAX_TOKEN = 64
MAX_BODY = MAX_IDS * (MAX_ID + 8)
_PREFIX = "rpc.control."
_QUEUE = re.compile(r"rpc\.control\.[A-Za-z0-9_-]{22}")

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)] | Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
_ids: msgspec.json.Decoder[list[Id]] = msgspec.json.Decoder(Annotated[list[Id], msgspec.Meta(max_length=MAX_IDS)])


def control_exchange(queue: str) -> str:
    """The fan-out exchange by which all servers of a request queue are reached."""
    return f"{queue}.control"


def new_control_queue() -> str:
    """A name for the control queue of one server: 128 random bits."""
    return _PREFIX + secrets.token_urlsafe(16)


def is_control_queue(name: object) -> TypeGuard[str]:
    """Whether a name that a beat gave is one of a control queue, so that nothing else can be sent messages."""
    return isinstance(name, str) and _QUEUE.fullmatch(name) is not None


def is_named(id_: Any) -> bool:
    """Whether a call of this id can be named in a beat or a cancel."""
    kind = type(id_)
    return (kind is int and 0 <= id_ <= 2**53) or (kind is str and 0 < len(id_) <= MAX_ID)


def write_ids(ids: Sequence[int | str]) -> bytes:
    """The body of a beat or of a cancel."""
    return msgspec.json.encode(ids)


def read_ids(body: bytes) -> list[int | str]:
    """The calls that a message names. Raises `MalformedMessage` for anything but a short list of ids."""
    if len(body) > MAX_BODY:
        raise MalformedMessage(f"a list of ids of {len(body)} bytes, more than {MAX_BODY}")
    try:
        return _ids.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"not a list of at most {MAX_IDS} ids: {error}") from None
