from __future__ import annotations

import logging
import threading

import pytest

from resilient_rpc.serving.lastresort import STUCK, LastResort
from tests.waiting import PATIENCE


def test_it_ends_the_process_and_names_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    left: list[int] = []
    done = threading.Event()
    release = threading.Event()
    other = threading.Thread(target=release.wait, name="hangs")
    other.start()
    with caplog.at_level(logging.CRITICAL):
        LastResort(lambda code: (left.append(code), done.set())).arm(0.0)
        assert done.wait(PATIENCE)
    release.set()
    other.join()
    assert left == [STUCK] == [75]
    assert "hangs" in caplog.text
    assert "rpc-last-resort" not in caplog.text


def test_it_can_be_called_off() -> None:
    left: list[int] = []
    resort = LastResort(left.append)
    resort.arm(60.0)
    [thread] = [each for each in threading.enumerate() if each.name == "rpc-last-resort"]
    resort.call_off()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert left == []
