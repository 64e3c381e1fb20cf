"""The ledger: what is appended is there, whole, whatever becomes of who wrote it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.soak.ledger import Ledger, Line, read


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    first = ledger.effect("a", 7)
    ledger.recorded("a", 7)
    second = ledger.effect("b", 8)
    ledger.close()

    lines = list(read(tmp_path / "ledger"))
    assert [(line.kind, line.key, line.epoch, line.token) for line in lines] == [
        ("effect", "a", 7, first),
        ("recorded", "a", 7, ""),
        ("effect", "b", 8, second),
    ]
    assert {line.pid for line in lines} == {os.getpid()}
    assert lines[0].at <= lines[1].at <= lines[2].at


def test_no_two_effects_have_one_token(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    tokens = {ledger.effect("a", 1) for _ in range(10)}
    ledger.close()

    assert len(tokens) == 10


WRITER = """
import os, signal, sys
from pathlib import Path
from tests.faults.soak.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for n in range(500):
    ledger.effect(f"{sys.argv[2]}-{n}", n)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_lines_of_several_processes_do_not_mix_and_outlive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    for writer in writers:
        assert writer.wait(30.0) == -9

    keys = [line.key for line in read(path)]
    assert sorted(keys) == sorted(f"{name}-{n}" for name in "abc" for n in range(500))


@pytest.mark.parametrize("text", ["", "effect 1.0 2 a", "removed 1.0 2 a 3 -", "effect soon 2 a 3 -"])
def test_what_is_no_line_is_refused(tmp_path: Path, text: str) -> None:
    good = Line(kind="effect", at=1.0, pid=2, key="a", epoch=3, token="t")
    (tmp_path / "ledger").write_text(f"{good}{text}\n")

    with pytest.raises(ValueError, match=r"line 2|could not convert"):
        list(read(tmp_path / "ledger"))
