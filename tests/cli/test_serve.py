"""`serve`: finds the server, runs it, and lets it finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run

Start = Callable[..., "subprocess.Popen[str]"]
SERVER = """
from resilient_rpc import Server

server = Server("memory://x", service="shop")

@server.method
def add(a: int, b: int) -> int:
    return a + b

def make() -> Server:
    return server

class Wrapped:
    inner = server

empty = Server("memory://x", service="empty")
number = 17

def broken():
    raise OSError("no\\nfloor")
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `serve` in a process of its own, in a directory with shop.py."""
    (tmp_path / "shop.py").write_text(SERVER)
    (tmp_path / "torn.py").write_text("import nosuchthing\n")
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "resilient_rpc.cli", "serve", *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONSAFEPATH": "1"},  # else -m itself would put the directory there
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["shop:server", "shop:make", "shop:Wrapped.inner"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_what_the_target_names_until_a_signal(start: Start, target: str, number: signal.Signals) -> None:
    process = start(target)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready: shop\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "INFO resilient_rpc.cli.serve: serving shop as " in err
    assert "shop is on memory://, a bus inside this process: no other process can call it" in err


@pytest.mark.slow
def test_the_log_can_be_quiet(start: Start) -> None:
    process = start("shop:server", "--log-level", "error")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.communicate(timeout=20) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop", "error: 'shop': give it as module:server, such as shop.orders:server"),
        ("nosuch:server", "error: cannot import 'nosuch': ModuleNotFoundError: No module named 'nosuch'"),
        ("torn:server", "error: cannot import 'torn': ModuleNotFoundError: No module named 'nosuchthing'"),
        ("shop:nosuch", "error: 'shop' has no 'nosuch'"),
        ("shop:number", "error: shop:number is of type int, not a Server nor a function that makes one"),
        ("shop:broken", "error: shop:broken() failed: OSError: no floor"),
        ("shop:empty", "error: service 'empty' has no methods"),
    ],
)
def test_what_is_wrong_with_the_target_is_one_line(start: Start, target: str, said: str) -> None:
    process = start(target)
    assert process.communicate(timeout=20) == ("", said + "\n")
    assert process.returncode == 2


@pytest.mark.slow
def test_the_traceback_is_in_the_debug_log(start: Start) -> None:
    err = start("torn:server", "--log-level", "debug").communicate(timeout=20)[1]
    assert 'torn.py", line 1' in err


def test_an_unknown_level_is_wrong_usage(run: Run) -> None:
    assert run("serve", "shop:server", "--log-level", "loud").exit_code == 2
