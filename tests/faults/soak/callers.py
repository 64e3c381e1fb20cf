"""Clients: threads and asyncio tasks that make calls, with keys and retries unless told otherwise, and note it all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resilient_rpc import AsyncClient, Client, RpcError
from resilient_rpc.errors import EXECUTED, RemoteError
from resilient_rpc.policies import AttemptTimeout, Retry, RetryBudget
from tests.faults.soak.crashpoints import POINTS
from tests.faults.soak.server import SOLD_OUT

TIMEOUT = 8.0
SHORT = 0.15
"""Of a call that will often expire."""
ATTEMPT = 1.0
CRASHES = 0.01
"""Of all calls, that kill their server."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One logical call, which may be made several times. `how`: options of the call."""

    key: str
    params: dict[str, Any]
    timeout: float
    method: str
    how: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a caller was told. `answer`: a token, of a result or of an error that the handler raised."""

    key: str
    begin: float
    end: float
    timeout: float
    answer: str | None = None
    replayed: bool = False
    error: str = ""
    certainty: str = ""


def orders(name: str, seed: int) -> Iterator[Order]:
    """Without end; their keys begin with `name`."""
    draw = random.Random(f"{seed} {name}")
    number = 0
    while True:
        number += 1
        params: dict[str, Any] = {"seconds": draw.choice((0.0, 0.0, 0.01, 0.1))}
        if draw.random() < 0.05:
            params["fail"] = True
        if draw.random() < CRASHES:
            params["crash"] = draw.choice(POINTS)
        short = draw.random() < 0.05
        if short:
            params["seconds"] = draw.choice((0.1, 0.2))
        key = f"{name}-{number}"
        yield Order(
            key=key,
            params=params,
            timeout=SHORT if short else TIMEOUT,
            method="deliver",
            how={"idempotency_key": key},
        )


def patient() -> dict[str, Any]:
    """Settings of a client: the faults are many."""
    retry = Retry(attempts=30, cap=0.5, overload_base=0.2, budget=RetryBudget.unlimited())
    return {"policies": [retry, AttemptTimeout(limit=ATTEMPT)], "timeout": TIMEOUT}


def answer_of(order: Order, begin: float, reply: Any, error: RpcError | None) -> Said:
    """Note what came of a call."""
    common: dict[str, Any] = {"key": order.key, "begin": begin, "end": time.monotonic(), "timeout": order.timeout}
    if error is None:
        return Said(answer=reply.result, replayed=reply.replayed, **common)
    if isinstance(error, RemoteError) and error.type == SOLD_OUT:
        return Said(answer=error.message, certainty=EXECUTED, **common)
    return Said(error=f"{type(error).__name__}: {error}"[:200], certainty=error.certainty, **common)


class Callers:
    """Until `stop`: for each of the `settings` `threads` threads share a `Client`, `tasks` tasks an `AsyncClient`.

    Of all calls a part is made twice: `repeated`.
    """

    def __init__(
        self,
        url: str,
        service: str,
        seed: int,
        *,
        threads: int = 4,
        tasks: int = 8,
        settings: Sequence[Callable[[], dict[str, Any]]] = (patient,),
        orders: Callable[[str, int], Iterator[Order]] = orders,
        repeated: float = 0.1,
    ) -> None:
        self._url, self._service, self._seed = url, service, seed
        self._orders, self._repeated = orders, repeated
        self._end = threading.Event()
        self.said: list[Said] = []
        self.made: list[Order] = []
        self.errors: list[BaseException] = []
        self._clients = [Client(url, **setting()) for setting in settings]
        self._threads = [
            threading.Thread(target=self._caller, args=(client, f"t{number}.{n}"))
            for number, client in enumerate(self._clients)
            for n in range(threads)
        ]
        if tasks:
            self._threads.append(threading.Thread(target=lambda: asyncio.run(self._all_tasks(settings, tasks))))

    def start(self) -> None:
        """Call."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the calls that are under way, and close. Raises what was no `RpcError`: a bug."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()
        if self.errors:
            raise self.errors[0]

    def ask_again(self, order: Order, timeout: float = TIMEOUT) -> Said:
        """Repeat a call."""
        said = self._call(self._clients[0], dataclasses.replace(order, timeout=timeout))
        self.said.append(said)
        return said

    def _caller(self, client: Client, name: str) -> None:
        draw = random.Random(f"{self._seed} pace {name}")
        try:
            for order in self._orders(name, self._seed):
                if self._end.is_set():
                    return
                self.made.append(order)
                self.said.append(self._call(client, order))
                if draw.random() < self._repeated:
                    self.said.append(self._call(client, order))
                self._end.wait(draw.uniform(0.0, 0.04))
        except BaseException as error:  # it must not end a caller unseen
            self.errors.append(error)

    def _call(self, client: Client, order: Order) -> Said:
        begin = time.monotonic()
        reply, failed = None, None
        try:
            reply = client.request(self._name(order), order.params, timeout=order.timeout, **order.how)
        except RpcError as error:
            failed = error
        return answer_of(order, begin, reply, failed)

    def _name(self, order: Order) -> str:
        return f"{self._service}.{order.method}"

    async def _all_tasks(self, settings: Sequence[Callable[[], dict[str, Any]]], tasks: int) -> None:
        try:
            async with contextlib.AsyncExitStack() as opened:
                clients = [await opened.enter_async_context(AsyncClient(self._url, **each())) for each in settings]
                named = itertools.product(enumerate(clients), range(tasks))
                await asyncio.gather(*[self._task(client, f"a{number}.{n}") for (number, client), n in named])
        except BaseException as error:
            self.errors.append(error)

    async def _task(self, client: AsyncClient, name: str) -> None:
        """A repeated call is made twice at once."""
        draw = random.Random(f"{self._seed} pace {name}")
        for order in self._orders(name, self._seed):
            if self._end.is_set():
                return
            self.made.append(order)
            times = 2 if draw.random() < self._repeated else 1
            self.said += await asyncio.gather(*[self._acall(client, order) for _ in range(times)])
            await asyncio.sleep(draw.uniform(0.0, 0.04))

    async def _acall(self, client: AsyncClient, order: Order) -> Said:
        begin = time.monotonic()
        reply, failed = None, None
        try:
            reply = await client.request(self._name(order), order.params, timeout=order.timeout, **order.how)
        except RpcError as error:
            failed = error
        return answer_of(order, begin, reply, failed)
