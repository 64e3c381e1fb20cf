"""`make soak-links`: calls without keys, of every safety, by every reply strategy, while links and messages fail."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from resilient_rpc.policies import Retry
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.amqp.versions import Broker
from tests.faults.soak.accounting import Account, Evidence, settle_plain
from tests.faults.soak.callers import SHORT, Callers, Order
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.ledger import Line
from tests.faults.soak.link_strikes import LinkStrikes
from tests.faults.soak.mix import Mix, Stage
from tests.faults.soak.plain_server import command
from tests.faults.soak.schedule import LINKS
from tests.faults.soak.strikes import Strikes

TIMEOUT = 3.0
METHODS = {"read": "read_only", "put": "idempotent", "create": "unsafe", "create_in_thread": "unsafe"}
UNSAFE = "unsafe"
STRATEGIES = (Direct(), Exclusive(), Named(app="soak"), Pool(size=3), PerCall())


def orders(name: str, seed: int) -> Iterator[Order]:
    """Without end; their keys begin with `name`."""
    draw = random.Random(f"{seed} {name}")
    number = 0
    while True:
        number += 1
        key = f"{name}-{number}"
        params: dict[str, Any] = {"id": key, "seconds": draw.choice((0.0, 0.0, 0.01, 0.1))}
        method, safety = draw.choice(tuple(METHODS.items()))
        short = draw.random() < 0.05
        if short:
            params["seconds"] = draw.choice((0.1, 0.2))
        yield Order(key=key, params=params, timeout=SHORT if short else TIMEOUT, method=method, how={"safety": safety})


def settings() -> list[Callable[[], dict[str, Any]]]:
    """Of the clients: each reply strategy, with the default policies, with repeats alone, or without any."""
    policies: tuple[dict[str, Any], ...] = ({}, {"policies": []}, {"policies": [Retry()]})
    return [
        functools.partial(dict, replies=strategy, **policies[number % 3]) for number, strategy in enumerate(STRATEGIES)
    ]


class Links(Mix):
    """Rows 1-9 and 16-29 of the fault matrix at random."""

    target = "soak-links"
    lanes = LINKS
    keyed = False
    connections = 4

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._unmarked = False
        self._strikes = LinkStrikes(
            stage.broker, stage.client_way, stage.server_way, service=stage.service, seed=stage.seed
        )

    def servers(self) -> list[str]:
        """Without records."""
        return command(self.stage.servers_url, self.stage.service, self.stage.folder)

    def callers(self) -> Callers:
        """Nothing is made twice by them: then nothing unsafe may be executed twice."""
        version = self.stage.broker.ctl("version").strip()  # now: it is gone in the end
        self._unmarked = not Broker.of({"product": "RabbitMQ", "version": version}).marks
        return Callers(
            self.stage.clients_url,
            self.stage.service,
            self.stage.seed,
            threads=2,
            tasks=4,
            settings=settings(),
            orders=orders,
            repeated=0.0,
        )

    def strikes(self, fleet: Fleet) -> Strikes:
        """Servers only by what they are sent."""
        return self._strikes

    def settle(self, lines: Sequence[Line], callers: Callers, strikes: Strikes, fleet: Fleet) -> Account:
        """See `accounting`."""
        repeatable = {order.key for order in callers.made if order.how["safety"] != UNSAFE}
        return settle_plain(
            Evidence(
                lines=lines,
                said=callers.said,
                strikes=strikes.record,
                strangers=self._strikes.made,
                repeatable=repeatable,
                unmarked=self._unmarked,
            )
        )
