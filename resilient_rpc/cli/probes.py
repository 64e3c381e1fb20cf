"""``resilient-rpc ping`` and ``resilient-rpc health``: exit codes for containers and monitors, 0 or 1."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from resilient_rpc.cli.fail import FAILED, USAGE, fail
from resilient_rpc.cli.options import Environment, Json, Prefix, Service, Url, Version, asking
from resilient_rpc.contract import HEALTH, PING
from resilient_rpc.errors import ConfigurationError, RpcError, UsageError

EXIT_CODES = "Exit codes: 0 yes; 1 no, or no answer in time; 2 wrong usage."


class _Ping(msgspec.Struct):
    service: str
    server: str
    version: str


class _Health(msgspec.Struct):
    server: str
    host: str
    consuming: bool
    running: int
    slots: int
    waiting: int
    backlog: int | None = None
    event_backlog: int | msgspec.UnsetType | None = msgspec.UNSET
    """Only where the service subscribes to events."""


def ping(
    service: Service,
    *,
    url: Url,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
    as_json: Json = False,
) -> None:
    """Ask whether a service answers: one of its servers does, however busy it is."""
    try:
        with asking(url, timeout, prefix, version, environment) as client:
            begin = time.perf_counter()
            answer = client.call(f"{service}.{PING}")
            seconds = time.perf_counter() - begin
        found = msgspec.convert(answer, _Ping)
    except RpcError as error:
        _no(error)
    except msgspec.ValidationError as error:
        fail(f"{service} answers, and not as a server of this library does: {error}", FAILED)
    if as_json:
        typer.echo(msgspec.json.encode({**answer, "seconds": seconds}).decode())
    else:
        typer.echo(f"{found.server} answered in {seconds * 1e3:.1f} ms, contract {found.version}")


def health(
    service: Service,
    *,
    url: Url,
    expect: Annotated[
        int, typer.Option(help="How many servers have to be healthy. Once that many are, the rest is not waited for.")
    ] = 1,
    server: Annotated[
        str | None, typer.Option(help="Only the server of this name (Server(name=...)).", show_default="all")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Only servers on this host: for probes in a container.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for answers.")] = 3.0,
    prefix: Prefix = "rpc.",
    version: Version = None,
    environment: Environment = None,
    as_json: Json = False,
) -> None:
    """Ask all servers of a service how they are. Healthy is a server that takes calls."""
    if expect < 1:
        fail(f"--expect {expect}: give at least 1", USAGE)
    waited = expect if server is None and not here else None  # whose answer comes first is not known
    try:
        with asking(url, timeout, prefix, version, environment) as client:
            answers = client.broadcast(f"{service}.{HEALTH}", timeout=timeout, expect=waited)
    except RpcError as error:
        _no(error)
    host = socket.gethostname()
    found = [
        each
        for each in _readable(answers)
        if (server is None or each["server"] == server) and (not here or each["host"] == host)
    ]
    _show(found, as_json=as_json)
    healthy = sum(each["consuming"] for each in found)
    if healthy < expect:
        fail(f"{service}: {healthy} healthy of {len(found)} that answered, {expect} expected", FAILED)


def _readable(answers: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _, answer in answers:
        try:
            msgspec.convert(answer, _Health)
        except msgspec.ValidationError:  # an error, or a server that knows of no such thing
            continue
        found.append(answer)
    return sorted(found, key=lambda each: str(each["server"]))


def _show(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for each in found:
        known = msgspec.convert(each, _Health)
        state = "healthy" if known.consuming else "not consuming"
        typer.echo(
            f"{known.server}: {state}, {known.running} of {known.slots} slots taken, "
            f"{known.waiting} waiting here, {_number(known.backlog)} in the queue"
            + ("" if known.event_backlog is msgspec.UNSET else f", {_number(known.event_backlog)} events")
        )


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _no(error: RpcError) -> NoReturn:
    wrong = isinstance(error, ConfigurationError | UsageError)
    fail(f"{type(error).__name__}: {error}", USAGE if wrong else FAILED)
