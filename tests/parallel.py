"""How the tests run in several processes (pytest-xdist, `make test`): how many, in which order, and which ones alone.

Each process starts servers of its own, on ports and in folders of its own. Without pytest-xdist nothing here matters.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

MORE = 2
"""Workers more than processors: much of the time of a test is waiting, for a server that boots or a lease that ends."""
MOST = 6
"""Each worker has a RabbitMQ or two, and a Redis."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means."""
    return min((os.cpu_count() or 1) + MORE, MOST)


OWN = ("tests/faults/test_cluster.py", "tests/faults/test_hostile_load.py", "tests/faults/test_soak.py")
"""Long ones with servers of their own."""
LANE = "tests/faults/"
"""The others of this folder follow one another in one worker: side by side they would starve each other's servers."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, where one folder counts as a file."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - pytest-xdist is there when this is called

    class Lanes(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return LANE if file.startswith(LANE) and file not in OWN else file

    return Lanes(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait for servers to fail and come back go first: one that begins last would keep all others waiting.

    Those with tests that run alone come last, when the workers have nothing else to do.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = max(ranks.get(item.path, 0), _rank(item))
    items.sort(key=lambda item: (ranks[item.path] == len(_RANKS), -ranks[item.path]))


_RANKS = ("broker", "fault", "slow", "serial")


def _rank(item: pytest.Item) -> int:
    return max((n for n, name in enumerate(_RANKS, 1) if item.get_closest_marker(name)), default=0)


class Room:
    """Where tests are while they run: side by side, or one alone."""

    def __init__(self, door: Path, inside: Path) -> None:
        # The kernel's locks of two files end with the process that holds them.
        self._door, self._inside = (os.open(path, os.O_RDONLY) for path in (door, inside))

    def close(self) -> None:
        """Close the files."""
        os.close(self._door)
        os.close(self._inside)

    @contextlib.contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Wait for the others to leave, if it has to be alone; nobody passes the door meanwhile."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._inside, fcntl.LOCK_UN)


# Any two files will do that all workers have.
_ROOM = Room(Path(__file__), Path(__file__).with_name("conftest.py")) if "PYTEST_XDIST_WORKER" in os.environ else None


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout looks at the clock
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that measures the machine does so alone."""
    if _ROOM is None:
        return (yield)
    with _ROOM.entered(alone=item.get_closest_marker("serial") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A worker sends its reports as UTF-8, and what tests of hostile text print or fail with is none."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_sendable(name): _sendable(one) for name, one in value.items()}
        case list() | tuple():
            return [_sendable(one) for one in value]
    return value
