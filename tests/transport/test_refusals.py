from __future__ import annotations

from resilient_rpc.transport.refusals import MOST, PATIENCE, Refusals


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.renewed: list[float] = []
        self.refusals = Refusals(lambda: self.now, lambda: self.renewed.append(self.now))
        self.count = 0

    def refuse(self, *, taken: int = 0) -> None:
        self.count += 1
        self.refusals.refused(1, self.count + taken)


def test_a_session_that_takes_nothing_is_given_up_after_a_while() -> None:
    bench = Bench()
    bench.refuse()
    bench.now = PATIENCE - 0.01
    bench.refuse()
    assert not bench.renewed
    bench.now = PATIENCE
    bench.refuse()
    assert bench.renewed == [PATIENCE]


def test_one_that_has_taken_anything_is_kept() -> None:
    bench = Bench()
    for _ in range(100):
        bench.refuse(taken=1)
        bench.now += 1.0
    assert not bench.renewed


def test_where_all_sessions_are_refused_they_are_kept_longer_and_longer() -> None:
    bench = Bench()
    while bench.now < 1_000.0:
        bench.refuse()
        if bench.renewed[-1:] == [bench.now]:
            bench.refusals.begin()
            bench.count = 0
        bench.now += 0.5
    kept = [later - earlier for earlier, later in zip(bench.renewed, bench.renewed[1:], strict=False)]
    assert kept[0] == 2 * PATIENCE + 0.5
    assert kept == sorted(kept)
    assert kept[-1] == MOST + 0.5


def test_after_one_that_took_something_patience_is_short_again() -> None:
    bench = Bench()
    bench.refuse()
    bench.now += PATIENCE
    bench.refuse()
    bench.refusals.begin()
    bench.count = 0
    bench.refuse(taken=1)
    bench.refusals.begin()
    bench.count = 0
    bench.now += 10.0
    bench.refuse()
    bench.now += PATIENCE
    bench.refuse()
    assert len(bench.renewed) == 2
