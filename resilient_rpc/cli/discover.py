"""``resilient-rpc discover`` and ``resilient-rpc stub``: what a service offers, to read and as source code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from resilient_rpc.cli.fail import FAILED, USAGE, exit_code, fail
from resilient_rpc.cli.options import Environment, Json, Prefix, Service, Url, Version, asking
from resilient_rpc.cli.stub_source import parameters_of, source, types_of
from resilient_rpc.client import Client
from resilient_rpc.contract import DISCOVER
from resilient_rpc.discovery import read
from resilient_rpc.errors import RpcError
from resilient_rpc.names import is_name

Timeout = Annotated[float, typer.Option(help="Seconds to wait for the answer.")]


def discover(
    service: Service,
    *,
    url: Url,
    timeout: Timeout = 10.0,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
    as_json: Json = False,
) -> None:
    """Show what a service offers: its methods, or with --json its OpenRPC document."""
    document = _description(lambda: asking(url, timeout, prefix, version, environment), service)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return
    typer.echo(f"{service}, contract {_line(document['info']['version'])}")
    for method in sorted(document["methods"], key=lambda each: str(each["name"])):
        typer.echo(f"  {_shown(method, document)}")


def stub(
    service: Service,
    *,
    url: Url,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", show_default="stdout", dir_okay=False)
    ] = None,
    awaits: Annotated[bool, typer.Option("--asyncio", help="Write `async def` methods, for AsyncClient.")] = False,
    timeout: Timeout = 10.0,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
) -> None:
    """Write a typed contract of a running service, for client.service(name, contract)."""
    document = _description(lambda: asking(url, timeout, prefix, version, environment), service)
    text = source(document, service=service, awaits=awaits)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {output}: {error.strerror}", USAGE)


def _description(make: Callable[[], Client], service: str) -> dict[str, Any]:
    try:
        with make() as client:
            document: dict[str, Any] = client.call(f"{service}.{DISCOVER}")
        read(document)
    except RpcError as error:
        fail(f"{type(error).__name__} ({error.certainty}): {error}", exit_code(error))
    except msgspec.ValidationError as error:
        fail(f"{service} answers with something that is no description: {error}", FAILED)
    return document


def _shown(method: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    types = types_of(document)
    result = types.of(method["result"].get("schema") if isinstance(method.get("result"), dict) else None)
    name = method["name"] if is_name(method["name"]) else "?"
    terms = [str(method[key]) + unit for key, unit in (("x-safety", ""), ("x-timeout", " s")) if key in method]
    said = _line(method.get("summary"))
    line = f"{name}({', '.join(parameters_of(method, types))}) -> {result}"
    return "  ".join([line, *([f"[{', '.join(terms)}]"] if terms else []), *([said] if said else [])])


def _line(text: Any) -> str:
    """Somebody else's words, for a terminal."""
    return "".join(each for each in " ".join(str(text or "").split()) if each.isprintable())
