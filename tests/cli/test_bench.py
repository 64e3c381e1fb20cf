"""`resilient-rpc bench` finds the suite, and says where it is when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resilient_rpc.cli import bench
from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]


def test_it_hands_its_arguments_to_the_suite(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "resilient_rpc.cli", "bench", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: resilient-rpc bench ")
    for option in ("--quick", "--out", "--compare", "--only", "--peers"):
        assert option in done.stdout


def test_a_wrong_option_ends_as_the_suite_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "resilient_rpc.cli", "bench", "--only", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'nothing'" in done.stderr


def test_the_suite_of_the_current_folder_goes_before_that_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "resilient_rpc").mkdir()
    (tmp_path / bench.SUITE).touch()
    inner = tmp_path / "docs"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert bench.find() == tmp_path
    (tmp_path / bench.SUITE).unlink()
    assert bench.find() == ROOT


def test_without_the_repository_it_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "find", lambda: None)
    result = run("bench", "--quick")
    assert result.exit_code == 2
    assert "in a clone of its repository" in result.stderr


def test_without_the_extra_it_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NEEDED", ("psutil", "no_such_module"))
    result = run("bench")
    assert result.exit_code == 2
    assert "no_such_module" in result.stderr
    assert "[bench]" in result.stderr
