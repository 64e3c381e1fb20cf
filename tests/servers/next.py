"""`python -m tests.servers.next COMMAND...` runs a command, such as pytest, with the next versions of the servers.

RabbitMQ 4 and Redis 8: those of Debian 13, unpacked into a folder of the repository and run from there (as root on
Debian), else docker. Nothing is installed beside the machine's own servers, and none of the folder's starts by itself.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import binaries, containers, install
from tests.servers.handle import ServerError

FOLDER = Path(__file__).parents[2] / ".servers" / "next"
RELEASE = "trixie"
PACKAGES = "rabbitmq-server,redis-server"
PROGRAMS = {
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "rabbitmqctl": "/usr/lib/rabbitmq/bin/rabbitmqctl",
    "redis-server": "/usr/bin/redis-server",
    "redis-cli": "/usr/bin/redis-cli",
    "epmd": "/usr/bin/epmd",
}
IMAGES = {containers.RABBITMQ: "rabbitmq:4.1.4-management", containers.REDIS: "redis:8.0.2"}

# Each step replaces the one before, so the server has the number and the group of the process that was started, and
# every signal reaches it. The mounts are this process's own: they end with it, and the folder can always be removed.
WRAPPER = """\
#!/bin/sh
exec unshare --mount --propagation private sh -e -c '
    root=$1 program=$2 shared=${{TMPDIR:-/tmp}}
    shift 2
    mkdir -p "$root$shared"
    for each in /proc /dev "$shared"; do mount --rbind "$each" "$root$each"; done
    exec chroot "$root" "$program" "$@"
' - {root} {program} "$@"
"""


def main(command: Sequence[str]) -> int:
    """Prepare the servers, and run the command; the exit code is its own."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        settings = prepare(FOLDER)
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode


def prepare(folder: Path) -> Mapping[str, str]:
    """Have the servers ready; returns the environment in which the tests take them."""
    if install.is_debian_root():
        programs = unpacked(folder)
        for name, words in (("rabbitmqctl", ["version"]), ("redis-server", ["--version"])):
            print(f"{name}: {_version(programs / name, words)}")
        return {binaries.BINARIES: str(programs)}
    if not containers.available():
        raise ServerError("RabbitMQ 4 and Redis 8 need root on Debian (to unpack them with debootstrap), or docker")
    for image in IMAGES.values():
        containers.fetch(image)
    return IMAGES


def unpacked(folder: Path) -> Path:
    """The folder of wrappers around what is unpacked into `folder`, which is done first if it was not yet."""
    root, programs = folder / "root", folder / "bin"
    if not root.exists():
        _unpack(root)
    programs.mkdir(parents=True, exist_ok=True)
    for name, program in PROGRAMS.items():
        wrapper = programs / name
        wrapper.write_text(WRAPPER.format(root=shlex.quote(str(root.absolute())), program=program))
        wrapper.chmod(0o755)
    return programs


def _unpack(root: Path) -> None:
    if shutil.which("debootstrap") is None:
        install.packages(["debootstrap"])
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    print(f"unpacking RabbitMQ and Redis of Debian {RELEASE} into {root}: about a minute, once", flush=True)
    log = partial.with_suffix(".log")
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(partial)]
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise ServerError(f"debootstrap ended with {done.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    (partial / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    partial.rename(root)  # so that what is there is whole


def _version(program: Path, words: Sequence[str]) -> str:
    done = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ServerError(f"{program} does not run here (it needs unshare and mount): {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
