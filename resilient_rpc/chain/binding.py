"""One handler of many policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler, Policy


def compose(policies: Sequence[Policy], terminal: Handler) -> Handler:
    """One handler that passes a call through `policies`, the first outermost, to `terminal`. Checks nothing."""
    handler = terminal
    for policy in reversed(policies):
        handler = bind(policy, handler)
    return handler


def bind(policy: Policy, proceed: Handler) -> Handler:
    """The handler that is `policy` around `proceed`."""
    step = step_of(policy)

    def handler(call: Call) -> Coroutine[Any, Any, Reply]:
        return step(call, proceed)

    return handler


def step_of(policy: Policy) -> Policy:
    """What to call: a call through the instance would look the method up each time."""
    return policy.__call__ if "__call__" in vars(type(policy)) else policy
