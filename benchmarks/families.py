"""The mechanism of the suite: families of points, each point a number of some case, peer or probe at some place.

Nothing is measured twice: a point names a `Case` by what its processes are started with, and equal ones are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import CASES, PEERS, RATE, Case

Found = dict[str, float]
"""The numbers of one run, by the key of their `Measure`."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A number in a chart. `x`: where, a number or a name; `series`: of which line or group."""

    key: str
    x: float | str
    series: str = ""
    measure: str = ""
    """Instead of the family's."""
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What is not a client that calls a server: it measures in its own way, and says which points it has."""

    run: Callable[[Any], Iterable[tuple[Point, Found]]]
    once: bool = False
    """It takes long: one run, and no spread."""
    seconds: float = 5.0
    """That it is known to take."""
    quick_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Family:
    """One chart and one table. `compared`: the key of the point whose multiple the others are shown as."""

    key: str
    title: str
    about: str
    measure: str = RATE
    axis: str = ""
    points: tuple[Point, ...] = ()
    probe: Probe | None = None
    compared: str = ""
    stacked: bool = False
    quick: bool = False
    """For a probe, whether it belongs to the quick run."""

    def chosen(self, *, quick: bool) -> tuple[Point, ...]:
        """Its points in a run of that size."""
        return tuple(point for point in self.points if point.quick or not quick)


@dataclass
class Catalogue:
    """All cases, by key and by what they are started with."""

    cases: dict[str, Case] = field(default_factory=lambda: {case.key: case for case in CASES})

    def case(self, wanted: Case) -> str:
        """The key of the case that is started like `wanted`, which is added if it is new."""
        for key, known in self.cases.items():
            if known.command == wanted.command:
                return key
        assert wanted.key not in self.cases, wanted.key
        self.cases[wanted.key] = wanted
        return wanted.key

    def sweep(
        self,
        name: str,
        values: Sequence[Any],
        *,
        client: Callable[[Any], Iterable[str]],
        server: Callable[[Any], Iterable[str]] = lambda _: ("ours-server",),
        servers: Callable[[Any], int] = lambda _: 1,
        clients: Callable[[Any], int] = lambda _: 1,
        series: str = "AsyncClient",
        measures: Sequence[tuple[str, str]] = (),
        quick: Sequence[Any] = (),
    ) -> tuple[Point, ...]:
        """A point for each value. `measures`: of each of them several, with the series they are shown as."""
        points = []
        for value in values:
            at = f"{value:,}" if isinstance(value, int) else f"{value}"
            key = self.case(
                Case(
                    key=f"{name}-{value}",
                    title=f"{series}, {name} {at}",
                    client=tuple(client(value)),
                    server=tuple(server(value)),
                    servers=servers(value),
                    clients=clients(value),
                )
            )
            for measure, shown in measures or (("", series),):
                points.append(Point(key=key, x=value, series=shown, measure=measure, quick=value in quick))
        return tuple(points)


def of_cases(shown: Iterable[tuple[str, str]], *, quick: Iterable[str] = (), apart: bool = False) -> tuple[Point, ...]:
    """Bars: the keys of cases and peers, and what stands beside each; `apart`: peers in a colour of their own."""
    peers, wanted = {peer.key for peer in PEERS}, set(quick)
    assert all(key in peers or any(case.key == key for case in CASES) for key, _ in shown), shown
    return tuple(
        Point(
            key=key, x=x, series=("others" if key in peers else "resilient_rpc") if apart else "", quick=key in wanted
        )
        for key, x in shown
    )
