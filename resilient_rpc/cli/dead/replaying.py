"""``resilient-rpc dead replay``: sends dead letters to their service again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import Annotated

import typer

from resilient_rpc.cli.dead import queue as dead
from resilient_rpc.cli.dead.letter import DeadLetter
from resilient_rpc.cli.dead.match import Match, Methods, Reasons, Since, matching
from resilient_rpc.cli.dead.queue import DeadQueue, Prefix, Service, Url, run
from resilient_rpc.cli.dead.sender import Sender
from resilient_rpc.cli.fail import FAILED, USAGE, fail
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.deadletters import DELIVERIES, PREFIX
from resilient_rpc.transport.users import Users

PERSISTENT = 2
SAY_EVERY = 1.0


def replay(
    service: Service,
    *,
    url: Url,
    prefix: Prefix = dead.PREFIX,
    reason: Reasons = None,
    method: Methods = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many letters.", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="At most so many letters a second.", show_default=False)] = None,
    queue: Annotated[
        str | None,
        typer.Option(help="Letters of this queue, and back into it.", show_default="rpc.SERVICE", metavar="NAME"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    force_unsafe: Annotated[
        bool, typer.Option("--force-unsafe", help="Those too that may have been executed, wholly or in part.")
    ] = False,
) -> None:
    """Send dead letters again, the oldest first, as they were: same ids, same keys. Nobody is answered.

    A letter leaves the dead queue when the broker has confirmed its copy. Killed in between, it is in both queues, and
    another replay sends it again under the same message id.
    """
    if rate is not None and not 0 < rate < float("inf"):
        fail(f"--rate {rate}: give a number above 0", USAGE)
    match = matching(service, reason, method, since)
    work = Replay(match, queue or prefix + service, limit=limit, rate=rate, dry_run=dry_run, forced=force_unsafe)
    run(url, service, prefix, work.run)


class Replay:
    """One run of the command."""

    def __init__(
        self, match: Match, target: str, *, limit: int | None, rate: float | None, dry_run: bool, forced: bool
    ) -> None:
        self._match, self._target, self._limit, self._rate = match, target, limit, rate
        self._dry_run, self._forced = dry_run, forced
        self._sender = Sender()
        self._counts: Counter[str] = Counter()
        self._next = self._say_at = time.monotonic()

    async def run(self, queue: DeadQueue) -> None:
        """All of it."""
        try:
            if not self._dry_run:
                await self._sender.open(queue.transport)
            async for _, letter, delivery in queue.letters():
                if self._limit is not None and self._counts["replayed"] >= self._limit:
                    break
                await self._one(queue, letter, delivery)
        finally:
            await self._sender.close()
            self._report()
        if self._counts["unsafe"]:
            fail(f"{self._counts['unsafe']} letters may have been executed: look at them, then --force-unsafe", FAILED)

    async def _one(self, queue: DeadQueue, letter: DeadLetter, delivery: Delivery) -> None:
        if not self._match(letter):
            self._counts["others"] += 1
        elif letter.queue != self._target:
            self._counts["of another queue"] += 1
        elif letter.forced_only and not self._forced:
            self._counts["unsafe"] += 1
        else:
            if not self._dry_run:
                await self._pace()
                await self._sender.send(
                    self._target, delivery.body, again(letter, delivery, Users(queue.transport.user))
                )
                queue.ack(delivery)
            self._counts["replayed"] += 1
            self._progress(queue.waiting)

    async def _pace(self) -> None:
        if self._rate is not None:
            await asyncio.sleep(self._next - time.monotonic())
            self._next = max(self._next, time.monotonic() - 1 / self._rate) + 1 / self._rate

    def _progress(self, total: int) -> None:
        now = time.monotonic()
        if now >= self._say_at + SAY_EVERY:
            self._say_at = now
            print(f"{self._counts['replayed']} replayed, {sum(self._counts.values())} of {total} seen", file=sys.stderr)

    def _report(self) -> None:
        verb = "would be replayed" if self._dry_run else "replayed"
        rest = "".join(f", {count} {what}" for what, count in sorted(self._counts.items()) if what != "replayed")
        typer.echo(f"{self._counts['replayed']} {verb} to {self._target}{rest}")


def again(letter: DeadLetter, delivery: Delivery, users: Users) -> bytes:
    """The properties of the message as it was, for nobody's answer and without an end in the queue."""
    return users.sent_on(
        delivery,
        {},
        drop=(PREFIX, DELIVERIES),
        reply_to=None,
        expiration=None,
        delivery_mode=PERSISTENT,
        message_id=letter.message_id,
    )
