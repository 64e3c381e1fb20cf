"""A book of what the servers of the demo really did: a file outside of all that is shown, one line for each entry."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verb = Literal["began", "charged"]


@dataclass(frozen=True)
class Entry:
    """One line."""

    verb: str
    key: str
    token: int
    """The fencing token of the execution; 0: it had none."""
    pid: int
    """Whose it is."""
    receipt: str


class Ledger:
    """May be written by many processes at once: a line is one write to a file that is open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, verb: Verb, key: str, token: int | None, receipt: str = "-") -> None:
        """Write a line. A process that is killed afterwards has written it."""
        os.write(self._file, f"{verb} {key} {token or 0} {os.getpid()} {receipt}\n".encode())

    def entries(self) -> list[Entry]:
        """All lines, in order."""
        rows = (line.split() for line in self._path.read_text(encoding="utf-8").splitlines())
        return [Entry(verb, key, int(token), int(pid), receipt) for verb, key, token, pid, receipt in rows]

    def charges(self) -> dict[str, list[Entry]]:
        """The executions of each key that had an effect."""
        found: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries():
            if entry.verb == "charged":
                found[entry.key].append(entry)
        return dict(found)

    def unfinished(self) -> int:
        """Executions that began and never came to their effect."""
        verbs = [entry.verb for entry in self.entries()]
        return verbs.count("began") - verbs.count("charged")

    def close(self) -> None:
        """The file itself stays."""
        os.close(self._file)
