"""The model of docs/scaling.md, and the page that a run is written into."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import model, publish
from benchmarks.sweeps import CATALOGUE


def run(calls: float, together: float, *, woken: bool = False) -> dict[str, float]:
    """Of a world in which a call costs 2, 3 and 1 µs, a message 20, 30 and 50, and one that wakes ten times as much."""
    wakes = 10 if woken else 1
    found = {"calls_per_s": calls, "calls_a_message": together}
    for name, call, message in (("client", 2, 20), ("server", 3, 30), ("broker", 1, 50)):
        found[f"{name}_cpu_us"] = call + wakes * message / together
    return found


RUNS = {
    "async-1": [run(1_000, 1, woken=True)],
    "async-64-single": [run(15_000, 1)],
    "async-1024": [run(90_000, 64)],
    "async-64": [run(40_000, 50, woken=True)],
    "single-window-256": [run(15_000, 1)],
    "single-servers-2": [run(15_000, 1)],
    "one-queue-2": [run(18_000, 1)],
    "queues-2": [run(20_000, 1)],
}


def test_the_costs_and_what_follows_are_those_of_the_world_that_was_measured() -> None:
    found = {name: (cost.call, cost.message, cost.woken) for name, cost in model.costs(RUNS).items()}
    assert found["client"] == pytest.approx((2, 20, 200))
    assert found["server"] == pytest.approx((3, 30, 300))
    assert found["broker"] == pytest.approx((1, 50, 500))
    for _, said, measured in model.between(RUNS):
        assert said == pytest.approx(measured)
    rates = {name: said for name, said, _ in model.spread(RUNS, processors=2)}
    assert rates["1 client, 1 server"] == pytest.approx(2e6 / 106)
    assert next(said for _, said, _ in model.spread(RUNS, processors=64)) == pytest.approx(1e6 / 33)  # the server's end


def test_a_run_without_the_points_of_the_model_names_the_command() -> None:
    with pytest.raises(ValueError, match="async-1024 was not measured: resilient-rpc bench --only window"):
        model.costs({key: runs for key, runs in RUNS.items() if key != "async-1024"})


def test_every_point_of_the_model_is_a_case_of_the_suite() -> None:
    assert RUNS.keys() <= CATALOGUE.cases.keys()


def document() -> dict[str, Any]:
    point = {"key": "async-64", "x": 64, "series": "S", "measure": "calls_per_s"}
    point |= {"median": 2000.0, "least": 1900.0, "greatest": 2100.0, "rounds": 3}
    return {
        "format": 1,
        "environment": dict.fromkeys(("time", "processors", "processor", "memory", "load before", "python"), 1)
        | {"system": "Linux 6.1 x86_64"},
        "settings": {"rounds made": 3, "seconds": 1.5},
        "families": [{"key": "window", "title": "By window", "measure": "calls_per_s", "points": [point]}],
        "missing": {"a | b": "too old"},
        "verdicts": [],
        "runs": {"async-64": [{"calls_per_s": 2000.0}], "A": [{"calls_per_s": 100.0}]},
    }


def test_a_run_becomes_a_page_with_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(publish, "PICTURES", tmp_path / "images")
    old = tmp_path / "images" / "old.svg"
    old.parent.mkdir()
    old.write_text("of another run")
    file = tmp_path / "results.json"
    file.write_text(json.dumps(document()))
    with pytest.raises(ValueError, match=r"there is no window\.svg"):
        publish.main(Namespace(file=file), Console(quiet=True))
    assert old.exists()  # nothing is taken away for nothing
    (tmp_path / "window.svg").write_text("<svg/>")
    publish.main(Namespace(file=file), Console(quiet=True))
    assert [picture.name for picture in (tmp_path / "images").iterdir()] == ["window.svg"]
    text = (tmp_path / "benchmarks.md").read_text()
    for shown in (
        "| 64 | 2,000 (1,900 - 2,100) calls/s |",
        "images/benchmarks/window.svg",
        "0 are met in this run, 1 are",
    ):
        assert shown in text
    why = CATALOGUE.cases["async-64"].targets[0].why
    assert f"| AsyncClient, 64 in flight | 20.00 (20.00 - 20.00) | ≥ 35 x A | no | {why} |" in text
    assert "| a \\| b | too old |" in text
