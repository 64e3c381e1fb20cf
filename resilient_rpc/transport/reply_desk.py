"""ReplyDesk: how a link goes by its reply strategy, over all of its sessions, and which address goes into a request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from resilient_rpc.transport.base import Leasing, Publisher
from resilient_rpc.transport.batching import Route
from resilient_rpc.transport.properties import Template
from resilient_rpc.transport.reply_queues import ReplyQueueTaken, ReplyStrategy
from resilient_rpc.transport.templates import Templates


class Addressing(Protocol):
    """Gives out the properties of requests, each with the address that replies to it go to."""

    @property
    def reply_to(self) -> str:
        """The address for the next request, where its properties are not made by `get`."""

    def get(self, method: str, count: int, route: Route) -> Template:
        """See `Templates`."""


class Identified(Protocol):
    """What may wait for a reply."""

    @property
    def id(self) -> int:
        """Unique on its link."""


class Turns:
    """Several addresses, one after the other."""

    def __init__(self, make: Callable[[], Templates], session: Publisher) -> None:
        made = [make() for _ in session.addresses]
        for templates, address in zip(made, session.addresses, strict=True):
            templates.reset(address)
        self._next = itertools.cycle(made).__next__

    @property
    def reply_to(self) -> str:
        """See `Addressing`."""
        return self._next().reply_to

    def get(self, method: str, count: int, route: Route) -> Template:
        """See `Addressing`."""
        return self._next().get(method, count, route)


class Leases:
    """An address for each request. `sent` says that it has gone, `ended` that its call needs no answer any more."""

    def __init__(self, make: Callable[[], Templates], session: Leasing) -> None:
        self._session, self._templates = session, make()
        self._spare = ""
        """Leased for a request that could not be sent then."""
        self._leased: dict[int, str] = {}

    @property
    def reply_to(self) -> str:
        """See `Addressing`."""
        if not self._spare:
            self._spare = self._session.lease()
        return self._spare

    def get(self, method: str, count: int, route: Route) -> Template:
        """See `Addressing`."""
        self._templates.reset(self.reply_to)
        return self._templates.get(method, count, route)

    def sent(self, entry: Identified) -> None:
        """The request that the last address was for has been sent."""
        self._leased[entry.id], self._spare = self._spare, ""

    def of(self, entry: Identified) -> Sequence[str]:
        """The address of a call that was sent and has not ended."""
        address = self._leased.get(entry.id)
        return () if address is None else (address,)

    def ended(self, entry: Identified) -> None:
        """Nothing will come for it any more, or nothing that matters."""
        address = self._leased.pop(entry.id, None)
        if address is not None:
            self._session.release(address)


class ReplyDesk:
    """Of one link; on its loop."""

    def __init__(self, strategy: ReplyStrategy, make: Callable[[], Templates]) -> None:
        """`make`: templates of this link, without an address."""
        self._strategy, self._make = strategy, make
        self.queues = strategy.queues()
        """What the next session is to set up; None: the direct reply address."""
        templates = make()
        self.templates: Addressing = templates
        self.leases: Leases | None = None
        self._single = templates
        self._addresses: Sequence[str] = ()
        self.address = ""
        """Where all replies arrive; empty: each at the queue that its delivery names."""

    def opened(self, session: Publisher) -> None:
        """There is a session."""
        if self.queues is not None:
            self.queues = self.queues.again()
        self._addresses = session.addresses
        self.address = session.reply_to if self.queues is None else ""
        if self._strategy.alone:
            self.templates = self.leases = Leases(self._make, cast("Leasing", session))
        elif len(session.addresses) > 1:
            self.templates = Turns(self._make, session)
        else:
            self._single.reset(session.reply_to)

    def addresses_of(self, entry: Identified) -> Sequence[str]:
        """Where an answer to a call that was sent may go."""
        if self.leases is not None:
            return self.leases.of(entry)
        return self._addresses

    def refused(self, error: BaseException) -> None:
        """No session could be opened: by another name, if it was for that."""
        if isinstance(error, ReplyQueueTaken):
            self.queues = self._strategy.queues()
