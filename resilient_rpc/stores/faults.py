"""What Redis says instead of an answer, as an error of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from resilient_rpc.stores.errors import StoreError, StoreRefused, StoreUnavailable

log = logging.getLogger(__name__)


class _Meaning(NamedTuple):
    kind: type[StoreError]
    reason: str
    says: str


_CODES: Mapping[str, _Meaning] = {
    "OOM": _Meaning(StoreUnavailable, "full", "Redis is full (maxmemory)"),
    "READONLY": _Meaning(StoreUnavailable, "read_only", "this Redis is a replica, and takes no writes"),
    "NOREPLICAS": _Meaning(StoreUnavailable, "replicas", "Redis has fewer replicas than it must have to take writes"),
    "MISCONF": _Meaning(StoreUnavailable, "disk", "Redis cannot write to its disk, and takes no writes"),
    "LOADING": _Meaning(StoreUnavailable, "loading", "Redis is loading its data"),
    "BUSY": _Meaning(StoreUnavailable, "busy", "Redis is busy with somebody's script"),
    "CLUSTERDOWN": _Meaning(StoreUnavailable, "cluster", "the cluster has no node for this key"),
    "MASTERDOWN": _Meaning(StoreUnavailable, "cluster", "this replica has lost its master"),
    "TRYAGAIN": _Meaning(StoreUnavailable, "cluster", "the cluster is moving this key"),
    "MOVED": _Meaning(StoreUnavailable, "cluster", "the cluster moves keys faster than they can be followed"),
    "ASK": _Meaning(StoreUnavailable, "cluster", "the cluster moves keys faster than they can be followed"),
    "CROSSSLOT": _Meaning(StoreRefused, "cluster", "this Redis is a node of a cluster: use redis+cluster://"),
    "cluster support disabled": _Meaning(StoreRefused, "cluster", "this Redis is no cluster: use redis://"),
    "unknown command": _Meaning(StoreRefused, "commands", "this Redis lacks a command that the steps need"),
    "max number of clients": _Meaning(StoreUnavailable, "clients", "Redis takes no more connections (maxclients)"),
    "NOAUTH": _Meaning(StoreRefused, "credentials", "Redis wants a password"),
    "unauthenticated": _Meaning(StoreRefused, "credentials", "Redis wants a password"),
    "WRONGPASS": _Meaning(StoreRefused, "credentials", "Redis does not accept the user or the password"),
    "invalid password": _Meaning(StoreRefused, "credentials", "Redis does not accept the password"),
    "Invalid Username or Password": _Meaning(StoreRefused, "credentials", "Redis does not accept the password"),
    "without any password configured": _Meaning(StoreRefused, "credentials", "this Redis has no password, the URL has"),
    "NOPERM": _Meaning(StoreRefused, "rights", "this user of Redis lacks a right that the steps need"),
    "user executing the script": _Meaning(
        StoreRefused, "rights", "this user of Redis lacks a right that the steps need"
    ),
    "permissions": _Meaning(StoreRefused, "rights", "this user of Redis lacks a right that the steps need"),
    "DB index is out of range": _Meaning(StoreRefused, "database", "this Redis has no database of this number"),
}
_CODE = re.compile(rf"(?<![A-Za-z])({'|'.join(map(re.escape, _CODES))})(?![A-Z])")


def fault_of(text: str) -> StoreError:
    """For an error that Redis answered with; the text of one that is not known is logged."""
    found = _CODE.search(text)
    # Raised by a command in the script, behind others that were carried out.
    written: Literal[False] | None = None if "user_script" in text else False
    if found is None:
        # Not shown to callers: some texts quote what was sent.
        log.warning("Redis refused a step: %r", text[:200])
        return StoreError("Redis refused a step, for a reason that is in the log")
    meaning = _CODES[found[1]]
    return meaning.kind(meaning.says, reason=meaning.reason, written=written)


Reason = Literal["down", "lost", "timeout", "open", "closed", "desync"]
_LOCAL: Mapping[Reason, str] = {
    "down": "Redis cannot be reached",
    "lost": "the connection to Redis was lost",
    "timeout": "Redis did not answer in time",
    "open": "Redis did not answer lately, and is not asked for a moment",
    "closed": "the store is being closed",
    "desync": "Redis answered another question than was asked",
}


def unavailable(reason: Reason, *, sent: bool, retry_after: float | None = None) -> StoreUnavailable:
    """For what this side of the connection saw. `sent`: Redis may have done the step."""
    written: Literal[False] | None = None if sent else False
    return StoreUnavailable(_LOCAL[reason], reason=reason, written=written, retry_after=retry_after)
