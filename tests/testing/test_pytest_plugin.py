"""The fixtures, as somebody else's tests find them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "resilient_rpc.testing.pytest_plugin"
TESTS = """
import pytest

from resilient_rpc import Client
from resilient_rpc.testing import Bench, ScriptedPeer, VirtualClock, answer

seen = set()


def test_time(virtual_clock: VirtualClock) -> None:
    began = virtual_clock.now()
    virtual_clock.advance(3600)
    assert virtual_clock.now() - began == 3600


def test_both(rpc_bench: Bench) -> None:
    assert rpc_bench.call(ScriptedPeer(answer(1, after=20))).result == 1
    assert rpc_bench.passed == 20
    seen.add(rpc_bench.name)


def test_url(memory_url: str) -> None:
    with ScriptedPeer(7).serving(memory_url, "orders.price"), Client(memory_url) as client:
        assert client.call("orders.price") == 7
    seen.add(memory_url)


def test_another_url(memory_url: str) -> None:
    assert memory_url not in seen
    assert seen > {"blocking", "asyncio"}
"""


def test_the_fixtures_are_found_and_work_where_warnings_are_errors(tmp_path: Path) -> None:
    tmp_path.joinpath("test_theirs.py").write_text(TESTS)
    # As the entry point would, but also where this package was installed before it had one.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:resilient_rpc",
        "-p",
        PLUGIN,
        "-W",
        "error",
        "-q",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_they_are_offered_as_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"resilient_rpc": PLUGIN}


def test_asking_for_no_fixture_imports_no_more_than_the_package() -> None:
    code = (
        f"import sys, {PLUGIN}\n"
        "assert 'resilient_rpc.testing.service' not in sys.modules\n"
        "import resilient_rpc\n"
        "new = {name for name in sys.modules if name.startswith('resilient_rpc.testing')}\n"
        "assert 'pika' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
