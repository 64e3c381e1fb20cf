from __future__ import annotations

from resilient_rpc.stores.gate import FAILURES, LONGEST, PAUSE, Gate


def shut(gate: Gate, now: float) -> None:
    for _ in range(FAILURES - 1):
        assert gate.failed(now) is False
    assert gate.failed(now) is True


def test_one_failure_closes_nothing_and_a_success_forgets_it() -> None:
    gate = Gate()
    for _ in range(5):
        assert gate.failed(0.0) is False
        assert gate.wait(0.0) == 0
        assert gate.passed() is False


def test_shut_one_passes_after_the_pause_and_no_other() -> None:
    gate = Gate()
    shut(gate, 10.0)
    assert gate.wait(10.0) == PAUSE
    assert gate.wait(10.0 + PAUSE) == 0
    assert gate.wait(10.0 + PAUSE) == PAUSE
    assert gate.passed() is True
    assert gate.wait(10.0 + PAUSE) == 0


def test_pauses_grow_to_a_limit_and_begin_small_again() -> None:
    gate = Gate()
    now = 0.0
    shut(gate, now)
    pauses = []
    for _ in range(6):
        pauses.append(gate.wait(now))
        now += pauses[-1]
        assert gate.wait(now) == 0
        assert gate.failed(now) is False
    assert pauses == [PAUSE, 2 * PAUSE, 4 * PAUSE, LONGEST, LONGEST, LONGEST]
    gate.passed()
    shut(gate, now)
    assert gate.wait(now) == PAUSE
