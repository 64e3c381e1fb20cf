import threading
from concurrent.futures import ThreadPoolExecutor

from resilient_rpc.policies.targets import Targets


class State:
    def __init__(self, key: str) -> None:
        self.key, self.permits = key, 0


def busy(state: State) -> bool:
    return state.permits > 0


def test_a_state_is_made_once_and_found_again() -> None:
    targets = Targets(State)
    first = targets.of("orders")
    assert (targets.of("orders"), first.key) == (first, "orders")
    assert targets.of("stock") is not first


def test_the_least_recently_used_is_forgotten() -> None:
    targets = Targets(State, limit=2)
    old, kept = targets.of("a"), targets.of("b")
    assert targets.of("a") is old
    targets.of("c")
    assert list(targets.snapshot()) == ["a", "c"]
    assert targets.of("b") is not kept


def test_a_busy_state_is_kept_beyond_the_limit() -> None:
    targets = Targets(State, limit=2, busy=busy)
    states = [targets.of(key) for key in "ab"]
    for state in states:
        state.permits = 1
    targets.of("c")
    assert set(targets.snapshot()) == {"a", "b", "c"}
    targets.of("d")
    assert set(targets.snapshot()) == {"a", "b", "d"}


def test_a_child_and_clear_begin_with_nothing() -> None:
    targets = Targets(State)
    mine = targets.of("a")
    targets.after_fork()
    assert targets.snapshot() == {}
    assert targets.of("a") is not mine
    targets.clear()
    assert targets.snapshot() == {}


def test_threads_agree_on_one_state() -> None:
    barrier = threading.Barrier(8)

    def first(targets: Targets[State]) -> State:
        barrier.wait(10)
        for number in range(50):
            targets.of(f"other-{number}")
        return targets.of("orders")

    with ThreadPoolExecutor(8) as pool:
        targets = Targets(State, limit=30)
        found = list(pool.map(first, [targets] * 8))
    assert len(targets.snapshot()) <= 30
    assert {state.key for state in found} == {"orders"}


def test_whoever_comes_second_with_a_new_key_gets_what_the_first_has_made() -> None:
    targets = Targets(State)
    assert targets.of("orders") is targets._add("orders")
