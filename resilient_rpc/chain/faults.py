"""Who is to blame, and what the caller is told: a policy that broke the rules is named in an error and in an event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from resilient_rpc.chain.order import name_of
from resilient_rpc.chain.visit import GRACE
from resilient_rpc.errors import NOT_EXECUTED, Certainty, DeadlineExceeded, PolicyFailed
from resilient_rpc.events import PolicyFaulted

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policy import Handler, Policy


class Blame:
    """Finds in a traceback, after the fact, which of a chain's policies has raised: the happy path pays nothing."""

    def __init__(self, policies: Sequence[Policy], terminal: Handler) -> None:
        self._policies, self._terminal = policies, terminal
        self.terminal_code: Any = _code(terminal)
        """Of what carries the call out."""

    def culprit(self, error: BaseException, otherwise: Policy | None = None) -> Policy | None:
        """The innermost policy that the error passed; None when what carries the call out has raised it."""
        known = {_code(policy): policy for policy in reversed(self._policies)}
        found, end = otherwise, self.terminal_code
        owner = getattr(self._terminal, "__self__", None)
        for frame in _frames(error.__traceback__):
            if frame.f_code is end and (owner is None or _is_of(frame, owner)):
                return None
            # By the object first: classes share the code of what they inherit or are decorated with.
            mine = next((policy for policy in self._policies if _is_of(frame, policy)), None)
            found = known.get(frame.f_code, found) if mine is None else mine
        return found

    def failed(self, call: Call, error: Exception, certainty: Certainty | None, otherwise: Policy | None) -> Exception:
        """What the caller gets for `error`: itself, when no policy has raised it."""
        policy = self.culprit(error, otherwise)
        if policy is None:
            return error
        name = shown(policy)
        message = f"{call.method}: the policy {name} raised {error!r:.500}"
        what = PolicyFailed(message, policy=name, certainty=certainty)
        call.announce(PolicyFaulted, name, reason="raised", error=what)
        return what


def returned(call: Call, policy: Policy, value: object, certainty: Certainty | None) -> PolicyFailed:
    """For a policy that returned something else than a reply."""
    name = shown(policy)
    message = f"{call.method}: the policy {name} returned {value!r:.200}, which is no Reply"
    error = PolicyFailed(message, policy=name, certainty=certainty)
    call.announce(PolicyFaulted, name, reason="returned", error=error)
    return error


def hung(call: Call, policy: Policy, where: str, *, carried: bool) -> DeadlineExceeded:
    """For a policy that still waited when the call's time was up."""
    name = shown(policy)
    message = f"{call.method}: the policy {name} still waited {GRACE:g} s after the deadline (in {where})"
    error = DeadlineExceeded(message, stage="policy", certainty=None if carried else NOT_EXECUTED)
    error.policy = name
    call.announce(PolicyFaulted, name, reason="hung", error=error)
    return error


def shown(policy: Policy) -> str:
    """The class of a policy, with its `name` where it has one."""
    name = getattr(policy, "name", "")
    return f"{name_of(policy)} {name!r}" if name and isinstance(name, str) else name_of(policy)


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _code(target: Any) -> Any:
    if not hasattr(target, "__code__"):
        target = getattr(target, "func", None) or type(target).__call__
    return getattr(target, "__code__", None)


def _is_of(frame: FrameType, owner: object) -> bool:
    """Whether the frame's first argument is `owner`."""
    names = frame.f_code.co_varnames
    first = frame.f_locals.get(names[0]) if names else None
    return first is owner or (isinstance(first, tuple) and bool(first) and first[0] is owner)
