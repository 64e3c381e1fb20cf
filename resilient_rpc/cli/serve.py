"""``resilient-rpc serve``: runs a server until it is told to stop, in this process or in workers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from resilient_rpc.cli.announce import READY, announce
from resilient_rpc.cli.fail import USAGE, fail
from resilient_rpc.cli.logs import LogLevel, log_to_stderr
from resilient_rpc.cli.target import load_server
from resilient_rpc.cli.workers.count import Count
from resilient_rpc.cli.workers.plan import Restarts
from resilient_rpc.cli.workers.process import Orders
from resilient_rpc.cli.workers.supervisor import LOOK, Supervisor
from resilient_rpc.cli.workers.watch import check_reload
from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.serving.lastresort import LINGER, LastResort


def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:SERVER",
            help="A Server, or a function without arguments that makes one; imported from the current directory.",
            show_default=False,
        ),
    ],
    *,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, on stderr.")] = LogLevel.INFO,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|MIN..MAX",
            help="Serve in so many processes and restart those that crash; MIN..MAX: as many as the backlog wants.",
            show_default="this process",
        ),
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often in a row a worker may be restarted that does not last for a minute.")
    ] = Restarts.most,
    worker_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds after which a worker whose event loop hangs is replaced; 0: never.")
    ] = 60.0,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: start anew when a Python file changes.")
    ] = False,
    reload_dir: Annotated[
        list[Path] | None,
        typer.Option(help="A folder to watch; may be repeated.", show_default="the current one"),
    ] = None,
) -> None:
    """Run a server. SIGTERM and SIGINT let it finish what it has begun; a second one ends it at once."""
    supervised = workers is not None or reload or reload_dir
    log_to_stderr(log_level, of_process=bool(supervised))
    try:
        if supervised:
            watched = (reload_dir or [Path.cwd()]) if reload or reload_dir else []
            count = Count.parse(workers or "1")
            code = _supervisor(target, log_level, count, max_restarts, worker_timeout, watched).run()
            raise typer.Exit(code)
        _serve_here(target)
    except (ConfigurationError, UsageError) as error:
        fail(str(error), USAGE)


def _serve_here(target: str) -> None:
    server = load_server(target)
    announce(server, lambda: _say_ready(server.service))
    server.run()
    LastResort().arm(LINGER)


def _supervisor(
    target: str, log_level: LogLevel, count: Count, max_restarts: int, timeout: float, watched: list[Path]
) -> Supervisor:
    if watched:
        check_reload(watched)
    orders = Orders(target=target, log_level=log_level, often=LOOK if count.varies else 0.0)
    rules = Restarts(most=max_restarts)
    return Supervisor(orders, count, rules=rules, timeout=timeout or None, watched=watched, ready=_say_ready)


def _say_ready(service: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(READY, service, flush=True)
