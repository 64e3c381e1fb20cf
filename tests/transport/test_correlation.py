"""What correlation ids end with, and the ids of calls."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from resilient_rpc import Client, ConfigurationError
from resilient_rpc.transport.correlation import STRATEGIES, Suffix, ids_of, suffix_of

MASK = 2**31 - 1


def suffix(strategy: str) -> Suffix:
    found = suffix_of(strategy)
    assert found is not None
    return found


def test_the_sequence_is_the_number_of_the_message_and_nothing_else() -> None:
    assert suffix_of("sequence") is None
    ids = ids_of("sequence")
    assert [next(ids) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("strategy", ["uuid", "time"])
def test_random_ones_never_repeat(strategy: str) -> None:
    make = suffix(strategy)
    assert len({make(1) for _ in range(1000)}) == 1000


def test_the_time_is_that_of_sending() -> None:
    before = time.time_ns()
    found = re.fullmatch(r"(\d+)-[0-9a-f]{8}", suffix("time")(1))
    assert found is not None
    assert before <= int(found[1]) <= time.time_ns()


def test_a_call_names_its_thread_and_its_place_in_the_sequence() -> None:
    ids = ids_of("thread")
    found: dict[int, list[int]] = {}

    def take() -> None:
        found[threading.get_native_id()] = [next(ids) for _ in range(1000)]

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [number for numbers in found.values() for number in numbers]
    assert len(set(every)) == 4000
    assert sorted(number & MASK for number in every) == list(range(1, 4001))
    assert max(every) < 2**53, "a number that JavaScript keeps"
    for ident, numbers in found.items():
        assert {number >> 31 for number in numbers} == {ident & (2**22 - 1)}
        assert suffix("thread")(numbers[0]) == f"{ident & (2**22 - 1)}-{numbers[0] & MASK}"


@pytest.mark.parametrize("value", ["random", "", None, 5, "UUID"])
def test_another_strategy_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"correlation=.*sequence, uuid, time, thread"):
        Client("memory://x", correlation=value)


def test_each_strategy_has_ids() -> None:
    for strategy in STRATEGIES:
        assert next(ids_of(strategy)) >= 1
