import asyncio
import socket
from collections.abc import Callable

import pytest

from resilient_rpc.errors import ConfigurationError, NotConnected
from tests.broker.amqp import TIMEOUT, publishing, run, transport
from tests.contract.recorder import Recorder
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy

HOST = "127.0.0.1"


def test_wrong_credentials_are_a_configuration_error_that_shows_none(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret = "s3cr3t-w0rd"
    url = amqp_url.replace("guest:guest@", f"nobody:{secret}@")

    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="403 ACCESS_REFUSED") as caught:
            await transport(url).publisher(Recorder(), replies=False, timeout=TIMEOUT)
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__

    run(scenario)
    assert secret not in caplog.text
    assert secret not in repr(transport(url))


def test_a_vhost_that_does_not_exist(amqp_url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match=r"530.*nowhere"):
            await transport(amqp_url, vhost="nowhere").publisher(Recorder(), replies=True, timeout=TIMEOUT)

    run(scenario)


def with_hosts(url: str, *ports: int) -> str:
    port = url.rstrip("/").rpartition(":")[2]
    return url.replace(f"{HOST}:{port}", ",".join(f"{HOST}:{p}" for p in (*ports, int(port))))


def test_a_host_that_is_down_is_passed_over(amqp_url: str) -> None:
    async def scenario() -> None:
        over = transport(with_hosts(amqp_url, free_port(), free_port()))
        for _ in range(3):  # each time another one is the first
            async with publishing(over, replies=True) as (publisher, _):
                assert await publisher.consumers("nobody") is None

    run(scenario)


def test_a_host_that_does_not_answer_takes_its_share_of_the_time_only(
    amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    frozen = proxy(amqp_url)
    frozen.freeze()

    async def scenario() -> None:
        over = transport(with_hosts(amqp_url, frozen.port))
        for _ in range(2):
            session = await over.publisher(Recorder(), replies=True, timeout=2.0)
            await session.close()

    run(scenario, proxied=True)
    assert frozen.accepted in {1, 2}


def test_when_no_host_answers_the_error_names_them_all() -> None:
    ports = free_port(), free_port()
    hosts = ",".join(f"{HOST}:{port}" for port in ports)

    async def scenario() -> None:
        with pytest.raises(NotConnected) as caught:
            await transport(f"amqp://{hosts}/").publisher(Recorder(), replies=True, timeout=TIMEOUT)
        for port in ports:
            assert f"{HOST}:{port}" in str(caught.value)
        with pytest.raises(NotConnected, match="Errno 111"):
            await transport(f"amqp://{HOST}:{ports[0]}/").publisher(Recorder(), replies=True, timeout=TIMEOUT)

    run(scenario)


def test_a_name_that_does_not_exist() -> None:
    async def scenario() -> None:
        over = transport("amqp://u:p@nowhere.invalid/")
        with pytest.raises((NotConnected, TimeoutError), match=r"nowhere\.invalid"):
            await over.publisher(Recorder(), replies=True, timeout=TIMEOUT)

    run(scenario)


def test_a_port_where_somebody_else_lives() -> None:
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(8)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async def scenario() -> None:
            serving = asyncio.get_running_loop().run_in_executor(None, serve)
            over = transport(f"amqp://{HOST}:{listener.getsockname()[1]}/")
            with pytest.raises(NotConnected):
                await over.publisher(Recorder(), replies=True, timeout=TIMEOUT)
            await serving

        run(scenario)
