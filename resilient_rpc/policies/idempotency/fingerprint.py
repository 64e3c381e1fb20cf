"""What tells whether a key is used again for the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from resilient_rpc.errors import UsageError

_encode = msgspec.json.Encoder(order="sorted").encode


def fingerprint_of(method: str, arguments: Mapping[str, Any]) -> bytes:
    """sha256 of a method and the arguments that were sent, by name and of their declared types; 32 bytes.

    Defaults are left out, so that a default that changes does not make old keys mismatch. Raises `UsageError` for
    arguments that JSON cannot hold.
    """
    try:
        data = _encode((method, arguments))
    except Exception as error:  # an attribute of a user's object may raise anything
        raise UsageError(f"{method}: its arguments cannot be told from others: {error}") from error
    return hashlib.sha256(data).digest()
