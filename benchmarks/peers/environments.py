"""Virtual environments for peers that do not belong into ours: made when first needed, kept in ``.venv/peers``."""

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
    wanted, place = ENVIRONMENTS[name], PLACE / name
    inside = _inside(place)
    check = [str(inside), "-W", "ignore", "-c", f"import {wanted.check}"]
    if inside.exists() and subprocess.run(check, capture_output=True, check=False).returncode == 0:
        return str(inside), ""
    base = _base(wanted.newest)
    if base is None:
        return "", f"it needs Python 3.{wanted.newest} or older, and there is none on PATH"
    try:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([base, "-m", "venv", str(place)], capture_output=True, text=True, check=True)
        command = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.requirements]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS)
        subprocess.run(check, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return "", f"it could not be installed: {said[-1] if said else type(error).__name__}"
    return str(inside), ""


def interpreter(name: str) -> str:
    """What a party of a peer is run by."""
    return str(_inside(PLACE / name))


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
