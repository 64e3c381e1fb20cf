"""Which dead letters a command is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from resilient_rpc.cli.dead.letter import DeadLetter
from resilient_rpc.cli.fail import USAGE, fail

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only these reasons; may be given several times.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", help="Only these methods: price, orders.price or pr*; may be given several times."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="Only what died after: 30m, 2h, 7d ago, or a time as 2026-01-31T12:00Z.")
]


@dataclass(frozen=True, kw_only=True)
class Match:
    """All that is given must fit."""

    service: str
    reasons: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    since: datetime | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether the command is about this letter. What nobody knows the time of did not die after any."""
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.since is not None and (letter.when is None or letter.when < self.since):
            return False
        return not self.methods or self._of_methods(letter.method)

    def _of_methods(self, method: str) -> bool:
        bare = method.removeprefix(f"{self.service}.")
        return any(fnmatchcase(bare, each.removeprefix(f"{self.service}.")) for each in self.methods)


def matching(service: str, reasons: list[str] | None, methods: list[str] | None, since: str | None) -> Match:
    """From the options of a command; ends it when one of them says nothing."""
    return Match(
        service=service.partition(".")[0],  # the rest, if there is any, names version and environment
        reasons=tuple(reasons or ()),
        methods=tuple(methods or ()),
        since=None if since is None else instant(since, datetime.now(UTC)),
    )


def instant(text: str, now: datetime) -> datetime:
    """The time that `--since` names."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(seconds=int(ago[1]) * UNITS[ago[2]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        fail(f"--since {text!r:.50}: give 30m, 2h or 7d, or a time as 2026-01-31T12:00Z", USAGE)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
