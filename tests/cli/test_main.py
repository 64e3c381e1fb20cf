"""The program itself, by both of its names, and `version`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_version_names_what_a_bug_report_needs(run: Run) -> None:
    result = run("version")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"resilient_rpc {version('resilient-rpc')} (CPython 3.")
    assert f"pika {version('pika')}" in result.stdout


def test_without_a_command_it_shows_all_of_them(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    for command in ("demo", "serve", "call", "version"):
        assert f" {command} " in result.output


@pytest.mark.parametrize(
    "program", [[sys.executable, "-m", "resilient_rpc.cli"], [str(Path(sys.executable).with_name("resilient-rpc"))]]
)
def test_it_runs_as_a_script_and_as_a_module(program: list[str]) -> None:
    done = subprocess.run([*program, "call", "x"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: resilient-rpc call ")
