"""What a soak is made of: which servers, who calls what, what strikes them, and how the account is drawn up."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.faults.soak.accounting import Account
from tests.faults.soak.callers import Callers
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.ledger import Line
from tests.faults.soak.schedule import Lanes
from tests.faults.soak.strikes import Strikes
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy


@dataclass(frozen=True)
class Result:
    """The account, and the faults that were carried out, by kind."""

    account: Account
    struck: Counter[str]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What every run has. `opened`: closed with it."""

    seed: int
    folder: Path
    service: str
    broker: Broker
    client_way: Proxy
    server_way: Proxy
    opened: contextlib.ExitStack

    @property
    def clients_url(self) -> str:
        """Through the clients' link."""
        return f"{self.client_way.url}?heartbeat=2"

    @property
    def servers_url(self) -> str:
        """Through the servers' link."""
        return f"{self.server_way.url}?heartbeat=2"


class Mix(ABC):
    """One of the two; made for one run."""

    target: ClassVar[str]
    """Of make."""
    lanes: ClassVar[Lanes]
    keyed: ClassVar[bool]
    connections: ClassVar[int]
    """What a server opens only when it needs it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @abstractmethod
    def servers(self) -> list[str]:
        """The module that each server process runs, and its arguments."""

    @abstractmethod
    def callers(self) -> Callers:
        """The clients of the run."""

    @abstractmethod
    def strikes(self, fleet: Fleet) -> Strikes:
        """What can be struck."""

    def aside(self, callers: Callers) -> contextlib.AbstractContextManager[object]:
        """Who else calls, as long as this is open."""
        return contextlib.nullcontext()

    def in_peace(self, callers: Callers) -> list[str]:
        """Calls after the last fault; what must not be."""
        return []

    @abstractmethod
    def settle(self, lines: Sequence[Line], callers: Callers, strikes: Strikes, fleet: Fleet) -> Account:
        """The account."""
