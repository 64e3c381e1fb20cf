"""`make soak`: calls with keys, while servers, broker, Redis and their links fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tests.faults.soak.accounting import Account, Evidence, settle
from tests.faults.soak.callers import TIMEOUT, Callers, Said
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.keyed_strikes import KeyedStrikes
from tests.faults.soak.ledger import Line
from tests.faults.soak.mix import Mix, Stage
from tests.faults.soak.republish import Republisher
from tests.faults.soak.schedule import KEYED
from tests.faults.soak.server import command
from tests.faults.soak.strikes import Strike, Strikes
from tests.servers import choose
from tests.servers.proxy import Proxy

LEASE = 2.0
REPEATED = 200
"""Acknowledged calls that are made again at the end, besides all that failed."""


class Keyed(Mix):
    """Beside the clients there is a publisher that sends their calls again."""

    target = "soak"
    lanes = KEYED
    keyed = True
    connections = 16
    """4 to Redis for each of its two loops, and the second loop."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._store = stage.opened.enter_context(choose.redis_server(private=True))
        self._redis_way = stage.opened.enter_context(Proxy(self._store.url))
        self._also_said: list[Said] = []
        self._republished: set[str] = set()

    def servers(self) -> list[str]:
        """With Redis behind a link."""
        stage = self.stage
        return command(stage.servers_url, self._redis_way.url, stage.service, stage.folder, LEASE)

    def callers(self) -> Callers:
        """They repeat."""
        return Callers(self.stage.clients_url, self.stage.service, self.stage.seed)

    def strikes(self, fleet: Fleet) -> Strikes:
        """Servers and Redis, too."""
        stage = self.stage
        return KeyedStrikes(
            stage.broker,
            stage.client_way,
            stage.server_way,
            fleet=fleet,
            store=self._store,
            redis_way=self._redis_way,
            lease=LEASE,
        )

    @contextlib.contextmanager
    def aside(self, callers: Callers) -> Iterator[None]:
        """The publisher."""
        republisher = Republisher(self.stage.broker.url, self.stage.service, callers.made, self.stage.seed)
        republisher.start()
        try:
            yield
        finally:
            republisher.stop()
            self._also_said += republisher.said
            self._republished = republisher.sent

    def in_peace(self, callers: Callers) -> list[str]:
        """What failed is repeated until it has an answer; of the others some, to have their answers compared."""
        answered = {said.key for said in callers.said if said.answer is not None}
        failed = [order for order in callers.made if order.key not in answered]
        known = [order for order in callers.made if order.key in answered]
        step = max(len(known) // REPEATED, 1)
        again = Callers(self.stage.broker.url, self.stage.service, self.stage.seed, threads=0, tasks=0)
        silent = [
            f"{order.key} has no answer in peace: {said.error}"
            for order in failed + known[::step]
            if (said := again.ask_again(order, TIMEOUT)).answer is None
        ]
        again.stop()
        self._also_said += again.said
        return silent

    def settle(self, lines: Sequence[Line], callers: Callers, strikes: Strikes, fleet: Fleet) -> Account:
        """See `accounting`."""
        crashed = [Strike(kind="server-crash", begin=0.0, end=0.0, pid=pid) for pid in fleet.crashed]
        return settle(
            Evidence(
                lines=lines,
                said=callers.said + self._also_said,
                strikes=strikes.record + crashed,
                republished=self._republished,
                lease=LEASE,
            )
        )
