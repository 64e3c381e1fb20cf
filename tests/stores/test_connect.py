from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.connect import RedisUrl, read_url
from resilient_rpc.stores.stream import Endpoint


def read(url: Any) -> RedisUrl:
    return read_url("RedisStore.url", url)


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "service", "options"),
    [
        ("redis://h", "single", [("h", 6379)], "", {"db": 0}),
        ("redis://h:1/3", "single", [("h", 1)], "", {"db": 3}),
        ("redis://h?db=4&client_name=me", "single", [("h", 6379)], "", {"db": 4, "client_name": "me"}),
        ("redis://:p%40ss@h", "single", [("h", 6379)], "", {"db": 0, "password": "p@ss"}),
        ("redis://u:p@[::1]:7", "single", [("::1", 7)], "", {"db": 0, "username": "u", "password": "p"}),
        ("rediss://h?ssl_ca_certs=ca", "single", [("h", 6379)], "", {"db": 0, "tls": True, "ssl_ca_certs": "ca"}),
        ("unix:///run/r.sock?db=1", "single", [("/run/r.sock", 0)], "", {"db": 1}),
        ("unix://u:p@/run/r.sock", "single", [("/run/r.sock", 0)], "", {"db": 0, "username": "u", "password": "p"}),
        ("redis+sentinel://a,b:7/mine/2", "sentinel", [("a", 26379), ("b", 7)], "mine", {"db": 2}),
        ("rediss+sentinel://a/mine", "sentinel", [("a", 26379)], "mine", {"db": 0, "tls": True}),
        ("redis+cluster://u:p@a:1,b,[::1]:3", "cluster", [("a", 1), ("b", 6379), ("::1", 3)], "",
         {"db": 0, "username": "u", "password": "p"}),
        ("redis+cluster://a/0", "cluster", [("a", 6379)], "", {"db": 0}),
    ],
)  # fmt: skip
def test_a_url_says(url: str, kind: str, addresses: Any, service: str, options: dict[str, Any]) -> None:
    found = read(url)
    assert (found.kind, list(found.addresses), found.service, dict(found.options)) == (
        kind,
        addresses,
        service,
        options,
    )


def test_sentinels_have_a_password_of_their_own() -> None:
    found = read("rediss+sentinel://u:p@a/mine?sentinel_username=su&sentinel_password=sp&ssl_ca_certs=ca")
    assert found.options == {"db": 0, "username": "u", "password": "p", "tls": True, "ssl_ca_certs": "ca"}
    assert found.sentinel_options == {"username": "su", "password": "sp", "tls": True, "ssl_ca_certs": "ca"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (5, "must be a str, not int"),
        ("", "must begin with redis://"),
        ("http://:secret@h", "must begin with redis://"),
        ("redis://", "names no host"),
        ("redis+cluster://a,,b", "names no host"),
        ("redis://h:port", "is no URL"),
        ("redis://:secret@[h", "is no URL"),
        ("redis://h:99999", "is no URL"),
        ("redis://u:secret/x@h", "is no URL"),
        ("redis://:secret/x@h", "names no host"),
        ("redis://a,b", r"use redis\+sentinel:// or redis\+cluster://"),
        ("redis://h/x", "the number of a database is expected, not 'x'"),
        ("redis://h/-1", "the number of a database is expected"),
        ("redis://:sec#ret@h", "%23"),
        ("redis+sentinel://a", "names no service"),
        ("redis+sentinel://a/s/x", "the number of a database is expected"),
        ("redis+cluster://a/1", "a cluster has only 0"),
        ("unix://", "names no socket"),
        ("redis://h?protocol=3", "'protocol'; known here: client_name, db$"),
        ("redis://h?socket_timeout=60", "'socket_timeout'"),
        ("redis://h?ssl_ca_certs=x", "'ssl_ca_certs'"),
        ("rediss://h?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("redis://h?sentinel_password=secret", "'sentinel_password'; known here"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_showing_it(url: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as info:
        read(url)
    assert str(info.value).startswith("RedisStore.url")
    assert "secret" not in str(info.value)
    assert info.value.__cause__ is None


def test_no_repr_shows_a_password() -> None:
    assert "secret" not in repr(read("redis+sentinel://u:secret@a/m?sentinel_password=secret2"))


def opened(url: str, *, sentinel: bool = False) -> Endpoint:
    found = read(url)

    async def work() -> Endpoint:
        return found.open(found.addresses[0], sentinel=sentinel).endpoint

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("url", "host", "port", "greeting"),
    [
        ("redis://h", "h", 6379, ()),
        ("unix:///run/r.sock", "/run/r.sock", 0, ()),
        ("redis://:p@h/3", "h", 6379, (("AUTH", "p"), ("SELECT", "3"))),
        ("redis://u:p@h?client_name=me", "h", 6379, (("AUTH", "u", "p"), ("CLIENT", "SETNAME", "me"))),
    ],
)
def test_a_connection_is_made_to_what_the_url_names(url: str, host: str, port: int, greeting: object) -> None:
    endpoint = opened(url)
    assert (endpoint.host, endpoint.port, endpoint.tls, endpoint.greeting) == (host, port, None, greeting)
    assert ":p@" not in repr(endpoint)
    assert "AUTH" not in repr(endpoint)


def test_sentinels_are_greeted_with_their_own_password() -> None:
    url = "redis+sentinel://u:p@a/m?sentinel_username=su&sentinel_password=sp"
    assert opened(url, sentinel=True).greeting == (("AUTH", "su", "sp"),)
    assert opened(url).greeting == (("AUTH", "u", "p"),)


def test_tls_is_checked() -> None:
    context = opened("rediss://h").tls
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
