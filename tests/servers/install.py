"""`python -m tests.servers.install` says which servers the tests will use, and installs missing ones on Debian.

The packages start no service: neither now, nor at the next boot. What was changed for that is changed back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers import choose, containers, rabbitmq, redis

PACKAGES = {"RabbitMQ": "rabbitmq-server", "Redis": "redis-server"}
POLICY = Path("/usr/sbin/policy-rc.d")
UNITS = ("rabbitmq-server.service", "redis-server.service", "epmd.service", "epmd.socket")
NOTHING_STARTS = "#!/bin/sh\nexit 101\n"


def main() -> int:
    """Install what is missing; the exit code is 0 when every kind of server was found in the end."""
    missing = _missing()
    if missing and not is_debian_root():
        print(f"error: no {' and no '.join(missing)} for the tests.", file=sys.stderr)
        print(
            "       Install the binaries (Debian: apt-get install rabbitmq-server redis-server), or start docker.",
            file=sys.stderr,
        )
        return 1
    if missing:
        packages([PACKAGES[name] for name in missing])
        if still := _missing():
            print(f"error: {' and '.join(still)} not found, even after the installation", file=sys.stderr)
            return 1
    if rabbitmq.find() is None:
        containers.fetch(containers.RABBITMQ_IMAGE)
    if redis.find() is None:
        containers.fetch(containers.REDIS_IMAGE)
    for name, origin in choose.origins().items():
        print(f"{name} for the tests: {origin}")
    return 0


def _missing() -> list[str]:
    # Tests that break a server need one of their own, even where the environment names a shared one.
    return [name for name, possible in choose.private_possible().items() if not possible]


def is_debian_root() -> bool:
    """Whether packages can be installed here."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def packages(names: Sequence[str]) -> None:
    """Install these."""
    print(f"installing {' '.join(names)} for the tests", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    wanted_at_boot = _enabled()
    with _services_held():
        subprocess.run([*apt, "update"], env=env, check=True)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", *names], env=env, check=True)
    if unwanted := [unit for unit in _enabled() if unit not in wanted_at_boot]:
        subprocess.run(["systemctl", "disable", "--quiet", *unwanted], check=False)


def _enabled() -> list[str]:
    """Those of our units that would start at boot."""
    if not shutil.which("systemctl"):
        return []
    ask = ["systemctl", "is-enabled", "--quiet"]
    return [
        unit for unit in UNITS if subprocess.run([*ask, unit], check=False, stderr=subprocess.DEVNULL).returncode == 0
    ]


@contextlib.contextmanager
def _services_held() -> Iterator[None]:
    """While this is open packages start no services; a policy that the machine has already is left as it is."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(NOTHING_STARTS)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
