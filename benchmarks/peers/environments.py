"""What peers need that does not belong into our environment: made when first needed, kept in ``.venv/peers``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PLACE = Path(sys.prefix) / "peers"
INSTALL_SECONDS = 300.0
C_SOURCE, C_ECHO = Path(__file__).with_name("echo.c"), PLACE / "c" / "echo"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """`requirements`: for pip. `check`: what must be importable. `newest`: the last Python 3.x that it has."""

    requirements: Sequence[str]
    check: str
    newest: int = 99


ENVIRONMENTS = {
    "powertools": Environment(
        requirements=("aws-lambda-powertools[redis,aws-sdk]>=3.37",),
        check="aws_lambda_powertools.utilities.idempotency.persistence.cache",
    ),
    "faststream": Environment(requirements=("faststream[rabbit]>=0.7",), check="faststream.rabbit"),
    "oslo": Environment(requirements=("oslo.messaging>=17",), check="oslo_messaging"),
    "nameko": Environment(requirements=("nameko>=2.14",), check="nameko.standalone.rpc, nameko.cli.run", newest=11),
}


def python(name: str) -> tuple[str, str]:
    """The interpreter of a peer's environment, which is made when it is first needed; or why there is none."""
    wanted = ENVIRONMENTS[name]
    inside = _inside(PLACE / name)
    check = [str(inside), "-W", "ignore", "-c", f"import {wanted.check}"]
    if inside.exists() and subprocess.run(check, capture_output=True, check=False).returncode == 0:
        return str(inside), ""
    base = _base(wanted.newest)
    if base is None:
        return "", f"it needs Python 3.{wanted.newest} or older, and there is none on PATH"
    install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.requirements]
    shutil.rmtree(PLACE / name, ignore_errors=True)
    why = _done([base, "-m", "venv", str(PLACE / name)], install, check)
    return ("", f"it could not be installed: {why}") if why else (str(inside), "")


def compiled() -> tuple[str, str]:
    """The echo in C, compiled when it is first needed; or why there is none."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "", "there is no C compiler"
    if not C_ECHO.exists() or C_ECHO.stat().st_mtime < C_SOURCE.stat().st_mtime:
        C_ECHO.parent.mkdir(parents=True, exist_ok=True)
        why = _done([compiler, "-O2", "-o", str(C_ECHO), str(C_SOURCE), "-lrabbitmq"])
        if why:
            return "", f"it needs librabbitmq-dev: {why}"
    return str(C_ECHO), ""


def ready(name: str) -> tuple[str, str]:
    """What runs a peer; or why nothing does."""
    return compiled() if name == "c" else python(name)


def _done(*commands: Sequence[str]) -> str:
    """Run them; returns the last line of what the first that failed said."""
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        if done.returncode:
            said = [line for line in done.stderr.strip().splitlines() if "error" in line.lower()]
            return said[0].rpartition("error: ")[2].strip() if said else f"ended with {done.returncode}"
    return ""


def interpreter(name: str) -> str:
    """What a party of a peer is run by."""
    return str(C_ECHO if name == "c" else _inside(PLACE / name))


def _inside(place: Path) -> Path:
    return place / ("Scripts" if os.name == "nt" else "bin") / "python"


def _base(newest: int) -> str | None:
    if sys.version_info < (3, newest + 1):
        return sys.executable
    for minor in range(newest, 8, -1):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None
