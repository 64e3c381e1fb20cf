"""From what became of a call to what its caller is told: a result, an error, or nothing."""

from __future__ import annotations

import logging
import time
from typing import Any

from msgspec import UNSET

from resilient_rpc import events
from resilient_rpc.errors import EXECUTED, INTERNAL_ERROR, Expired, Interrupted, ProtocolError, RpcError, TooLarge
from resilient_rpc.hub import Events
from resilient_rpc.serving.deadletters import reason_of
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.serving.raw import RawLetter
from resilient_rpc.serving.scheduler import Scheduler
from resilient_rpc.wire.envelope import ErrorBody, ErrorData, Failure, ReplyMeta, Result
from resilient_rpc.wire.faults import describe_fault, escaped

log = logging.getLogger(__name__)


class Answers:
    """Lives on the server's loop."""

    scheduler: Scheduler
    """Whose free slots every reply reports; it is known only after the executor is made, which reports to `done`."""
    version: str | None = None
    """Of the contract, for every reply."""

    def __init__(self, outbox: Outbox, hub: Events, service: str, server: str, max_body: int) -> None:
        self._outbox, self._hub, self._service, self._server, self._max_body = outbox, hub, service, server, max_body
        self.expired = self.refused = 0
        """Calls that were not run: too late, or for another reason."""

    def done(self, job: Job, result: Any, error: BaseException | None) -> None:
        """A call has ended, or will not begin."""
        letter = job.letter
        if not job.started and isinstance(error, RpcError):  # it was not begun
            if job.context.cancelled:
                self._outbox.skip(letter)
            else:
                self.refuse(letter, job.reply, error, job.index)
            return
        if self._hub.wants(events.CallServed):
            self._hub.emit(_served(self._service, job, error))
        if error is not None and job.unasked:
            log.warning("%s failed, and nobody asked for its answer: %s", job.method.name, type(error).__name__)
            self.expired += isinstance(error, Expired)
            letter.deaths.append((job.index, reason_of(error), error))
            self._outbox.skip(letter)
            return
        if job.context.cancelled and _is_over(job):
            self._outbox.skip(letter)  # its caller has ended the call by itself: an answer would only race with that
            return
        if error is not None and isinstance(error, Exception):
            error = escaped(error)
        if job.unasked:
            if type(letter) is RawLetter:
                letter.inlet.answer(letter, result)
            else:
                self._outbox.skip(letter)
            return
        meta: Any = UNSET
        if letter.ours:
            micros = int(job.seconds * 1e6) or 1 if error is None else 0
            replayed = job.course is not None and job.course.replayed
            meta = ReplyMeta(micros, self.scheduler.room, replayed=replayed, server=self._server, v=self.version)
            if error is None and job.context.hints is not None:
                meta.cache = job.context.hints
        self._outbox.answer(letter, self._encode(job, result, error, meta))

    def refuse(self, letter: Letter, reply: Any, error: RpcError, at: int | None = None) -> None:
        """Answer a call that is not run."""
        if not letter.delivery.body and not letter.delivery.properties:  # somebody asked whether the exchange is there
            self._outbox.skip(letter)
            return
        if self._hub.wants(events.RequestRefused):
            self._hub.emit(events.RequestRefused(error=error))
        late = isinstance(error, Expired)
        self.expired += late
        self.refused += not late
        unanswered = reply is NO_ID or not letter.reply_to
        if unanswered or isinstance(error, Interrupted):  # what may have been begun is for somebody to look at
            letter.deaths.append((letter.at if at is None else at, reason_of(error), error))
        if unanswered:
            self._outbox.skip(letter)
            return
        meta = self._bare_meta(letter)
        whole = at is None and letter.at < 0
        answer = self._outbox.answer_whole if whole else self._outbox.answer
        answer(letter, self._encode_failure(letter, reply, error, meta))

    def give(self, letter: Letter, reply: Any, result: Any) -> None:
        """Answer a call that took no slot."""
        if reply is NO_ID or not letter.reply_to:
            self._outbox.skip(letter)
            return
        meta, limit = self._bare_meta(letter), self._max_body
        data = letter.codec.encode(Result(result, reply, meta))
        if len(data) > limit:
            error = TooLarge(f"the result of {len(data)} bytes is over the limit of {limit}", certainty=EXECUTED)
            data = self._encode_failure(letter, reply, error, meta)
        self._outbox.answer(letter, data)

    def _bare_meta(self, letter: Letter) -> Any:
        """Of a reply that says nothing of how long a handler takes."""
        return ReplyMeta(0, self.scheduler.room, server=self._server, v=self.version) if letter.ours else UNSET

    def _encode(self, job: Job, result: Any, error: BaseException | None, meta: Any) -> bytes:
        codec = job.letter.codec
        if error is None:
            try:
                data = codec.encode(Result(result, job.reply, meta))
            except ProtocolError as unencodable:
                error = RpcError(f"the result of {job.method.name} {unencodable}", certainty=EXECUTED)
            else:
                limit = self._max_body
                if len(data) <= limit:
                    return data
                error = TooLarge(f"the result of {len(data)} bytes is over the limit of {limit}", certainty=EXECUTED)
        if not isinstance(error, RpcError):
            log.warning("%s raised %s", job.method.name, type(error).__name__, exc_info=error)
        return self._encode_failure(job.letter, job.reply, error, meta)

    def _encode_failure(self, letter: Letter, reply: Any, error: BaseException, meta: Any) -> bytes:
        body, encode = describe_fault(error), letter.codec.encode
        try:
            data = encode(Failure(body, reply, meta))
            if len(data) <= self._max_body:
                return data
            if body.data is not None:
                body.data.details = None
            return encode(Failure(body, reply, meta))
        except ProtocolError:  # a handler has made it of what cannot be encoded
            bare = ErrorData(executed=body.data.executed if body.data is not None else None)
            return encode(Failure(ErrorBody(INTERNAL_ERROR, body.message, bare), reply, meta))


def _is_over(job: Job) -> bool:
    """Whether its caller cancelled it, or has let its time run out."""
    return not job.timed_out or (job.letter.ours and time.monotonic() >= job.context.deadline)


def _served(service: str, job: Job, error: BaseException | None) -> events.CallServed:
    return events.CallServed(
        method=f"{service}.{job.method.name}",
        seconds=time.monotonic() - job.started,
        attempt=job.context.attempt,
        error=error,
        replayed=job.course is not None and job.course.replayed,
        redelivered=job.context.redelivered,
    )
