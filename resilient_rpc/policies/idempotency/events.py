"""What happens to keyed calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.naming import name_of

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.idempotency.policy import Idempotency


class CallReplayed(PolicyEvent, frozen=True, kw_only=True):
    """A repeat was answered with what the first execution was answered with."""

    ok: bool
    """False: with the error that the handler raised then."""


class CallTakenOver(PolicyEvent, frozen=True, kw_only=True):
    """A call is executed that an earlier server had begun with, and which may have done it or a part of it."""

    log_level: ClassVar[int] = logging.WARNING

    epoch: int


class OwnershipLost(PolicyEvent, frozen=True, kw_only=True):
    """A record belongs to another server now: the handler here took longer than its lease was renewed for.

    What it returns is not sent; its callers get the answer of the other one.
    """

    log_level: ClassVar[int] = logging.WARNING

    epoch: int
    step: Literal["renew", "complete"]
    """Where it was found out."""


class StoreFailed(PolicyEvent, frozen=True, kw_only=True):
    """The store did not answer a step."""

    log_level: ClassVar[int] = logging.WARNING

    step: Literal["begin", "renew", "complete", "abandon"]
    error: Exception


class AnswerSettled(PolicyEvent, frozen=True, kw_only=True):
    """What became of an answer that was sent while the store did not take it."""

    log_level: ClassVar[int] = logging.WARNING

    outcome: Literal["stored", "lost", "given_up"]
    """`stored`: the store has it now; `lost`: another server had begun with it meanwhile; `given_up`: neither."""


def announce(rules: Idempotency, call: Call, kind: type[PolicyEvent], **details: Any) -> None:
    """Emit an event, if anybody listens."""
    call.announce(kind, name_of(rules), **details)
