"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resilient_rpc.client import Client

URL_VARIABLE = "RESILIENT_RPC_URL"

Service = Annotated[str, typer.Argument(help="The service to ask.", metavar="SERVICE", show_default=False)]
Url = Annotated[
    str,
    typer.Option(
        envvar=URL_VARIABLE,
        help="The broker. Rather set the variable: others can read the arguments of a process.",
        show_default=False,
    ),
]
Prefix = Annotated[str, typer.Option(help="What the names of the servers' queues begin with.")]
Version = Annotated[str | None, typer.Option(help="Of the service, if its servers have one.")]
Environment = Annotated[str | None, typer.Option(help="Of the service, if its servers have one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def asking(url: str, timeout: float, prefix: str, version: str | None, environment: str | None) -> Client:
    """A client for a question or two: nothing is repeated, and where no server is, it ends at once."""
    settings: Any = {"prefix": prefix, "version": version, "environment": environment}
    return Client(url, timeout=timeout, policies=[], when_no_server="fail", **settings)
