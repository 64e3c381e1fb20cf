"""``resilient-rpc publish``: one event to every service that subscribes to it."""

from __future__ import annotations

from typing import Annotated

import typer

from resilient_rpc.cli.arguments import ARGUMENTS, read_arguments
from resilient_rpc.cli.fail import FAILED, exit_code, fail
from resilient_rpc.cli.options import Environment, Prefix, Url, Version
from resilient_rpc.client import Client
from resilient_rpc.errors import RpcError

EXIT_CODES = (
    "Exit codes: 0 the queues of all subscribers have it; 1 nobody subscribes to it, or the broker forbids it; "
    "2 wrong usage; 3 not published (no connection): it may be tried again; 4 nobody knows: with the same --key it may "
    "be tried again."
)


def publish(
    event: Annotated[
        str, typer.Argument(help="Its name, such as orders.created.", metavar="EVENT", show_default=False)
    ],
    params: Annotated[str, typer.Argument(help=ARGUMENTS, metavar="[JSON]")] = "{}",
    *,
    url: Url,
    timeout: Annotated[float, typer.Option(help="Seconds for the broker to confirm it.")] = 30.0,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
    key: Annotated[
        str | None, typer.Option(help="The id of the event, by which servers know a repeat.", show_default="a new one")
    ] = None,
    ttl: Annotated[
        float | None, typer.Option(help="Seconds after which it is worth nothing.", show_default="never")
    ] = None,
) -> None:
    """Publish an event: each subscribing service gets it once. Ends when their queues have it."""
    arguments = read_arguments(params)
    try:
        with Client(url, timeout=timeout, prefix=prefix, version=version, environment=environment) as client:
            heard = client.publish(event, arguments, ttl=ttl, idempotency_key=key)
    except RpcError as error:
        fail(f"{type(error).__name__} ({error.certainty}): {error}", exit_code(error))
    if not heard:
        fail(f"nobody subscribes to {event!r}: it is in no queue", FAILED)
