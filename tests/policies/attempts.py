"""A target that answers by a script, and what was heard of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.events import Event
from resilient_rpc.hub import Events
from resilient_rpc.policy import Handler, Policy


class Script:
    """Answers each attempt with the next item: an exception is raised, anything else is the result."""

    def __init__(self, answers: Sequence[Any], *, seconds: float = 0.0) -> None:
        self._answers = list(answers)
        self._seconds = seconds
        self._began: float | None = None
        self.calls: list[Call] = []
        self.times: list[float] = []
        """When each attempt came, in seconds after the first."""

    async def __call__(self, call: Call) -> Reply:
        now = call.runtime.now()
        if self._began is None:
            self._began = now
        self.calls.append(call)
        self.times.append(now - self._began)
        if self._seconds:
            await call.runtime.sleep(self._seconds)
        if isinstance(self._answers[0], BaseException):
            raise self._answers.pop(0)
        return Reply(result=self._answers.pop(0), attempts=call.attempt)

    def under(self, *policies: Policy) -> Handler:
        return compose(policies, self)


def heard(into: list[Any]) -> Events:
    """Events that are put into a list."""
    events = Events()
    events.on(Event, into.append)
    return events
