"""Servers of plain calls in this process, and what they ran: for the rows of the fault matrix (`README.md`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from resilient_rpc import Certainty, Client, RpcError, Server
from resilient_rpc.futures import CallFuture
from tests.faults.group import MACHINE, Group
from tests.faults.tools import eventually


class Desk(Group):
    """Servers of one service that write down every execution, by the number that its caller gave the call.

    `echo` answers at once; `hold` answers when `go` is set. Both are unsafe; `look` may be repeated.
    """

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.runs: Counter[int] = Counter()
        self.looked: set[int] = set()

    def serve(self, url: str, **settings: Any) -> Server:
        """One more server."""
        server = Server(url, service=self.service, **{"concurrency": 64, **settings})
        server.method(self.echo)
        server.method(self.hold)
        server.method(safety="read_only")(self.look)
        return self.start(server)

    async def echo(self, n: int, padding: str = "") -> int:
        self._note(n)
        return n

    def hold(self, n: int) -> int:
        self._note(n)
        self.held()
        return n

    async def look(self, n: int) -> int:
        self.looked.add(n)
        return n

    def settled(self) -> None:
        """Wait until no server holds anything."""
        for server in self.servers:
            eventually(lambda at=server: not at.health()["unacked"], "the last ack", 20.0)  # type: ignore[misc]

    def _note(self, n: int) -> None:
        with self.book:
            self.runs[n] += 1


def account(desk: Desk, futures: Mapping[int, CallFuture], *, timeout: float) -> Counter[str]:
    """What became of unsafe calls, by kind: each has ended by its deadline, and ran as often as its outcome says.

    `timeout`: seconds that were left to the calls when this was called, or more.
    """
    found: Counter[str] = Counter()
    certainty: dict[int, Certainty] = {}
    for n, future in futures.items():
        error = future.exception(timeout=timeout + 1.0 + MACHINE)
        if error is None:
            assert future.result() == n, "the answer of another call"
            certainty[n] = Certainty.EXECUTED
            found["answered"] += 1
        else:
            assert isinstance(error, RpcError), repr(error)
            certainty[n] = error.certainty
            found[f"{type(error).__name__} {error.certainty}"] += 1
    desk.settled()
    allowed = {Certainty.EXECUTED: {1}, Certainty.NOT_EXECUTED: {0}, Certainty.UNKNOWN: {0, 1}}
    wrong = {n: (said, desk.runs[n]) for n, said in certainty.items() if desk.runs[n] not in allowed[said]}
    assert not wrong, f"calls by what was said of them and how often they ran: {wrong}"
    return found


def answers(client: Client, desk: Desk, *, within: float = 1.0) -> bool:
    """Whether a call is answered now. The first one of a client has to connect, on a machine that may be busy."""
    try:
        return bool(client.call(desk.name("look"), [4], timeout=within) == 4)
    except RpcError:
        return False
