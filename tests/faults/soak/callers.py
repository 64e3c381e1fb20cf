"""Clients: threads and asyncio tasks that make keyed calls with retries, and note what they were told."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
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
    """One logical call, which may be made several times."""

    key: str
    params: dict[str, Any]
    timeout: float


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
        yield Order(key=f"{name}-{number}", params=params, timeout=SHORT if short else TIMEOUT)


def policies() -> list[Any]:
    """Of each client: patient, for the faults are many."""
    retry = Retry(attempts=30, cap=0.5, overload_base=0.2, budget=RetryBudget.unlimited())
    return [retry, AttemptTimeout(limit=ATTEMPT)]


def answer_of(order: Order, begin: float, reply: Any, error: RpcError | None) -> Said:
    """Note what came of a call."""
    common: dict[str, Any] = {"key": order.key, "begin": begin, "end": time.monotonic(), "timeout": order.timeout}
    if error is None:
        return Said(answer=reply.result, replayed=reply.replayed, **common)
    if isinstance(error, RemoteError) and error.type == SOLD_OUT:
        return Said(answer=error.message, certainty=EXECUTED, **common)
    return Said(error=f"{type(error).__name__}: {error}"[:200], certainty=error.certainty, **common)


class Callers:
    """`threads` threads share a `Client`, `tasks` tasks an `AsyncClient`, until `stop`."""

    def __init__(self, url: str, service: str, seed: int, *, threads: int = 4, tasks: int = 8) -> None:
        self._method, self._seed = f"{service}.deliver", seed
        self._client = Client(url, policies=policies(), timeout=TIMEOUT)
        self._url, self._tasks = url, tasks
        self._end = threading.Event()
        self.said: list[Said] = []
        self.made: list[Order] = []
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._caller, args=(f"t{n}",)) for n in range(threads)]
        if tasks:
            self._threads.append(threading.Thread(target=lambda: asyncio.run(self._all_tasks())))

    def start(self) -> None:
        """Call."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the calls that are under way, and close. Raises what was no `RpcError`: a bug."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        if self.errors:
            raise self.errors[0]

    def ask_again(self, order: Order, timeout: float = TIMEOUT) -> Said:
        """Repeat a call."""
        again = Order(key=order.key, params=order.params, timeout=timeout)
        said = self._call(self._client, again)
        self.said.append(said)
        return said

    def _caller(self, name: str) -> None:
        draw = random.Random(f"{self._seed} pace {name}")
        try:
            for order in orders(name, self._seed):
                if self._end.is_set():
                    return
                self.made.append(order)
                self.said.append(self._call(self._client, order))
                if draw.random() < 0.1:
                    self.ask_again(order)
                self._end.wait(draw.uniform(0.0, 0.04))
        except BaseException as error:  # it must not end a caller unseen
            self.errors.append(error)

    def _call(self, client: Client, order: Order) -> Said:
        begin = time.monotonic()
        reply, failed = None, None
        try:
            reply = client.request(self._method, order.params, timeout=order.timeout, idempotency_key=order.key)
        except RpcError as error:
            failed = error
        return answer_of(order, begin, reply, failed)

    async def _all_tasks(self) -> None:
        try:
            async with AsyncClient(self._url, policies=policies(), timeout=TIMEOUT) as client:
                await asyncio.gather(*[self._task(client, f"a{n}") for n in range(self._tasks)])
        except BaseException as error:
            self.errors.append(error)

    async def _task(self, client: AsyncClient, name: str) -> None:
        """Every tenth call is made twice at once."""
        draw = random.Random(f"{self._seed} pace {name}")
        for order in orders(name, self._seed):
            if self._end.is_set():
                return
            self.made.append(order)
            times = 2 if draw.random() < 0.1 else 1
            self.said += await asyncio.gather(*[self._acall(client, order) for _ in range(times)])
            await asyncio.sleep(draw.uniform(0.0, 0.04))

    async def _acall(self, client: AsyncClient, order: Order) -> Said:
        begin = time.monotonic()
        reply, failed = None, None
        try:
            reply = await client.request(self._method, order.params, timeout=order.timeout, idempotency_key=order.key)
        except RpcError as error:
            failed = error
        return answer_of(order, begin, reply, failed)
