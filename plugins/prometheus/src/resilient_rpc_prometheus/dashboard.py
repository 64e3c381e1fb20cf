"""The Grafana dashboard that comes with the package."""

from __future__ import annotations

from importlib.resources import files


def dashboard() -> str:
    """The dashboard as JSON, ready to be imported or provisioned."""
    return files(__package__ or "").joinpath("dashboard.json").read_text(encoding="utf-8")
