"""Control: the server's half of liveness and cancellation. Lives on its loop.

It watches what outlasts a moment and has beats sent for it, and stops what nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

from resilient_rpc import events
from resilient_rpc.errors import ProtocolError, Refused
from resilient_rpc.hub import Events
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.beats import Beat, Beats
from resilient_rpc.serving.cancels import Cancel, Early, read_cancel
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.tables import Header
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.control import BEAT, CONTENT_TYPE, write_ids
from resilient_rpc.wire.envelope import VERSION
from resilient_rpc.wire.filters import Filters, Message

TICK = 0.25
"""Seconds between two looks at what is here."""
HEADERS: dict[str, Header] = {"rpc-version": VERSION}
MAX_NAME = 60


class Control:
    """See the module. `wake` it when calls come; it sleeps when there are none."""

    def __init__(
        self,
        executor: Executor,
        outbox: Outbox,
        hub: Events,
        *,
        addresses: Addresses,
        filters: Filters | None,
        users: Users | None,
        queue: str,
        server: str,
        here: Callable[[], str],
    ) -> None:
        """`queue` is that of the requests, `here` gives the name of the control queue; `users`: see `read_cancel`."""
        self._executor, self._outbox, self._hub = executor, outbox, hub
        self._read = functools.partial(read_cancel, addresses=addresses, filters=filters, queue=queue, users=users)
        self._here = here
        self._server = server[:MAX_NAME]
        self._loop = asyncio.get_running_loop()
        self._beats = Beats()
        self.early = Early()
        self._timer: asyncio.TimerHandle | None = None
        self.awake = self._closed = False
        self.cancelled = self.ignored = 0

    # -- beats

    def wake(self) -> None:
        """Calls have come."""
        if not self._closed:
            self.awake = True
            self._timer = self._loop.call_later(TICK, self._tick)

    def close(self) -> None:
        """Look at nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.awake, jobs = False, self._executor.held()
        if jobs:
            self.wake()
        for beat in self._beats.due(jobs, time.monotonic()):
            self._send(beat)

    def _send(self, beat: Beat) -> None:
        address, token = beat.letter.address
        message = Message(
            direction="reply",
            body=write_ids(beat.ids),
            target=address,
            content_type=CONTENT_TYPE,
            headers=HEADERS,
            correlation_id=token,
            reply_to=self._here() or None,
            type=BEAT,
            expiration=int(beat.seconds * 1000),
            timestamp=int(time.time()),
            app_id=self._server,
            principal=beat.letter.principal,
        )
        self._outbox.tell(message)

    # -- cancels

    def received(self, delivery: Delivery) -> None:
        """A message to the control queue."""
        if not delivery.body:  # somebody asked whether the exchange is there
            return
        try:
            cancel = self._read(delivery)
        except (ProtocolError, Refused) as error:
            self._ignore(1, str(error))
            return
        found = set()
        for job in self._executor.held():
            if _is_meant(job, cancel):
                found.add(job.reply)
                self._stop(job)
        missing = cancel.ids - found
        if delivery.routing_key:  # to this server alone: they have ended, or never were here
            if missing:
                self._ignore(len(missing), "no such call is here")
        else:
            self.early.add(cancel, missing, time.monotonic())

    def sieve(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the calls that have come that were not cancelled before; only if there is any in `early`."""
        now, kept = time.monotonic(), []
        for job in jobs:
            letter = job.letter
            if letter.ours and self.early.take(letter.address, (letter.principal, letter.user), job.reply, now):
                self._stop(job)
            else:
                kept.append(job)
        return kept

    def _stop(self, job: Job) -> None:
        began = bool(job.started)
        if self._executor.cancel(job):
            self._ended(job, began=began)
        else:
            self._ignore(1, "a call with an idempotency key runs to its end")

    def _ended(self, job: Job, *, began: bool) -> None:
        self.cancelled += 1
        if self._hub.wants(events.CallCancelled):
            self._hub.emit(events.CallCancelled(method=job.method.name, began=began))

    def _ignore(self, count: int, reason: str) -> None:
        self.ignored += count
        if self._hub.wants(events.CancelIgnored):
            self._hub.emit(events.CancelIgnored(reason=reason, count=count))


def _is_meant(job: Job, cancel: Cancel) -> bool:
    letter = job.letter
    return (
        not job.finished
        and letter.ours
        and letter.address == cancel.sender
        and (letter.principal, letter.user) == cancel.who
        and job.reply in cancel.ids
    )
