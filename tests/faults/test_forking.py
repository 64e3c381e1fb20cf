"""Row 38 of the fault matrix: a process forks that is connected, serves, and has a call under way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.faults.forking import CHILDREN

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(90),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


@pytest.mark.parametrize("child", CHILDREN)
def test_plain_row_38_a_fork_in_mid_call_leaves_parent_and_child_well(
    amqp_url: str, redis_url: str, service: str, child: str
) -> None:
    command = [sys.executable, "-m", "tests.faults.forking", amqp_url, redis_url, service, child]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
