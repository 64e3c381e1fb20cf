"""``resilient-rpc dead``: what nobody could handle, and what becomes of it. One file for each command."""

from __future__ import annotations

import typer

from resilient_rpc.cli.dead import listing, purging, replaying, showing

EXIT_CODES = (
    "Exit codes: 0 done; 1 something was left where it is, as the last line says; 2 wrong usage; "
    "3 no connection, or no such queue; 4 the connection was lost in the middle: nothing is lost, run it again."
)

app = typer.Typer(help="Look at dead letters, send them again, or delete them.", no_args_is_help=True)
app.command("list", epilog=EXIT_CODES)(listing.list_letters)
app.command("show", epilog=EXIT_CODES)(showing.show)
app.command("replay", epilog=EXIT_CODES)(replaying.replay)
app.command("purge", epilog=EXIT_CODES)(purging.purge)
