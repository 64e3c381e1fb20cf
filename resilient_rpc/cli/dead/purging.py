"""``resilient-rpc dead purge``: deletes dead letters."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from resilient_rpc.cli.dead.match import Methods, Reasons, Since, matching
from resilient_rpc.cli.dead.queue import PREFIX, DeadQueue, Prefix, Service, Url, run
from resilient_rpc.cli.fail import FAILED, fail
from resilient_rpc.transport.base import Delivery


def purge(
    service: Service,
    *,
    url: Url,
    prefix: Prefix = PREFIX,
    reason: Reasons = None,
    method: Methods = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many letters.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many there are, and delete none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete dead letters for good, the oldest first. What was counted is what is deleted, and nothing else."""
    match = matching(service, reason, method, since)

    async def command(queue: DeadQueue) -> None:
        found: list[Delivery] = []
        async for _, letter, delivery in queue.letters():
            if match(letter):
                delivery.body = b""  # there may be many: only their places are needed
                found.append(delivery)
                if len(found) == limit:
                    break
        if dry_run:
            typer.echo(f"{len(found)} of {queue.waiting} would be deleted from {queue.name}")
            return
        if found and not yes and not await _agreed(f"Delete {len(found)} of {queue.waiting} from {queue.name}?"):
            fail("nothing was deleted", FAILED)
        for delivery in found:
            queue.ack(delivery)
        typer.echo(f"{len(found)} deleted from {queue.name}")

    run(url, service, prefix, command)


async def _agreed(question: str) -> bool:
    """In a thread: the connection goes on meanwhile."""
    try:
        return await asyncio.to_thread(typer.confirm, question, err=True)
    except typer.Abort:
        return False
