"""What of a Redis's settings endangers records: read once, when it answers for the first time."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from resilient_rpc.stores.node import Node
from resilient_rpc.stores.stream import Unwelcome

EVICTION = (
    "maxmemory-policy is {policy!r}: when Redis is full it forgets records, and calls run twice; set it to noeviction"
)
PERSISTENCE = (
    "neither AOF nor snapshots are on: a restart forgets all records, and calls run twice; set appendonly to yes"
)
REPLICA = "this is a replica, and takes no writes: name the master, or use redis+sentinel://"


async def warnings_of(node: Node) -> list[str]:
    """What whoever runs this Redis should know; of what it may not be asked nothing is said."""
    try:
        memory, persistence, replication = [
            _fields(await node.ask("INFO", section)) for section in ("memory", "persistence", "replication")
        ]
    except Unwelcome:
        raise
    except ResponseError:  # no right to it
        return []
    found = []
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(EVICTION.format(policy=policy))
    if persistence.get("aof_enabled") == "0" and await _never_saves(node):
        found.append(PERSISTENCE)
    if replication.get("role") == "slave":
        found.append(REPLICA)
    return [f"the Redis at {node.name}: {warning}" for warning in found]


async def _never_saves(node: Node) -> bool:
    try:
        saves: Any = await node.ask("CONFIG", "GET", "save")
    except ResponseError:  # not known, as with most who are hired out
        return False
    return bool(saves == [b"save", b""])


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, found, value in (line.partition(":") for line in lines) if found}
