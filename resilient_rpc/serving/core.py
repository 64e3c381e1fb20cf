"""A running server: deliveries in, calls through the executor, replies out, acks. Lives on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec import UNSET

from resilient_rpc import events
from resilient_rpc.contract import Methods
from resilient_rpc.errors import (
    EXECUTED,
    INTERNAL_ERROR,
    ConfigurationError,
    Draining,
    Expired,
    Interrupted,
    ProtocolError,
    Refused,
    RpcError,
    TooLarge,
)
from resilient_rpc.runtime import running_runtime
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.admission import Gatekeeper
from resilient_rpc.serving.around import Around
from resilient_rpc.serving.control import Control
from resilient_rpc.serving.deadletters import DeadLetters, reason_of
from resilient_rpc.serving.depth import EVERY, Depth
from resilient_rpc.serving.door import Door
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.intake import BadAddress, Intake
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.serving.raw import RawInlet, RawLetter, RawQueue
from resilient_rpc.serving.returns import Returns
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec, Transport
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.codec import JSON
from resilient_rpc.wire.envelope import ErrorBody, ErrorData, Failure, ReplyMeta, Result
from resilient_rpc.wire.faults import describe_fault, escaped
from resilient_rpc.wire.filters import Filters

log = logging.getLogger(__name__)
LAST_WORDS = 1.0
"""Seconds that a drain waits for what it has cancelled, and then for the replies of that."""
REMEMBERED = 10_000
"""Answered messages whose ids are kept, for copies that come again because their ack was lost."""


class Serving:
    """See the module."""

    def __init__(
        self,
        transport: Transport,
        queue: QueueSpec,
        methods: Methods,
        options: ServingOptions,
        hub: events.Events,
        name: str,
        raws: Sequence[RawQueue] = (),
    ) -> None:
        loop = self.loop = asyncio.get_running_loop()
        self._transport, self._queue, self._options, self._hub, self._name = transport, queue, options, hub, name
        filters = Filters(options.filters) if options.filters else None
        self._door = Door(filters, options.limits, queue.name, hub, self._refuse) if filters is not None else None
        self.outbox = Outbox(
            transport,
            loop,
            filters=filters,
            batching=options.batching,
            backoff=options.backoff,
            done=self._answered,
            hub=hub,
        )
        self._executor = Executor(
            loop,
            options.concurrency,
            self._done,
            f"rpc-{queue.service}",
            worked_off=self.outbox.flush,
            # What waits is not acked: if all that may be unacked waited, nothing would be delivered that could run.
            places=max(options.unacked - options.concurrency, 0),
        )
        scheduler = self._scheduler = self._executor.scheduler
        keeper = Gatekeeper(options.admission, scheduler) if options.admission is not None else None
        addresses = Addresses(options.reply_prefixes)
        self._intake = Intake(methods, options.limits, addresses, self._refuse, options.policies, keeper)
        forwards = self.outbox.forwards
        users = self._users = Users(transport.user)
        self.senders = users if options.require_user_id else None
        self._dead = DeadLetters(queue, name, forwards, users, hub, self.settle, cuttable=filters is None)
        self._returns: Returns | None = None
        if queue.delivery_limit is not None:
            limit, bury = queue.delivery_limit, self._dead.bury
            self._returns = Returns(limit, queue.name, forwards, users, settle=self.settle, bury=bury)
        self._control = Control(
            self._executor,
            self.outbox,
            hub,
            addresses=addresses,
            filters=filters,
            users=self.senders,
            queue=queue.name,
            server=name,
            here=lambda: self._session.control if self._session is not None else "",
        )
        self.control = self._control.received  # a report of the session; more of them below
        self.depth = Depth(queue.name, lambda: self.outbox.session, hub, options.backlog_limit)
        self._expired = self._refused = 0
        self._scope = running_runtime().scope()
        if options.policies:
            self._executor.police(
                lambda slots: Around(options.policies, queue.service, hub, self._scope, slots, options.tenant)
            )
        self._consuming: SessionLoop[Consumer] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=lambda: True, backoff=options.backoff
        )
        self.letters: dict[object, Letter] = {}
        self._inlets = [
            RawInlet(
                raw,
                self,
                transport=transport,
                prefetch=options.unacked,
                limits=options.limits,
                addresses=addresses,
                backoff=options.backoff,
                numbers=self._intake.numbers,
                users=users,
                hub=hub,
                server=name,
            )
            for raw in raws
        ]
        self._recent: OrderedDict[object, None] = OrderedDict()
        self._session: Consumer | None = None
        self.draining = False
        self._fatal: BaseException | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()

    def start(self) -> None:
        """Begin to connect and to consume."""
        self.outbox.start()
        self._consuming.start()
        self.depth.start()
        for inlet in self._inlets:
            inlet.sessions.start()

    async def ready(self, timeout: float) -> None:
        """Wait until it consumes. Raises why it does not: `ConfigurationError` at once, or TimeoutError."""
        try:
            await asyncio.wait_for(self._ready.wait(), None if timeout == math.inf else timeout)
        except TimeoutError:
            cause = self._consuming.last_error
            raise TimeoutError(f"not serving within {timeout:g} s: {cause or 'connecting'}") from cause
        if (fatal := self._why_not()) is not None:
            raise fatal

    def _why_not(self) -> BaseException | None:
        """What will never let it serve, as far as it is known."""
        return next(filter(None, (self._fatal, *(inlet.fatal for inlet in self._inlets))), None)

    def changed(self) -> None:
        """One of its queues is consumed now, or never will be."""
        if self._why_not() is not None or self._consumes_all():
            self._ready.set()

    # -- in

    async def _open(self) -> Consumer:
        try:
            return await self._consume(self._queue)
        except ConfigurationError as error:
            if not self._queue.fanout:
                raise
            session = await self._consume(replace(self._queue, fanout=""))
            log.warning("broadcasts are not heard here: %s", error)  # the rights for it are missing: it can do without
            return session

    async def _consume(self, queue: QueueSpec) -> Consumer:
        timeout = self._transport.connect_timeout
        return await self._transport.consumer(self, queue, prefetch=self._options.unacked, timeout=timeout)

    def _opened(self, session: Consumer) -> None:
        self._session = session
        self._fatal = None
        self.changed()
        self._hub.emit(events.ConnectionStateChanged(state="connected"))

    def _failed(self, error: BaseException) -> None:
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):
            log.error("cannot serve: %s", error)
            self._fatal = error
            self.changed()

    def lost(self, error: BaseException) -> None:
        """The consuming session ended; what is unacked comes again, here or elsewhere."""
        self._session = None
        self._consuming.lost(error)
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))

    def delivered(self, delivery: Delivery) -> None:
        """A message."""
        session = self._session or self._consuming.session
        if session is None:  # delivered before `_opened` could run: it will come again
            return
        try:
            letter = self._intake.open(session, delivery)
        except BadAddress as error:
            self._hub.emit(
                events.ReplyRefused(reply_to=str(delivery.properties.get("reply_to"))[:80], reason=str(error))
            )
            self._drop(session, delivery, error)
            return
        if (delivery.redelivered or letter.returns) and self.known(letter):
            return
        if delivery.redelivered and self._returns is not None and self._users.can_send_on(delivery):
            self._returns.take(letter)
            return
        if letter.returns and self._returns is not None and self._returns.hold(letter, self._resume):
            return
        self._accept(letter)

    def _resume(self, letter: Letter) -> None:
        """A copy may run now; unless it has gone back with its session, and comes again."""
        if letter.session is (self._session or self._consuming.session):
            self._accept(letter)

    def _accept(self, letter: Letter) -> None:
        delivery = letter.delivery
        self.letters[letter.key] = letter
        if letter.returns and self._returns is not None:
            self._returns.arrived(letter)
        if self.senders is not None:
            try:
                letter.user = self.senders.sender(delivery.properties)
            except Refused as error:
                self._refuse(letter, None, error)
                return
        if self._door is not None:
            admitted = self._door.admit(letter, delivery)
            if admitted is None:
                return
            delivery = admitted
        if letter.returns:  # only from here on: filters believe the broker alone, for anybody can write a header
            delivery.redelivered = True
        jobs = self._intake.read(letter, delivery)
        control = self._control
        if control.early.marks:
            jobs = control.sieve(jobs)
        if jobs:
            self.run(jobs)
            if not control.awake:
                control.wake()

    def run(self, jobs: list[Job]) -> None:
        """Queue them for a slot; while draining, give them back."""
        if self.draining:
            self._give_back(jobs)
        else:
            self._executor.add(jobs)

    def known(self, letter: Letter) -> bool:
        """A copy of what is running here, or was answered: its ack was lost with the session, nothing else."""
        if letter.ours:
            running = self.letters.get(letter.key)
        else:
            running = next((known for known in self.letters.values() if letter.is_copy_of(known)), None)
        if running is not None:
            if running.session is letter.session:  # a second copy, not the same one again
                letter.session.ack(letter.tag)
            else:
                running.session, running.tag = letter.session, letter.tag
            return True
        if letter.key in self._recent:
            letter.session.ack(letter.tag)
            return True
        return False

    def _drop(self, session: Consumer, delivery: Delivery, error: BadAddress) -> None:
        """Nobody can be told, and nothing of it is read."""
        letter = Letter(session, delivery, reply_to="", correlation_id=None, codec=JSON, ours=False)
        letter.deaths.append((-1, "refused", error))
        self.letters[letter] = letter
        self._dead.bury(letter)

    # -- out

    def _done(self, job: Job, result: Any, error: BaseException | None) -> None:
        letter = job.letter
        if not job.started and isinstance(error, RpcError):  # it was not begun
            if job.context.cancelled:
                self.outbox.skip(letter)
            else:
                self._refuse(letter, job.reply, error, job.index)
            return
        if self._hub.wants(events.CallServed):
            self._hub.emit(_served(self._queue.service, job, error))
        if error is not None and job.unasked:
            log.warning("%s failed, and nobody asked for its answer: %s", job.method.name, type(error).__name__)
            self._expired += isinstance(error, Expired)
            letter.deaths.append((job.index, reason_of(error), error))
            self.outbox.skip(letter)
            return
        if job.context.cancelled and self._is_over(job):
            self.outbox.skip(letter)  # its caller has ended the call by itself: an answer would only race with that
            return
        if error is not None and isinstance(error, Exception):
            error = escaped(error)
        if job.unasked:
            if type(letter) is RawLetter:
                letter.inlet.answer(letter, result)
            else:
                self.outbox.skip(letter)
            return
        meta: Any = UNSET
        if letter.ours:
            micros = int(job.seconds * 1e6) or 1 if error is None else 0
            replayed = job.course is not None and job.course.replayed
            meta = ReplyMeta(micros, self._scheduler.room, replayed=replayed, server=self._name)
            if error is None and job.context.hints is not None:
                meta.cache = job.context.hints
        self.outbox.answer(letter, self._encode(job, result, error, meta))

    @staticmethod
    def _is_over(job: Job) -> bool:
        """Whether its caller cancelled it, or has let its time run out."""
        return not job.timed_out or (job.letter.ours and time.monotonic() >= job.context.deadline)

    def _encode(self, job: Job, result: Any, error: BaseException | None, meta: Any) -> bytes:
        codec = job.letter.codec
        if error is None:
            try:
                data = codec.encode(Result(result, job.reply, meta))
            except ProtocolError as unencodable:
                error = RpcError(f"the result of {job.method.name} {unencodable}", certainty=EXECUTED)
            else:
                if len(data) <= self._options.limits.max_body:
                    return data
                limit = self._options.limits.max_body
                error = TooLarge(f"the result of {len(data)} bytes is over the limit of {limit}", certainty=EXECUTED)
        if not isinstance(error, RpcError):
            log.warning("%s raised %s", job.method.name, type(error).__name__, exc_info=error)
        return self._encode_failure(job.letter, job.reply, error, meta)

    def _encode_failure(self, letter: Letter, reply: Any, error: BaseException, meta: Any) -> bytes:
        body, encode = describe_fault(error), letter.codec.encode
        try:
            data = encode(Failure(body, reply, meta))
            if len(data) <= self._options.limits.max_body:
                return data
            if body.data is not None:
                body.data.details = None
            return encode(Failure(body, reply, meta))
        except ProtocolError:  # a handler has made it of what cannot be encoded
            bare = ErrorData(executed=body.data.executed if body.data is not None else None)
            return encode(Failure(ErrorBody(INTERNAL_ERROR, body.message, bare), reply, meta))

    def _refuse(self, letter: Letter, reply: Any, error: RpcError, at: int | None = None) -> None:
        """Answer a call that is not run."""
        if not letter.delivery.body and not letter.delivery.properties:  # somebody asked whether the exchange is there
            self.outbox.skip(letter)
            return
        if self._hub.wants(events.RequestRefused):
            self._hub.emit(events.RequestRefused(error=error))
        late = isinstance(error, Expired)
        self._expired += late
        self._refused += not late
        unanswered = reply is NO_ID or not letter.reply_to
        if unanswered or isinstance(error, Interrupted):  # what may have been begun is for somebody to look at
            letter.deaths.append((letter.at if at is None else at, reason_of(error), error))
        if unanswered:
            self.outbox.skip(letter)
            return
        meta: Any = ReplyMeta(0, self._scheduler.room, server=self._name) if letter.ours else UNSET
        whole = at is None and letter.at < 0
        answer = self.outbox.answer_whole if whole else self.outbox.answer
        answer(letter, self._encode_failure(letter, reply, error, meta))

    def _answered(self, letter: Letter) -> None:
        """All of a message is done with: ack, once what is dead of it is with the broker."""
        if letter.deaths:
            self._home(letter)[0].bury(letter)
            return
        key = letter.key
        if key is not letter:
            self._recent[key] = None
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        self.settle(letter, ok=True)

    def settle(self, letter: Letter, ok: bool) -> None:
        """Nothing is left to do for a message, or another one stands for it; not ok: that could not be sent."""
        key = letter.key
        if self.letters.get(key) is letter:
            del self.letters[key]
        if ok:
            letter.session.ack(letter.tag)
        else:
            letter.session.nack(letter.tag, requeue=False)  # the broker's own way to the dead letters
        if letter.returns and (returns := self._home(letter)[1]) is not None:
            returns.ended(letter)
        self._check_idle()

    def _home(self, letter: Letter) -> tuple[DeadLetters, Returns | None]:
        """What belongs to the queue that a message came from."""
        if type(letter) is RawLetter:
            return letter.inlet.dead, letter.inlet.returns
        return self._dead, self._returns

    def _all_returns(self) -> list[Returns]:
        return [each for each in (self._returns, *(inlet.returns for inlet in self._inlets)) if each is not None]

    def _check_idle(self) -> None:
        if self.draining and not self.letters and not any(each.pending for each in self._all_returns()):
            self._idle.set()

    # -- the end

    async def drain(self) -> bool:
        """Take nothing new, finish what runs, answer, ack, close. False if the grace time was not enough."""
        self.draining = True
        sessions = [self._session, *(inlet.session for inlet in self._inlets)]
        until = time.monotonic() + self._options.grace
        for session in filter(None, sessions):
            with contextlib.suppress(TimeoutError, OSError, RpcError):  # it has just ended, or nobody answers there
                await asyncio.wait_for(session.cancel(), self._options.grace)
        self._give_back(self._scheduler.give_up())
        if not self._idle.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), max(until - time.monotonic(), 0.0))
        clean = self._idle.is_set()
        if not clean:
            await self._executor.cancel_running(LAST_WORDS)
            await self.outbox.drain(LAST_WORDS)
        await self.close()
        return clean

    def _give_back(self, unstarted: Sequence[Job]) -> None:
        """What has not begun: to another server if a repeat is harmless, else its callers are told."""
        by_letter: dict[Letter, list[Job]] = {}
        for job in unstarted:
            by_letter.setdefault(job.letter, []).append(job)
        for letter, jobs in by_letter.items():
            untouched = not letter.started and letter.left == len(jobs)
            if untouched and all(job.context.safety.repeatable for job in jobs):
                self.letters.pop(letter.key, None)
                letter.session.nack(letter.tag, requeue=True)
            elif untouched and all(job.unasked for job in jobs):
                self._home(letter)[0].return_to_sender(letter)
            else:
                for job in jobs:
                    self._refuse(letter, job.reply, _draining(), job.index)
        for letter in [each for returns in self._all_returns() for each in returns.give_up()]:
            letter.session.nack(letter.tag, requeue=True)
        self._check_idle()

    async def close(self) -> None:
        """End both sessions; what is unacked is redelivered."""
        for sessions in (self._consuming, *(inlet.sessions for inlet in self._inlets)):
            await sessions.close()
        await self.depth.close()
        await self.outbox.close()
        self._executor.close()
        self._control.close()
        for returns in self._all_returns():
            returns.close()
        await self._scope.aclose()

    def health(self) -> dict[str, Any]:
        """What a probe wants to know: connected, running, waiting, unconfirmed, refused or late.

        From any thread; it does not wait.
        """
        depth = self.depth
        found = depth.last
        if depth.age >= EVERY:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self.loop.call_soon_threadsafe(depth.refresh)
        return {
            "backlog": found.messages if found is not None else None,
            "consumers": found.consumers if found is not None else None,
            "consuming": self._consumes_all() and not self.draining,
            "running": self._scheduler.running,
            "waiting": self._scheduler.waiting,
            "slots": self._scheduler.slots,
            "unacked": len(self.letters),
            "unconfirmed_replies": self.outbox.pending,
            "replies_returned": self.outbox.unwanted,
            "expired": self._expired,
            "cancelled": self._control.cancelled,
            "cancels_ignored": self._control.ignored,
            "refused": self._refused,
            "dead_lettered": self._dead.count + sum(inlet.dead.count for inlet in self._inlets),
        }

    def _consumes_all(self) -> bool:
        return None not in (self._session, *(inlet.session for inlet in self._inlets))


def _served(service: str, job: Job, error: BaseException | None) -> events.CallServed:
    return events.CallServed(
        method=f"{service}.{job.method.name}",
        seconds=time.monotonic() - job.started,
        attempt=job.context.attempt,
        error=error,
        replayed=job.course is not None and job.course.replayed,
        redelivered=job.context.redelivered,
    )


def _draining() -> Draining:
    return Draining("the server is stopping and did not begin with it; another one can", retry_after=0.0)
