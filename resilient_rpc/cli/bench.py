"""``resilient-rpc bench``: the benchmark suite, which stands in the repository beside the library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import typer

from resilient_rpc.cli.fail import USAGE, fail

SUITE = Path("benchmarks") / "sweeps.py"
NEEDED = ("psutil",)
"""Of the extra ``bench``: what the suite cannot do without. A peer that is not there is said to be missing."""
GET_IT = (
    "the benchmark suite is not installed with the library: run this in a clone of its repository, where `make bench` "
    "sets up all it needs"
)


def bench(context: typer.Context) -> None:
    """Measure what a call costs, beside other libraries; --help shows what may be asked.

    Runs the suite of the repository: that of the current folder, or else that from which the library was installed with
    `pip install -e`.
    """
    root = find()
    if root is None:
        fail(GET_IT, USAGE)
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        fail(f"the suite needs {' and '.join(lacking)}: pip install -e '{root}[bench]'", USAGE)
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    around = os.environ | {"PYTHONPATH": path, "RESILIENT_RPC_BENCH_PROGRAM": "resilient-rpc bench"}
    done = subprocess.run([sys.executable, "-m", "benchmarks", *context.args], env=around, check=False)  # noqa: S603 - ours
    raise typer.Exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def find() -> Path | None:
    """The repository: the current folder or one above, or where this library stands."""
    here = Path.cwd()
    for root in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (root / SUITE).is_file() and (root / "resilient_rpc").is_dir():
            return root
    return None
