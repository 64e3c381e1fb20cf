"""A process that outlives the tests by a moment, to kill the servers they started.

`atexit` and fixtures do not run when the test process is killed, or when pytest-timeout ends it with `os._exit`.
The guard's standard input is a pipe that the kernel closes in every one of these cases.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading


class Guard:
    """The tests' end of the pipe; the process is started with the first thing to guard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def watch(self, group: int) -> None:
        """Kill this process group when the tests end."""
        self._tell(f"watch {group}")

    def forget(self, group: int) -> None:
        """The group has ended: its number may soon be another's."""
        self._tell(f"forget {group}")

    def remove(self, folder: str) -> None:
        """Remove this folder when the tests end."""
        self._tell(f"remove {folder}")

    def _tell(self, line: str) -> None:
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()

    def _start(self) -> subprocess.Popen[str]:
        # -I -S: nothing of the environment's start-up hooks; coverage would measure the guard after its report.
        command = [sys.executable, "-I", "-S", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        atexit.register(self._close, os.getpid())
        return self._process

    def _close(self, owner: int) -> None:
        process = self._process
        if process is None or process.stdin is None or os.getpid() != owner:  # a fork of the tests must not wait
            return
        process.stdin.close()
        process.wait(timeout=10)


GUARD = Guard()


def main() -> None:
    """Collect what is to be ended; end it at the end of input."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    folders: set[str] = set()
    for line in sys.stdin:
        verb, _, value = line.rstrip("\n").partition(" ")
        if verb == "watch":
            groups.add(int(value))
        elif verb == "forget":
            groups.discard(int(value))
        else:
            folders.add(value)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
