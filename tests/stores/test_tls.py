"""A Redis that asks for certificates: what is refused on either side, for everything here that speaks to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from redis.exceptions import RedisError

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import RedisCache, RedisRate
from resilient_rpc.policies.shared_rate import Ask
from resilient_rpc.stores import RedisStore, StoreUnavailable
from resilient_rpc.stores.secured import CHECKED, settings_for
from tests.servers import choose
from tests.servers.handle import Server
from tests.servers.tls import Certificates
from tests.stores.tools import PATIENT, new, on_a_loop, uninspected

ASK = Ask("k", 10.0, 10.0, 0.0)


class Secured:
    """The Redis, its certificates, and URLs that lead to it."""

    def __init__(self, server: Server, certificates: Certificates) -> None:
        self.server, self.certificates = server, certificates
        self.good = certificates.client("orders")

    def url(self, *, host: str = "localhost", cafile: str = "", certfile: str | None = None) -> str:
        client = self.good if certfile is None else certfile
        options = {"ssl_ca_certs": cafile or self.certificates.cafile, "ssl_certfile": client, "ssl_keyfile": client}
        query = "&".join(f"{name}={quote(value)}" for name, value in options.items() if value)
        return f"rediss://{host}:{self.server.tls_port}/0?{query}"


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    certificates = Certificates()
    with choose.redis_server(certificates=certificates) as server:
        yield Secured(server, certificates)


def refused(url: str, text: str) -> None:
    store = uninspected(url, timeout=PATIENT)
    with pytest.raises(StoreUnavailable) as caught:
        on_a_loop(store, lambda: new(store))
    assert text in f"{caught.value.__cause__}".lower()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_records_over_tls(secured: Secured, host: str) -> None:
    store = uninspected(secured.url(host=host), timeout=PATIENT)
    assert on_a_loop(store, lambda: new(store)) > 0


def test_a_rate_over_tls(secured: Secured) -> None:
    async def main() -> bool:
        rate = RedisRate(secured.url(), timeout=PATIENT)
        try:
            return (await rate.take(ASK)).granted
        finally:
            await rate.aclose()

    assert asyncio.run(main())


def test_a_certificate_of_an_unknown_authority_is_refused(secured: Secured) -> None:
    refused(secured.url(cafile=Certificates().cafile), "certificate verify failed")


def test_without_an_authority_of_its_own_the_systems_are_asked(secured: Secured) -> None:
    refused(f"rediss://localhost:{secured.server.tls_port}/0", "certificate verify failed")


def test_a_certificate_for_another_name_or_an_expired_one_is_refused() -> None:
    certificates = Certificates()
    certificates.show("other.example")
    with choose.redis_server(certificates=certificates) as server:
        refused(Secured(server, certificates).url(), "hostname mismatch")
    certificates.show(expired=True)
    with choose.redis_server(certificates=certificates) as server:
        refused(Secured(server, certificates).url(), "certificate has expired")


def test_a_client_without_a_certificate_is_refused_where_redis_asks_for_one(secured: Secured) -> None:
    store = uninspected(secured.url(certfile=""), timeout=PATIENT)
    with pytest.raises(StoreUnavailable):
        on_a_loop(store, lambda: new(store))


def test_a_rate_is_not_asked_of_a_stranger(secured: Secured) -> None:
    async def main() -> None:
        rate = RedisRate(secured.url(cafile=Certificates().cafile), timeout=PATIENT)
        try:
            with pytest.raises(RedisError, match=r"(?i)certificate.verify.failed"):
                await rate.take(ASK)
        finally:
            await rate.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [RedisStore, RedisCache, RedisRate])
@pytest.mark.parametrize(
    "option", ["ssl_cert_reqs=none", "ssl_check_hostname=false", "ssl_cert_reqs=optional", "ssl_cert_reqs="]
)
def test_no_url_switches_a_check_off(kind: type, option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]) as caught:
        kind(f"rediss://u:s3cr3t@localhost/0?{option}")
    assert "s3cr3t" not in str(caught.value)


def test_what_is_checked() -> None:
    assert CHECKED["ssl_cert_reqs"] == "required"
    assert CHECKED["ssl_check_hostname"] is True
    assert CHECKED["ssl_min_version"].name == "TLSv1_2"


def test_without_tls_nothing_is_added() -> None:
    assert settings_for("it", "redis://localhost/0?ssl_cert_reqs=none") == {}
