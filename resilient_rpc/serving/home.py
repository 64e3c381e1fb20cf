"""What belongs to one queue of a server: where its dead letters go, and who counts what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from resilient_rpc.hub import Events
from resilient_rpc.serving.deadletters import DeadLetters, Settle
from resilient_rpc.serving.forwards import Forwards
from resilient_rpc.serving.returns import Returns
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.users import Users


@dataclass(frozen=True, kw_only=True)
class Home:
    """See the module. `returns` is None where the broker counts, or nobody."""

    dead: DeadLetters
    returns: Returns | None

    @classmethod
    def of(
        cls,
        queue: QueueSpec,
        server: str,
        forwards: Forwards,
        users: Users,
        hub: Events,
        settle: Settle,
        *,
        cuttable: bool,
    ) -> Self:
        """Make both; nothing is connected. `settle`, `cuttable`: see `DeadLetters`."""
        dead = DeadLetters(queue, server, forwards, users, hub, settle, cuttable=cuttable)
        returns, limit = None, queue.delivery_limit
        if limit is not None:
            returns = Returns(limit, queue.name, forwards, users, settle=settle, bury=dead.bury)
        return cls(dead=dead, returns=returns)
