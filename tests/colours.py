"""Both clients behind one blocking face, so that one test runs with each: ask for the fixture `colour`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Client
from resilient_rpc.face import Face


class Colour(ABC):
    """Makes clients, and calls them; closes them after the test."""

    name: str

    @abstractmethod
    def client(self, url: str, **settings: Any) -> Any:
        """A client."""

    @abstractmethod
    def do(self, client: Face, method: str, *args: Any, **kwargs: Any) -> Any:
        """``client.<method>(...)``, waited for."""

    @abstractmethod
    def together(self, *functions: Callable[[], Any]) -> list[Any]:
        """Call them at the same time, each with `do` in it replaced by the colour's own; results or errors."""

    def call(self, client: Face, *args: Any, **how: Any) -> Any:
        return self.do(client, "call", *args, **how)

    @abstractmethod
    def close(self) -> None:
        """Close everything."""


class Blocking(Colour):
    name = "blocking"

    def __init__(self) -> None:
        self._clients: list[Client] = []

    def client(self, url: str, **settings: Any) -> Client:
        made = Client(url, **settings)
        self._clients.append(made)
        return made

    def do(self, client: Face, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(client, method)(*args, **kwargs)

    def together(self, *functions: Callable[[], Any]) -> list[Any]:
        def outcome(function: Callable[[], Any]) -> Any:
            try:
                return function()
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(functions)) as pool:
            return list(pool.map(outcome, functions))

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Asyncio(Colour):
    name = "asyncio"

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._clients: list[AsyncClient] = []

    def client(self, url: str, **settings: Any) -> AsyncClient:
        made = AsyncClient(url, **settings)
        self._clients.append(made)
        return made

    def do(self, client: Face, method: str, *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            return await getattr(client, method)(*args, **kwargs)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(run())
        return run()  # within `together`

    def together(self, *functions: Callable[[], Any]) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*[function() for function in functions], return_exceptions=True)

        return self._runner.run(gather())

    def close(self) -> None:
        for client in self._clients:
            self._runner.run(client.close())
        left = self._runner.run(_tasks())
        assert not left, left


async def _tasks() -> list[str]:
    for _ in range(3):
        await asyncio.sleep(0)
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.fixture(params=["blocking", "asyncio"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Both kinds of client, one after the other."""
    if request.param == "blocking":
        blocking = Blocking()
        yield blocking
        blocking.close()
        return
    with asyncio.Runner() as runner:
        other = Asyncio(runner)
        yield other
        other.close()
