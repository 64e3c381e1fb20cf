"""How a handler ended, and what of it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resilient_rpc.errors import EXECUTED, INTERNAL_ERROR, InProgress, ProtocolError, RemoteError
from resilient_rpc.policies.idempotency.replies import Kept, keep_error, keep_result

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policies.idempotency.policy import Idempotency
    from resilient_rpc.policies.idempotency.served import Served
    from resilient_rpc.policy import Handler


class Outcome(Struct, frozen=True):
    """How the handler ended. `kept`: what the record is to hold; None: it is to be abandoned, or left alone."""

    kept: Kept | None
    reply: Reply | None = None
    error: Exception | None = None
    abandoned: bool = False

    def answer(self) -> Reply:
        """What its caller gets."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None  # noqa: S101 - one of the two is there
        return self.reply


async def outcome_of(rules: Idempotency, call: Call, proceed: Handler, served: Served, fingerprint: bytes) -> Outcome:
    """Run the handler, to its end: who is cancelled meanwhile leaves the record to the end of its lease."""
    try:
        reply = await proceed(call)
    except Exception as error:
        if served.began > served.ended:  # a policy inside has given up on it, and it may still run
            return Outcome(None, error=InProgress(f"{call.method}: still running", retry_after=rules.lease))
        if not served.began or rules.is_abandoned(error):
            return Outcome(None, error=error, abandoned=True)
        return Outcome(keep_error(fingerprint, error, rules.max_result_bytes), error=error)
    try:
        return Outcome(keep_result(fingerprint, served.codec, reply.result, rules.max_result_bytes), reply)
    except ProtocolError as unencodable:
        text = f"the result of {call.method} {unencodable}"
        failed = RemoteError(text, code=INTERNAL_ERROR, certainty=EXECUTED)
        return Outcome(keep_error(fingerprint, failed, rules.max_result_bytes), error=failed)
