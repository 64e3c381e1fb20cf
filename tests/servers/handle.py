"""What a test may do to a server, wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class ServerError(Exception):
    """A server of the tests is missing, or does not do what it was told."""


class Server(ABC):
    """A server of the tests: it can be started again under the same URL after each of the ways to end it."""

    tls_port = 0
    """Where it listens with TLS, if it was given certificates."""

    url: str
    origin: str  # where it comes from, for the header of the report

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether its process runs (frozen counts as running)."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it in order; harmless when it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a power cut would: SIGKILL; returns when it is gone."""

    @abstractmethod
    def freeze(self) -> None:
        """Stop its processes (SIGSTOP): its kernel still accepts connections and bytes, nobody answers."""

    @abstractmethod
    def thaw(self) -> None:
        """Let it run on after `freeze`."""

    def dispose(self) -> None:
        """End it for good, in whatever state it is, and remove its data."""
        self.kill()

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.dispose()


class Broker(Server):
    """A RabbitMQ."""

    @abstractmethod
    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` against it and return what it printed; a failure raises `ServerError`."""


class RemoteServer(Server):
    """A server named by the environment: it is somebody's, so it is used and left alone."""

    def __init__(self, url: str, variable: str) -> None:
        self.url = url
        self.origin = f"${variable}"

    @property
    def alive(self) -> bool:
        return True

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        self._refuse("stop")

    def kill(self) -> None:
        self._refuse("kill")

    def freeze(self) -> None:
        self._refuse("freeze")

    def thaw(self) -> None:
        self._refuse("thaw")

    def dispose(self) -> None:
        """It stays."""

    def _refuse(self, verb: str) -> None:
        raise ServerError(f"will not {verb} the server named by {self.origin}: use a private_... fixture")


class RemoteBroker(RemoteServer, Broker):
    """A RabbitMQ named by the environment."""

    def ctl(self, *args: str) -> str:
        raise ServerError(f"cannot run rabbitmqctl {args} on the server named by {self.origin}")
