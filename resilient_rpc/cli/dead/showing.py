"""``resilient-rpc dead show``: one dead letter."""

from __future__ import annotations

from typing import Annotated

import typer

from resilient_rpc.cli.dead.letter import DeadLetter, shown_time
from resilient_rpc.cli.dead.queue import PREFIX, DeadQueue, Prefix, Service, Url, run
from resilient_rpc.cli.fail import FAILED, fail
from resilient_rpc.transport.base import Delivery


def show(
    service: Service,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="As `list --each` numbers them.")] = 1,
    *,
    url: Url,
    prefix: Prefix = PREFIX,
    payload: Annotated[bool, typer.Option("--payload", help="The body, too: what callers sent.")] = False,
) -> None:
    """Show why a letter is dead, and what it says of itself. Its body only when asked for."""

    async def command(queue: DeadQueue) -> None:
        async for at, letter, delivery in queue.letters():
            if at == number:
                typer.echo(described(letter, delivery))
                if payload:
                    typer.echo("\n" + printable(delivery.body))
                return
        fail(f"{queue.name} holds {queue.waiting} letters", FAILED)

    run(url, service, prefix, command)


def described(letter: DeadLetter, delivery: Delivery) -> str:
    """One line for each thing that is known."""
    properties = delivery.properties
    lines = {
        "reason": letter.reason,
        "method": letter.method,
        "calls": str(letter.calls),
        "died": shown_time(letter.when),
        "attempts": "" if letter.attempts is None else str(letter.attempts),
        "queue": letter.queue,
        "server": letter.server,
        "exception": letter.exception,
        "message id": letter.message_id,
        "content type": str(properties.get("content_type") or ""),
        "size": f"{len(delivery.body)} bytes",
        "partial": "yes: some of its calls were run" if letter.partial else "",
    }
    shown = [f"{name + ':':<14}{printable(value.encode())}" for name, value in lines.items() if value]
    return "\n".join([*shown, *(f"{'stack:':<14}{line}" for line in letter.stack)])


def printable(data: bytes) -> str:
    """As text; what a terminal would obey is escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
