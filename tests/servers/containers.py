"""RabbitMQ and Redis in docker, by testcontainers. The images are pinned: a new server version is a change of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers import tls
from tests.servers.handle import Broker, Server, ServerError
from tests.servers.ports import free_port, speaks_amqp, speaks_redis, wait_until

RABBITMQ, REDIS = "RESILIENT_RPC_TEST_RABBITMQ_IMAGE", "RESILIENT_RPC_TEST_REDIS_IMAGE"
"""Name other images. Then docker is taken, whatever the machine has."""
RABBITMQ_IMAGE = os.environ.get(RABBITMQ, "rabbitmq:4.1.4-management")
REDIS_IMAGE = os.environ.get(REDIS, "redis:7.4.5")
BOOT_SECONDS = 45.0
INNER_TLS_PORT, INNER_REDIS_TLS_PORT = 5671, 6380


def available() -> bool:
    """Whether a docker daemon answers."""
    import docker  # noqa: PLC0415 - slow to import, and seldom needed

    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def fetch(image: str) -> None:
    """Pull an image that is not there yet: within a test this would run into the test's timeout."""
    import docker  # noqa: PLC0415 - as above

    client = docker.from_env()
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        client.images.pull(image)
    finally:
        client.close()


class Container(Server):
    """A container that keeps its port and its data over `stop`, `kill` and `start`."""

    image: str
    inner_port: int
    scheme: str
    ready: Callable[[int, str], bool]
    settings: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.origin = f"docker {self.image}"
        self._container: Any = None
        self.url = ""

    @property
    def alive(self) -> bool:
        if self._container is None:
            return False
        inner = self._inner()
        inner.reload()
        return inner.status in {"running", "paused"}

    def start(self) -> None:
        if self._container is None:
            self._create()
        elif not self.alive:
            self._inner().start()
        wait_until(lambda: self.ready(self.port, self._host), seconds=BOOT_SECONDS, what=f"{self.image} ready")

    def _create(self) -> None:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - like docker

        # A fixed port, because docker picks another one each time a container is started again.
        self.port = free_port()
        container = DockerContainer(self.image).with_bind_ports(self.inner_port, self.port)
        for name, value in self.settings.items():
            container = container.with_env(name, value)
        self.prepare(container)
        self._container = container.start()
        self._host = container.get_container_host_ip()
        self.url = f"{self.scheme}{self._host}:{self.port}/"

    def prepare(self, container: Any) -> None:
        """What else the container needs before it is started."""

    def stop(self) -> None:
        if self.alive:
            self.thaw()
            self._inner().stop(timeout=30)

    def kill(self) -> None:
        if self.alive:
            self.thaw()  # the freezer would hold the signal back
            self._inner().kill()
            self._inner().wait(timeout=30)

    def freeze(self) -> None:
        self._inner().pause()

    def thaw(self) -> None:
        inner = self._inner()
        inner.reload()
        if inner.status == "paused":
            inner.unpause()

    def dispose(self) -> None:
        if self._container is not None:
            with contextlib.suppress(Exception):
                self.thaw()
            self._container.stop()

    def _inner(self) -> Any:
        if self._container is None:
            raise ServerError(f"{self.image} was not started")
        return self._container.get_wrapped_container()


class DockerBroker(Container, Broker):
    """RabbitMQ in docker."""

    image = RABBITMQ_IMAGE
    inner_port = 5672
    scheme = "amqp://guest:guest@"
    ready = staticmethod(speaks_amqp)
    # guest may only come from loopback, and the host is not that for a container; the node's name keeps its data.
    settings: Mapping[str, str] = {
        "RABBITMQ_DEFAULT_USER": "guest",
        "RABBITMQ_DEFAULT_PASS": "guest",
        "RABBITMQ_NODENAME": "rabbit@localhost",
    }

    def __init__(self, certificates: tls.Certificates | None = None) -> None:
        super().__init__()
        self._certificates = certificates

    def prepare(self, container: Any) -> None:
        if self._certificates is None:
            return
        folder = self._certificates.folder
        (folder / "rabbitmq.conf").write_text(tls.rabbitmq_conf("/tls", str(INNER_TLS_PORT)))
        (folder / "enabled_plugins").write_text(tls.RABBITMQ_PLUGINS)
        self.tls_port = free_port()
        container.with_bind_ports(INNER_TLS_PORT, self.tls_port)
        container.with_volume_mapping(str(folder), "/tls")
        container.with_volume_mapping(str(folder / "rabbitmq.conf"), "/etc/rabbitmq/conf.d/20-tls.conf")
        container.with_volume_mapping(str(folder / "enabled_plugins"), "/etc/rabbitmq/enabled_plugins")

    def ctl(self, *args: str) -> str:
        code, output = self._inner().exec_run(["rabbitmqctl", "--quiet", *args])
        text = output.decode(errors="replace")
        if code:
            raise ServerError(f"rabbitmqctl {' '.join(args)} ended with {code}: {text}")
        return str(text)


class DockerRedis(Container):
    """Redis in docker."""

    image = REDIS_IMAGE
    inner_port = 6379
    scheme = "redis://"
    ready = staticmethod(speaks_redis)

    def __init__(self, certificates: tls.Certificates | None = None) -> None:
        super().__init__()
        self._certificates = certificates

    def prepare(self, container: Any) -> None:
        if self._certificates is None:
            return
        self.tls_port = free_port()
        options = tls.redis_options("/tls", INNER_REDIS_TLS_PORT)
        container.with_bind_ports(INNER_REDIS_TLS_PORT, self.tls_port)
        container.with_volume_mapping(str(self._certificates.folder), "/tls")
        container.with_command(
            ["redis-server", *(word for name, text in options.items() for word in (f"--{name}", text))]
        )
