import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from resilient_rpc.errors import ConfigurationError, NotConnected
from resilient_rpc.transport.amqp.tls import tls_context
from resilient_rpc.transport.urls import AmqpUrl, parse_url
from tests.broker.amqp import PLAIN, TIMEOUT, consuming, publishing, run, spec, transport
from tests.broker.tls_front import TlsFront
from tests.contract.recorder import Recorder
from tests.servers.tls import Certificates

CA = trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
CLIENT = CA.issue_cert("client.example")


def context(*, certificate: trustme.LeafCert = SERVER, asks: bool = False) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(found)
    if asks:
        CA.configure_trust(found)
        found.verify_mode = ssl.CERT_REQUIRED
    return found


@pytest.fixture(scope="module")
def cafile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def front(amqp_url: str) -> Iterator[TlsFront]:
    with TlsFront(amqp_url, context()) as found:
        yield found


def refused(url: str, expected: type[Exception], text: str, **options: str) -> None:
    async def scenario() -> None:
        with pytest.raises(expected, match=text):
            await transport(url, **options).publisher(Recorder(), replies=True, timeout=TIMEOUT)

    run(scenario, proxied=True)


@pytest.mark.parametrize("lane", [True, False], ids=["fast", "pika"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_messages_over_tls(front: TlsFront, service: str, cafile: str, lane: bool, host: str) -> None:
    async def scenario() -> None:
        over = transport(f"amqps://guest:guest@{host}:{front.port}/?cafile={cafile}", lane=lane)
        queue = spec(service)
        async with consuming(over, queue, acks=True) as (_, got), publishing(over, replies=True) as (publisher, sent):
            for size in (0, 1, 1_000_000):
                tag = publisher.publish(queue.name, bytes(size), PLAIN, mandatory=True)
                assert await sent.confirmation(tag)
            assert [len(body) for body in await bodies(got, 3)] == [0, 1, 1_000_000]

    run(scenario, proxied=True)


async def bodies(got: Recorder, count: int) -> list[bytes]:
    return [delivery.body for delivery in await got.received(count)]


def test_a_certificate_of_nobody_we_know_is_refused(front: TlsFront) -> None:
    refused(f"amqps://guest:guest@localhost:{front.port}/", NotConnected, "(?i)certificate.verify.failed")


def test_a_certificate_for_another_name_is_refused(amqp_url: str, cafile: str) -> None:
    with TlsFront(amqp_url, context(certificate=CA.issue_cert("other.example"))) as front:
        refused(f"amqps://guest:guest@localhost:{front.port}/?cafile={cafile}", NotConnected, "(?i)hostname mismatch")


def test_versions_that_are_broken_are_not_offered(cafile: str) -> None:
    url = parse_url(f"amqps://u:p@h/?cafile={cafile}")
    assert isinstance(url, AmqpUrl)
    found = tls_context(url)
    assert found is not None
    assert found.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_a_broker_that_speaks_nothing_newer_than_1_1_is_not_spoken_to(amqp_url: str, cafile: str) -> None:
    old = context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with TlsFront(amqp_url, old) as front:
        refused(f"amqps://guest:guest@localhost:{front.port}/?cafile={cafile}", NotConnected, ":")
        lax = ssl.create_default_context(cafile=cafile)
        lax.minimum_version = ssl.TLSVersion.TLSv1_1
        lax.set_ciphers("ALL:@SECLEVEL=0")
        plain = socket.create_connection(("127.0.0.1", front.port))
        with lax.wrap_socket(plain, server_hostname="localhost") as connected:
            assert connected.version() == "TLSv1.1"


@pytest.mark.parametrize("keyfile", [True, False])
def test_a_key_that_is_encrypted_is_refused_without_asking_at_the_terminal(keyfile: bool) -> None:
    encrypted = Certificates().client("orders", password=b"s3cr3t")
    with pytest.raises(ConfigurationError, match="the keyfile is encrypted"):
        transport("amqps://u:p@h/", certfile=encrypted, **({"keyfile": encrypted} if keyfile else {}))


def test_insecure_accepts_any_and_says_so(front: TlsFront, caplog: pytest.LogCaptureFixture) -> None:
    over = transport(f"amqps://guest:s3cr3t@localhost:{front.port}/?insecure=true", password="guest")
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "not checked" in warning.getMessage()
    assert "s3cr3t" not in warning.getMessage()

    async def scenario() -> None:
        async with publishing(over, replies=True) as (publisher, _):
            assert await publisher.consumers("nobody") is None

    run(scenario, proxied=True)


def test_a_certificate_of_ours_where_the_broker_asks_for_one(amqp_url: str, cafile: str, tmp_path: Path) -> None:
    CLIENT.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    CLIENT.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with TlsFront(amqp_url, context(asks=True)) as front:
        url = f"amqps://guest:guest@localhost:{front.port}/?cafile={cafile}"

        async def scenario() -> None:
            files = {"certfile": str(tmp_path / "cert.pem"), "keyfile": str(tmp_path / "key.pem")}
            async with publishing(transport(url, **files)):
                pass
            with pytest.raises(NotConnected):
                await transport(url).publisher(Recorder(), replies=True, timeout=TIMEOUT)

        run(scenario, proxied=True)


@pytest.mark.parametrize("option", ["cafile", "certfile"])
def test_files_that_cannot_be_read_are_named_when_the_transport_is_made(option: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match=path.name):
            transport("amqps://u:p@h/", **{option: str(path)})


def test_tls_where_there_is_none_and_none_where_there_is(amqp_url: str, front: TlsFront) -> None:
    refused(amqp_url.replace("amqp:", "amqps:"), NotConnected, ":")
    refused(f"amqp://guest:guest@localhost:{front.port}/", NotConnected, ":")


def test_a_peer_that_goes_without_a_word(amqp_url: str, cafile: str) -> None:
    async def scenario() -> None:
        events = Recorder()
        with TlsFront(amqp_url, context()) as front:
            over = transport(f"amqps://guest:guest@localhost:{front.port}/?cafile={cafile}")
            session = await over.publisher(events, replies=True, timeout=TIMEOUT)
            await asyncio.to_thread(front.drop)
            assert "localhost" in str(await events.loss())
            await session.close()

    run(scenario, proxied=True)
