"""``resilient-rpc call``: one call, its result on stdout."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from resilient_rpc.call import Safety
from resilient_rpc.cli.arguments import ARGUMENTS, read_arguments
from resilient_rpc.cli.fail import exit_code, fail
from resilient_rpc.cli.options import Environment, Prefix, Url, Version
from resilient_rpc.client import Client
from resilient_rpc.errors import RpcError

EXIT_CODES = (
    "Exit codes: 0 the result was printed; 1 the service answered with an error; 2 wrong usage; "
    "3 not executed (no connection, no such service, refused for now): it may be tried again; "
    "4 unknown outcome, or no answer in time."
)


def call(
    method: Annotated[str, typer.Argument(help="service.method", metavar="METHOD", show_default=False)],
    params: Annotated[str, typer.Argument(help=ARGUMENTS, metavar="[JSON]")] = "{}",
    *,
    url: Url,
    timeout: Annotated[float, typer.Option(help="Seconds until the call ends, one way or the other.")] = 30.0,
    safety: Annotated[
        Safety | None, typer.Option(help="What a repeat of the call would do.", show_default="unsafe")
    ] = None,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the call takes effect once, however often it is sent.")
    ] = None,
) -> None:
    """Call a method, and print its result as JSON."""
    arguments = read_arguments(params)
    try:
        with Client(url, timeout=timeout, prefix=prefix, version=version, environment=environment) as client:
            result = client.call(method, arguments, safety=safety, idempotency_key=key)
    except RpcError as error:
        fail(f"{type(error).__name__} ({error.certainty}): {error}", exit_code(error))
    typer.echo(msgspec.json.encode(result).decode())
