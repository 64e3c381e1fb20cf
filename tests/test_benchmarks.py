"""The benchmark stays runnable; what it measures here says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import CASES

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_tiny_run_ends_with_a_verdict(amqp_url: str, tmp_path: Path) -> None:
    saved = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--broker", amqp_url, "--rounds", "1", "--seconds", "0.2"]
    command += ["--cases", "async-64-single", "--peers", "P", "--json", str(saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(saved.read_text())
    assert {key: len(runs) for key, runs in found["runs"].items()} == {"P": 1, "async-64-single": 1}
    compared = {verdict["peer"]: verdict["reached"] for verdict in found["verdicts"]}
    assert compared["A"] is None
    assert compared["P"] in {True, False}


@pytest.mark.slow
def test_a_tiny_run_writes_a_report_and_compares_itself(amqp_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--broker", amqp_url, "--rounds", "1", "--seconds", "0.1"]
    command += ["--cases", "rate-1000", "payload-16", "--peers", "--out"]
    for folder, more in (("then", []), ("now", ["--compare", str(tmp_path / "then" / "results.json")])):
        place = [str(tmp_path / folder), *more]
        done = subprocess.run([*command, *place], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "now" / "results.json").read_text())
    shown = {(point["key"], point["series"]) for family in found["families"] for point in family["points"]}
    assert shown >= {("rate-1000", "p50"), ("rate-1000", "p99.9"), ("payload-16", "AsyncClient")}
    assert found["environment"]["processors"] > 0
    assert "since then" in done.stdout
    assert "numbers became slower beyond the spread of both runs" in done.stdout
    html = (tmp_path / "now" / "report.html").read_text()
    assert html.count("<svg") == len(found["families"]) == len(list((tmp_path / "now").glob("*.svg")))
    assert "amqp://" not in html  # a URL has a password


@pytest.mark.slow
def test_a_tiny_run_of_the_store_has_a_rate_for_every_case(redis_url: str, tmp_path: Path) -> None:
    saved = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "store", "--redis", redis_url, "--rounds", "1", "--seconds", "0.05"]
    command += ["--peers", "--json", str(saved)]  # none: it would have to be installed
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    [(ours, theirs)] = json.loads(saved.read_text())["rounds"]
    assert set(ours) == set(CASES)
    assert min(ours.values()) > 0
    assert theirs is None
    assert done.stdout.count("missing") == len(CASES)
