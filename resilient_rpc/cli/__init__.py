"""The command line: ``resilient-rpc``, or ``python -m resilient_rpc.cli``. One file for each command."""

from __future__ import annotations

import typer

from resilient_rpc.cli import bench, call, dead, demo, discover, probes, publish, serve, version

app = typer.Typer(
    help="RPC over RabbitMQ for services that must not lose, repeat or hang on a call.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it shows local variables, and one of them is the URL with its password
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("call", epilog=call.EXIT_CODES)(call.call)
app.command("publish", epilog=publish.EXIT_CODES)(publish.publish)
app.command("ping", epilog=probes.EXIT_CODES)(probes.ping)
app.command("health", epilog=probes.EXIT_CODES)(probes.health)
app.command("discover", epilog=call.EXIT_CODES)(discover.discover)
app.command("stub", epilog=call.EXIT_CODES)(discover.stub)
app.add_typer(dead.app, name="dead")
app.command(
    "bench", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(bench.bench)
app.command("version")(version.version)


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="resilient-rpc")
