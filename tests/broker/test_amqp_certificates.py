"""A RabbitMQ that asks for certificates: who is let in, what is refused, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient_rpc import Client, Context, NotConnected, Server
from resilient_rpc.errors import ConfigurationError
from tests.broker.amqp import TIMEOUT, publishing, run, transport
from tests.contract.recorder import Recorder
from tests.servers import choose
from tests.servers.handle import Broker
from tests.servers.tls import Certificates


class Secured:
    """The broker, its certificates, and URLs that lead to it."""

    def __init__(self, broker: Broker, certificates: Certificates) -> None:
        self.broker, self.certificates = broker, certificates
        self.good = certificates.client("orders")

    def url(self, *, host: str = "localhost", user: str = "guest:guest@", **options: str) -> str:
        settings = {"cafile": self.certificates.cafile, "certfile": self.good, **options}
        query = "&".join(f"{name}={value}" for name, value in settings.items() if value)
        return f"amqps://{user}{host}:{self.broker.tls_port}/?{query}"

    def external(self, **options: str) -> str:
        return self.url(user="", auth_mechanism="external", **options)


@pytest.fixture(scope="module")
def listening() -> Iterator[Secured]:
    certificates = Certificates()
    with choose.broker(certificates=certificates) as broker:
        broker.ctl("add_user", "orders", "unused")
        broker.ctl("clear_password", "orders")  # only its certificate lets it in
        broker.ctl("set_permissions", "orders", ".*", ".*", ".*")
        yield Secured(broker, certificates)


@pytest.fixture
def secured(listening: Secured) -> Iterator[Secured]:
    yield listening
    listening.certificates.show()
    listening.broker.ctl("eval", "ssl:clear_pem_cache().")


def show(secured: Secured, *names: str, expired: bool = False) -> None:
    secured.certificates.show(*names, expired=expired)
    secured.broker.ctl("eval", "ssl:clear_pem_cache().")


def refused(url: str, expected: type[Exception], text: str) -> None:
    async def scenario() -> None:
        with pytest.raises(expected, match=text):
            await transport(url).publisher(Recorder(), replies=True, timeout=TIMEOUT)

    run(scenario)


def accepted(url: str) -> None:
    async def scenario() -> None:
        async with publishing(transport(url), replies=True) as (publisher, _):
            assert await publisher.consumers("nobody") is None

    run(scenario)


@pytest.mark.parametrize("mechanism", ["plain", "external"])
def test_a_client_and_a_server_with_certificates_call_each_other(
    secured: Secured, service: str, mechanism: str
) -> None:
    url = secured.external() if mechanism == "external" else secured.url()
    server = Server(url, service=service)

    @server.method
    def price(sku: str) -> float:
        return 9.5

    server.start()
    try:
        with Client(url) as client:
            assert client.call(f"{service}.price", ["A1"]) == 9.5
        if mechanism == "external":
            users = secured.broker.ctl("list_connections", "user", "auth_mechanism", "ssl_protocol").splitlines()
            assert {tuple(line.split()[:2]) for line in users if "orders" in line} == {("orders", "EXTERNAL")}
    finally:
        server.stop()
        for name in (service, f"{service}.dead", f"{service}.expired"):
            secured.broker.ctl("delete_queue", f"rpc.{name}")


def test_who_has_a_certificate_says_by_name_who_it_is(secured: Secured, service: str) -> None:
    server = Server(secured.external(), service=service, require_user_id=True)

    @server.method
    async def who(ctx: Context) -> str | None:
        return ctx.principal

    with pytest.raises(ConfigurationError, match="a certificate names the user"):
        Client(secured.external(), user_id=True)
    server.start()
    try:
        with Client(secured.external(), user_id="orders") as client:
            assert client.call(f"{service}.who") == "orders"
    finally:
        server.stop()
        for name in (service, f"{service}.dead", f"{service}.expired"):
            secured.broker.ctl("delete_queue", f"rpc.{name}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_name_in_the_url_is_the_one_in_the_certificate(secured: Secured, host: str) -> None:
    accepted(secured.url(host=host))
    show(secured, "localhost" if host == "127.0.0.1" else "127.0.0.1")
    refused(secured.url(host=host), NotConnected, "(?i)(hostname|IP address) mismatch")


def test_an_expired_certificate_of_the_broker_is_refused(secured: Secured) -> None:
    show(secured, expired=True)
    refused(secured.url(), NotConnected, "(?i)certificate has expired")


def test_a_certificate_of_an_unknown_authority_is_refused(secured: Secured) -> None:
    refused(secured.url(cafile=""), NotConnected, "(?i)certificate.verify.failed")
    other = Certificates()
    refused(secured.url(cafile=other.cafile), NotConnected, "(?i)certificate.verify.failed")


def test_the_broker_refuses_a_client_without_a_certificate(secured: Secured) -> None:
    refused(secured.url(certfile=""), NotConnected, "(?i)certificate required|does not accept our certificate")


@pytest.mark.parametrize("kind", ["expired", "of another authority"])
def test_the_broker_refuses_a_certificate_that_is_not_valid(secured: Secured, kind: str) -> None:
    authority = secured.certificates if kind == "expired" else Certificates()
    bad = authority.client("orders", expired=kind == "expired")
    refused(
        secured.url(certfile=bad), NotConnected, "(?i)certificate expired|unknown ca|does not accept our certificate"
    )


def test_a_certificate_of_a_user_that_the_broker_does_not_know_is_a_mistake_of_configuration(secured: Secured) -> None:
    stranger = secured.certificates.client("stranger")
    refused(secured.external(certfile=stranger), ConfigurationError, "403 .*EXTERNAL")


def test_a_user_without_a_password_cannot_come_in_by_one(secured: Secured) -> None:
    refused(secured.url(user="orders:unused@"), ConfigurationError, "403")


def test_a_broker_that_does_not_know_external_is_told_apart(secured: Secured) -> None:
    offered = "application:set_env(rabbit, auth_mechanisms, ['PLAIN'"
    secured.broker.ctl("eval", f"{offered}]).")
    try:
        refused(secured.external(), ConfigurationError, "does not offer.*EXTERNAL")
    finally:
        secured.broker.ctl("eval", f"{offered}, 'EXTERNAL']).")
