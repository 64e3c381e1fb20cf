"""Whether the broker's word is enough to tell that a message comes a second time: some brokers forget to mark it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from resilient_rpc.call import UNSAFE
from resilient_rpc.contract import Method
from resilient_rpc.transport.base import Consumer

log = logging.getLogger(__name__)
NAMED = 5
"""Methods that are named in the warning."""


class Marks:
    """Of one queue of a server; on its loop."""

    def __init__(self, queue: str, methods: Iterable[Method]) -> None:
        """`methods`: what is run for its messages, and is to be named if that may happen twice."""
        self.doubtful = False
        """Whether what is not marked may be a copy of what this server has. As long as it has lost no session nothing
        of it can have come back, and nothing has to be looked up."""
        self._queue, self._methods = queue, methods
        self._forgetful = self._warned = False

    def opened(self, session: Consumer) -> None:
        """A session has begun."""
        broker = session.unmarked_by
        self._forgetful = bool(broker)
        unsafe = [method.name for method in self._methods if method.safety_for(None) is UNSAFE] if broker else []
        if not unsafe or self._warned:
            return
        self._warned = True
        log.warning(
            "%s may forget to say that it delivers a message of queue %s again, once it was stopped while calls waited "
            "there: unsafe calls (%s) whose server dies or is cut off may then be executed twice. Declare the queue as "
            "Quorum(), or give such calls an idempotency key and the server Idempotency",
            broker,
            self._queue,
            ", ".join(unsafe[:NAMED]) + (", ..." if len(unsafe) > NAMED else ""),
        )

    def lost(self) -> None:
        """The session has ended: what it had comes again, to whatever the next one is with."""
        self.doubtful = self.doubtful or self._forgetful
