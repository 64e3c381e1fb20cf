"""The policies of a server, as a chain around each handler. Used only where there are policies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.chain.faults import returned
from resilient_rpc.context import Context
from resilient_rpc.errors import (
    EXECUTED,
    INTERNAL_ERROR,
    NOT_EXECUTED,
    UNKNOWN,
    Certainty,
    DeadlineExceeded,
    Expired,
    Interrupted,
    Overloaded,
    PolicyFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    RpcError,
    UsageError,
    code_of,
)
from resilient_rpc.hub import Events
from resilient_rpc.policy import Handler, Policy
from resilient_rpc.remembered import Remembered
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.serving.job import Job
from resilient_rpc.wire.codec import Codec
from resilient_rpc.wire.faults import text_of

log = logging.getLogger(__name__)
TENANT = "default"
PROVEN = "principal:"
"""Before the name of a sender that a filter has proof of, so that it is never the name of a tenant."""
USER = "user:"
"""Before the name of a sender that the broker has proof of."""


class Course:
    """How far a call has come in the chain."""

    __slots__ = (
        "_slots",
        "asking",
        "began",
        "ended",
        "job",
        "outside",
        "params",
        "parking",
        "raised",
        "recorded",
        "replayed",
        "tenant",
        "threads",
    )

    def __init__(self, job: Job, slots: Slots, tenant: str, parking: Policy | None = None) -> None:
        self.job, self._slots, self.tenant = job, slots, tenant
        self.params = job.method.binder.named((job.args, job.kwargs))
        self.raised: BaseException | None = None
        """What the handler itself has raised."""
        self.began = self.ended = 0
        """How often a policy has let the handler begin, and how often it has ended."""
        self.replayed = False
        self.parking = parking
        """The policy that may have it wait without a task: the outermost one, if it can."""
        self.asking = False
        """That policy waits for an outcome, in frames that are all of this library."""
        self.threads: set[asyncio.Future[Any]] = set()
        """Handlers that have not ended yet, in threads: these cannot be stopped."""
        self.outside = False
        """It waits without a slot, and nothing of it runs."""
        self.recorded: float | None = None
        """Its outcome will be recorded: seconds after which a caller who does not get it may ask again."""

    @property
    def context(self) -> Context:
        """What the handler is given."""
        return self.job.context

    @property
    def running(self) -> bool:
        """Whether the handler runs on in a thread, whatever has become of the call."""
        return bool(self.threads)

    @property
    def codec(self) -> Codec:
        """What the reply is written in."""
        return self.job.letter.codec

    @property
    def places(self) -> int:
        """Calls that may wait without a slot."""
        return self._slots.places

    def hold(self, retry_after: float) -> None:
        """From here on the outcome is recorded: who does not get it in time is told that it is in progress."""
        self.recorded = retry_after

    def step_out(self) -> None:
        """Give the slot to another call, and wait without one."""
        if not self.outside:
            self._slots.step_out(self.job)
            self.outside = True

    async def step_in(self) -> None:
        """Wait for a slot again; nothing where there is one."""
        if self.outside:
            await self._slots.step_in(self.job)
            self.outside = False

    @property
    def certainty(self) -> Certainty:
        """Whether the handler was executed."""
        if not self.began:
            return NOT_EXECUTED
        return EXECUTED if self.ended == self.began else UNKNOWN


class ServedCall(Call, frozen=True, kw_only=True, eq=False):
    """A call as the policies of a server see it.

    `params` are the arguments after decoding, by the names of the handler's parameters; they are there to be read.
    """

    course: Course


class Slots(Protocol):
    """Where calls run."""

    @property
    def places(self) -> int:
        """Calls that may wait without a slot."""

    def in_thread(self, job: Job, /) -> asyncio.Future[tuple[Any, Exception | None]]:
        """Have the handler run in a thread; RuntimeError if there is none.

        The future never fails: it holds the result, or what was raised.
        """

    def step_out(self, job: Job) -> None:
        """Give the slot of a call to another one."""

    async def step_in(self, job: Job) -> None:
        """Wait for a slot again."""


class _Chain(Chain):
    """Without guards: those end what is late, and a handler with a key is to run to its end."""

    def _compose(self, policies: Sequence[Policy], terminal: Handler) -> Handler:
        return compose(policies, terminal)


class Around:
    """Runs handlers inside the chain."""

    def __init__(
        self,
        policies: Sequence[Policy],
        service: str,
        hub: Events,
        runtime: AsyncioRuntime,
        slots: Slots,
        tenant: str = TENANT,
    ) -> None:
        self._service, self._hub, self._runtime, self._slots = service, hub, runtime, slots
        self._tenant = tenant
        self._chain = _Chain(policies, self._carry)
        self._parking = Remembered(self._parking_of)

    async def run(self, job: Job) -> Any:
        """The result of a call. What a policy raises comes out as the error that its caller is to get."""
        context = job.context
        method = f"{self._service}.{context.method}"
        course = Course(job, self._slots, self._tenant_of(job), self._parking[method])
        job.course = course
        call = ServedCall(
            method=method,
            params=course.params,
            runtime=self._runtime,
            deadline=job.deadline,
            timeout=job.deadline - job.started,
            safety=context.safety,
            key=context.key,
            attempt=context.attempt,
            tags=context.tags,
            trace=context.trace,
            events=self._hub,
            course=course,
        )
        try:
            reply = await self._chain.handler(call)
            if type(reply) is not Reply:
                raise returned(call, self._chain.policies[0], reply, course.certainty)
        except Exception as error:
            told = self._told(call, course, error)
            if told is error:
                raise
            raise told from error
        course.replayed = reply.replayed
        return reply.result

    def _parking_of(self, method: str) -> Policy | None:
        outermost = self._chain.outermost(method)
        return outermost if getattr(outermost, "parks", False) else None

    def _tenant_of(self, job: Job) -> str:
        if job.context.principal is None:
            return self._tenant
        return (PROVEN if job.letter.user is None else USER) + job.context.principal

    async def _carry(self, call: Call) -> Reply:
        """The innermost handler: the user's own."""
        assert isinstance(call, ServedCall)  # noqa: S101 - a policy passes on a copy of the call it was given
        course = call.course
        job = course.job
        if call.params is not course.params:
            raise UsageError("a policy of a server cannot change the arguments of a call")
        left = call.deadline - self._runtime.now()
        if left <= 0:
            raise DeadlineExceeded(f"{call.method}: a policy left no time for it", certainty=NOT_EXECUTED)
        course.began += 1
        narrowed = left if call.deadline < job.deadline else None
        if not job.method.is_async:
            return await self._in_thread(call, course, narrowed)
        if narrowed is None or call.key is not None:  # a keyed call runs to its end: its outcome must be known
            return await _handled(course)
        return await _within(narrowed, _handled(course), call)

    async def _in_thread(self, call: Call, course: Course, narrowed: float | None) -> Reply:
        try:
            future = self._slots.in_thread(course.job)
        except RuntimeError as error:  # the system has no more threads for us
            course.began -= 1
            raise Overloaded(f"{course.job.method.name}: no thread to run it in: {error}") from error
        course.threads.add(future)

        def ended(future: asyncio.Future[Any]) -> None:
            course.threads.discard(future)
            course.ended += 1

        future.add_done_callback(ended)
        await asyncio.wait((future,), timeout=narrowed if call.key is None else None)
        if not future.done():
            raise _too_late(call)
        result, raised = future.result()
        if raised is not None:
            course.raised = raised
            raise raised
        return Reply(result=result)

    def _told(self, call: Call, course: Course, error: Exception) -> Exception:
        if error is course.raised:  # the handler's own
            return error
        if not isinstance(error, RpcError):
            blamed = self._chain.contain(call, error)
            if not isinstance(blamed, RpcError):
                return error
            log.error("a policy of the server failed: %s", blamed, exc_info=error)
            error = blamed
        if isinstance(error, RemoteError) and not error.received:
            return error
        if isinstance(error, Rejected):
            return Overloaded(text_of(error), retry_after=error.retry_after)
        if isinstance(error, DeadlineExceeded):
            late = Expired if error.certainty is NOT_EXECUTED else Interrupted
            return late(text_of(error))
        code = code_of(error) if isinstance(error, ProtocolError) else INTERNAL_ERROR
        text = "a policy of the server failed" if isinstance(error, PolicyFailed) else text_of(error)
        return RemoteError(text, code=code, certainty=course.certainty, retry_after=error.retry_after)


async def _handled(course: Course) -> Reply:
    """Run a coroutine function, and note what became of it."""
    job = course.job
    try:
        result = await job.method.function(*job.args, **job.kwargs)
    except BaseException as error:
        course.ended += not isinstance(error, asyncio.CancelledError)
        course.raised = error
        raise
    course.ended += 1
    return Reply(result=result)


async def _within(seconds: float, running: Coroutine[Any, Any, Reply], call: Call) -> Reply:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await running
    except TimeoutError:
        if limit.expired():
            raise _too_late(call) from None
        raise


def _too_late(call: Call) -> DeadlineExceeded:
    return DeadlineExceeded(f"{call.method}: not done in the time that a policy left it", stage="handler")
