"""Which server the tests get: named by the environment, else local binaries, else docker, else a clear error."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers import containers, rabbitmq, redis
from tests.servers.handle import Broker, RemoteBroker, RemoteServer, Server, ServerError
from tests.servers.tls import Certificates

AMQP_URL = "RESILIENT_RPC_TEST_AMQP_URL"
REDIS_URL = "RESILIENT_RPC_TEST_REDIS_URL"


def broker(*, private: bool = False, certificates: Certificates | None = None) -> Broker:
    """A RabbitMQ, not started yet; a private one is ours to kill, so never the environment's.

    With certificates it is private, and listens with TLS too.
    """
    private = private or certificates is not None
    url = os.environ.get(AMQP_URL)
    if url and not private:
        return RemoteBroker(url, AMQP_URL)
    binaries = _local_rabbitmq()
    if binaries is not None:
        return rabbitmq.LocalBroker(binaries, certificates)
    if containers.available():
        return containers.DockerBroker(certificates)
    raise ServerError(_missing("RabbitMQ", AMQP_URL, private=private))


def redis_server(*, private: bool = False, certificates: Certificates | None = None) -> Server:
    """As `broker`, for Redis."""
    private = private or certificates is not None
    url = os.environ.get(REDIS_URL)
    if url and not private:
        return RemoteServer(url, REDIS_URL)
    binary = _local_redis()
    if binary is not None:
        return redis.LocalRedis(binary, certificates=certificates)
    if containers.available():
        return containers.DockerRedis(certificates)
    raise ServerError(_missing("Redis", REDIS_URL, private=private))


def origins() -> dict[str, str | None]:
    """For each kind of server where it would come from, or None; nothing is started."""
    amqp = f"${AMQP_URL}" if os.environ.get(AMQP_URL) else _local_or_docker(_local_rabbitmq())
    store = f"${REDIS_URL}" if os.environ.get(REDIS_URL) else _local_or_docker(_local_redis())
    return {"RabbitMQ": amqp, "Redis": store}


def private_possible() -> dict[str, bool]:
    """For each kind of server whether the tests can start one of their own."""
    docker = containers.available()
    return {"RabbitMQ": docker or _local_rabbitmq() is not None, "Redis": docker or _local_redis() is not None}


def _local_rabbitmq() -> Path | None:
    return None if containers.RABBITMQ in os.environ else rabbitmq.find()


def _local_redis() -> Path | None:
    return None if containers.REDIS in os.environ else redis.find()


def _local_or_docker(local: object) -> str | None:
    if local is not None:
        return str(local)
    return "docker" if containers.available() else None


def _missing(name: str, variable: str, *, private: bool) -> str:
    named = "" if private else f"set {variable}, "
    return f"no {name} for the tests: {named}install its binaries, or start docker (as root on Debian: make servers)"
