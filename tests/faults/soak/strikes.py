"""Faults as they are carried out, and a record of what was struck when: double effects have to be explained by it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.faults.soak.fleet import Fleet
from tests.faults.soak.schedule import GAP, Fault, plan
from tests.servers.handle import Broker, Server, ServerError
from tests.servers.proxy import Proxy, Way


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A fault as it happened, by `time.monotonic`. `pid`: of the server that was struck."""

    kind: str
    begin: float
    end: float
    pid: int = 0


@dataclass(frozen=True, kw_only=True)
class World:
    """What there is to strike."""

    broker: Broker
    redis: Server
    fleet: Fleet
    client_way: Proxy
    server_way: Proxy
    redis_way: Proxy
    lease: float


class Storm:
    """Carries out a plan, a thread for each lane; leaves everything running again, except for links that were reset."""

    def __init__(self, world: World, seed: int, seconds: float) -> None:
        self._world = world
        self.strikes: list[Strike] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._begin = time.monotonic()
        self._lanes = [
            threading.Thread(target=self._lane, args=(faults,), name=f"soak-{lane}")
            for lane, faults in plan(seed, seconds).items()
        ]
        self._watch = threading.Thread(target=self._revive, name="soak-revive")

    def run(self) -> None:
        """All of it. Raises what a lane raised: then the run says nothing."""
        for thread in (*self._lanes, self._watch):
            thread.start()
        for thread in self._lanes:
            thread.join()
        self._stop.set()
        self._watch.join()
        if self.errors:
            raise self.errors[0]

    def _revive(self) -> None:
        try:
            while not self._stop.wait(0.05):
                self._world.fleet.revive()
        except BaseException as error:  # a thread's end is nobody's otherwise
            self.errors.append(error)

    def _lane(self, faults: Sequence[Fault]) -> None:
        try:
            for fault in faults:
                self._pause(max(self._begin + fault.at - time.monotonic(), GAP[0]))
                with self._noted(fault):
                    self._act(fault)
        except BaseException as error:
            self.errors.append(error)

    @contextlib.contextmanager
    def _noted(self, fault: Fault) -> Iterator[None]:
        if fault.kind in {"server-kill", "server-freeze", "server-outlive", "server-drain"}:
            yield  # with the pid, by itself
            return
        begin = time.monotonic()
        try:
            yield
        finally:
            self.strikes.append(Strike(kind=fault.kind, begin=begin, end=time.monotonic()))

    def _act(self, fault: Fault) -> None:
        world, pause = self._world, fault.seconds
        match fault.kind:
            case "server-kill" | "server-freeze" | "server-outlive" | "server-drain":
                self._strike_server(fault)
            case "broker-kill":
                self._down(world.broker, pause)
            case "broker-freeze":
                self._frozen(world.broker, pause)
            case "broker-close":
                with contextlib.suppress(ServerError):  # there may be none to close
                    world.broker.ctl("close_all_connections", "soak")
            case "client-cut":
                world.client_way.reset()
            case "client-freeze":
                self._stuck(world.client_way, pause)
            case "client-up":
                self._stuck(world.client_way, pause, "up")
            case "client-down":
                self._stuck(world.client_way, pause, "down")
            case "server-cut":
                world.server_way.reset()
            case "server-up":
                self._stuck(world.server_way, pause, "up")
            case "server-down":
                self._stuck(world.server_way, pause, "down")
            case "redis-kill":
                self._down(world.redis, pause)
            case "redis-freeze":
                self._frozen(world.redis, pause)
            case "redis-cut":
                world.redis_way.reset()
            case "redis-hang":
                world.redis_way.freeze()
                self._pause(pause)
                world.redis_way.thaw()
            case "redis-lose":
                world.redis_way.cut(0)
                self._pause(pause)
            case "redis-flush":
                with contextlib.suppress(RedisError), connected(world.redis.url) as client:
                    client.script_flush()

    def _strike_server(self, fault: Fault) -> None:
        fleet, lease = self._world.fleet, self._world.lease
        with fleet.lock:
            victim = fleet.pick(fault.draw)
            begin = time.monotonic()
            match fault.kind:
                case "server-kill":
                    fleet.kill(victim)
                    self._pause(fault.seconds)
                    fleet.replace(victim)
                case "server-drain":
                    fleet.drain(victim)
                    fleet.replace(victim)
                case _:
                    longer = lease if fault.kind == "server-outlive" else 0.0
                    stop(victim.pid, lambda: self._pause(longer + fault.seconds))
            self.strikes.append(Strike(kind=fault.kind, begin=begin, end=time.monotonic(), pid=victim.pid))

    def _down(self, server: Server, seconds: float) -> None:
        server.kill()
        self._pause(seconds)
        server.start()

    def _frozen(self, server: Server, seconds: float) -> None:
        server.freeze()
        try:
            self._pause(seconds)
        finally:
            server.thaw()

    def _stuck(self, link: Proxy, seconds: float, *ways: Way) -> None:
        """What was under way is lost with the connections."""
        link.freeze(*ways)
        try:
            self._pause(seconds)
            link.reset()
        finally:
            link.thaw()

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            threading.Event().wait(seconds)


def stop(pid: int, meanwhile: Callable[[], object]) -> None:
    """SIGSTOP, and SIGCONT after `meanwhile`."""
    import psutil  # noqa: PLC0415 - its handle knows that a pid is still the same process

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        try:
            meanwhile()
        finally:
            process.resume()


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A plain client, without repeats of its own."""
    client: Any = redis.Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0), protocol=2)
    try:
        yield client
    finally:
        client.close()
