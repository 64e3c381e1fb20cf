"""What was done, counted outside of the system: a file to which every server process appends a line for each effect.

A line is written by one `write` on a descriptor opened with O_APPEND, so lines of several processes do not mix, and
what a process has written stays when it is killed. `recorded` says that Redis has confirmed the answer of an effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["effect", "recorded"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """`at`: `time.monotonic`, which all processes of a machine share. `epoch`: the fencing token."""

    kind: Kind
    at: float
    pid: int
    key: str
    epoch: int
    token: str = ""
    """What the caller is told of this effect, and of no other."""

    def __str__(self) -> str:
        return f"{self.kind} {self.at:.6f} {self.pid} {self.key} {self.epoch} {self.token or '-'}\n"


class Ledger:
    """One process's way to append to it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._count = 0

    def effect(self, key: str, epoch: int) -> str:
        """Do it; returns its token."""
        self._count += 1
        token = f"{epoch}.{os.getpid()}.{self._count}"
        self._append("effect", key, epoch, token)
        return token

    def recorded(self, key: str, epoch: int) -> None:
        """The store has the answer."""
        self._append("recorded", key, epoch, "")

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def _append(self, kind: Kind, key: str, epoch: int, token: str) -> None:
        line = Line(kind=kind, at=time.monotonic(), pid=os.getpid(), key=key, epoch=epoch, token=token)
        os.write(self._file, str(line).encode())


def read(path: Path) -> Iterator[Line]:
    """All lines, in the order in which they were written. ValueError for what is none."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        match text.split():
            case ["effect" | "recorded" as kind, at, pid, key, epoch, token]:
                yield Line(
                    kind=kind,
                    at=float(at),
                    pid=int(pid),
                    key=key,
                    epoch=int(epoch),
                    token="" if token == "-" else token,
                )
            case _:
                raise ValueError(f"line {number} of the ledger is none: {text!r:.200}")
