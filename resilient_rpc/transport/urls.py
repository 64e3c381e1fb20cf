"""Where a broker is and how to reach it, read from a URL. Nothing here ever shows the password.

::

    amqp://user:password@host1,host2:5673/vhost?heartbeat=30&name=orders-api
    amqps://user:password@host/vhost?cafile=/etc/ssl/broker.pem
    amqps://host/vhost?certfile=/etc/ssl/orders.pem&auth_mechanism=external
    memory://name
    memory://user@name
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from resilient_rpc.errors import ConfigurationError

PORTS = {"amqp": 5672, "amqps": 5671}
_MAX_PORT = 65_535
_HINT = "percent-encode what stands in user, password and vhost (/ as %2F, @ as %40, # as %23, ? as %3F)"


@dataclass(frozen=True, kw_only=True)
class AmqpUrl:
    """A RabbitMQ, or the nodes of one cluster.

    Attributes:
        hosts: Pairs of host and port, each tried in turn.
        user: The user's name; guest, with guest's password, for brokers on this machine only.
        password: Never shown.
        vhost: The virtual host.
        tls: True for amqps.
        heartbeat: Seconds, or 0 for none. A connection on which nothing arrived for twice as long is given up, so that
            with the default of 10 calls move to another node 20 s after theirs fell silent.
        connect_timeout: Seconds for DNS, TCP, TLS and AMQP together, where the caller sets none.
        insecure: TLS without any check of the broker's certificate.
        cafile: Certificates that are trusted instead of the system's.
        certfile: This side's certificate, where the broker asks for one.
        keyfile: The key to it, if it is not in the same file; not encrypted.
        auth_mechanism: ``plain``, by user and password; or ``external``: the broker takes the user from this side's
            certificate.
        name: What the broker's operator sees as the name of the connection.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    heartbeat: int = 10
    connect_timeout: float = 10.0
    insecure: bool = False
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    auth_mechanism: str = "plain"
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ConfigurationError("the URL names no host")
        if self.heartbeat < 0:
            raise ConfigurationError(f"heartbeat must not be negative: {self.heartbeat}")
        if not 0 < self.connect_timeout < math.inf:
            raise ConfigurationError(f"connect_timeout must be positive: {self.connect_timeout}")
        for name in ("insecure", "cafile", "certfile", "keyfile"):
            if getattr(self, name) and not self.tls:
                raise ConfigurationError(f"{name} means something to amqps:// only")
        if self.insecure and self.cafile:
            raise ConfigurationError("insecure and cafile exclude each other")
        if self.keyfile and not self.certfile:
            raise ConfigurationError("a keyfile needs its certfile")
        if self.auth_mechanism not in {"plain", "external"}:
            raise ConfigurationError(f"auth_mechanism={self.auth_mechanism!r:.50}: give 'plain' or 'external'")
        if self.external and not self.certfile:
            raise ConfigurationError("auth_mechanism=external needs amqps:// and a certfile: it says who this is")

    @property
    def external(self) -> bool:
        """Whether the certificate takes the place of user and password."""
        return self.auth_mechanism == "external"

    @property
    def redacted(self) -> str:
        """The URL without the password and the options."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = "amqps" if self.tls else "amqp"
        user = "" if self.external else f"{quote(self.user, safe='')}:***@"
        return f"{scheme}://{user}{hosts}/{quote(self.vhost, safe='')}"

    def __str__(self) -> str:
        return self.redacted


@dataclass(frozen=True)
class MemoryUrl:
    """A bus within this process.

    Attributes:
        name: The bus.
        user: As whom to connect. There is no password: all of it is one process.
    """

    name: str
    user: str = "guest"

    @property
    def redacted(self) -> str:
        """The URL."""
        user = "" if self.user == "guest" else quote(self.user, safe="") + "@"
        return f"memory://{user}{quote(self.name, safe='')}"

    def __str__(self) -> str:
        return self.redacted


def parse_url(url: str, **options: Any) -> AmqpUrl | MemoryUrl:
    """Read `url`; `options` (fields of `AmqpUrl`) go before what stands after its question mark.

    Raises:
        ConfigurationError: it is not a URL of ours, or names an option that does not exist.
    """
    # By hand: urllib drops line breaks and raises errors that hold the password.
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"memory", *PORTS}:
        raise ConfigurationError("a URL begins with amqp://, amqps:// or memory://")
    if scheme == "memory":
        return _memory(rest, options)
    if "#" in url:
        raise ConfigurationError(f"a URL of a broker has no #; {_HINT}")
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    userinfo, _, netloc = authority.rpartition("@")
    hosts = tuple(_host(text, PORTS[scheme]) for text in netloc.split(","))
    settings: dict[str, Any] = {"hosts": hosts, "vhost": _vhost(slash + path), "tls": scheme == "amqps"}
    settings |= _user(userinfo) if userinfo else {}
    settings |= _query(query) | options
    if settings.get("auth_mechanism") == "external":
        if userinfo:
            raise ConfigurationError("auth_mechanism=external takes no user: the certificate names it")
    elif "user" not in settings:
        _check_guest(hosts)
    return AmqpUrl(**settings)


def _memory(place: str, options: Mapping[str, Any]) -> MemoryUrl:
    user, at, name = place.rstrip("/").rpartition("@")
    if options or any(char in user + name for char in "/?#@"):
        raise ConfigurationError(f"memory:// takes a name, a user before it, and nothing else: {name!r:.100}")
    if at and (not user or ":" in user):
        raise ConfigurationError("memory:// has users without passwords: memory://user@name")
    return MemoryUrl(unquote(name), unquote(user)) if at else MemoryUrl(unquote(name))


def _host(text: str, default: int) -> tuple[str, int]:
    # What is wrong here may be a piece of a password that was not encoded: never show it.
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_address(host, 6) or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"an address in brackets is not IPv6; {_HINT}")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            raise ConfigurationError(f"an IPv6 address stands in brackets: [::1]:5672; or {_HINT}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise ConfigurationError(f"a port is a number from 1 to {_MAX_PORT}; or {_HINT}")
    return unquote(host) or "localhost", int(port or default)


def _vhost(path: str) -> str:
    name = path[1:]
    if name in {"", "/"}:
        return "/"
    if "/" in name or "@" in name:
        raise ConfigurationError(f"a / or @ in the vhost; {_HINT}")
    return unquote(name)


def _user(userinfo: str) -> dict[str, str]:
    user, _, password = userinfo.partition(":")
    if not user or not password:
        raise ConfigurationError("the URL needs a user and a password: amqp://user:password@host")
    return {"user": unquote(user), "password": unquote(password)}


def _check_guest(hosts: tuple[tuple[str, int], ...]) -> None:
    for host, _ in hosts:
        if not _is_loopback(host):
            raise ConfigurationError("a host that is not this machine needs a user and a password in the URL")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str, version: int | None = None) -> bool:
    try:
        return ipaddress.ip_address(host).version in {version or 4, version or 6}
    except ValueError:
        return False


def _flag(text: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if found is None:
        raise ValueError(text)
    return found


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "heartbeat": int,
    "connect_timeout": float,
    "insecure": _flag,
    "cafile": str,
    "certfile": str,
    "keyfile": str,
    "auth_mechanism": str,
    "name": str,
}


def _query(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS or "@" in name:
            known = ", ".join(_OPTIONS)
            raise ConfigurationError(f"the URL has an option {_shown(name)}; those that exist: {known}")
        if name in found:
            raise ConfigurationError(f"the URL names {name} twice")
        try:
            if not text:
                raise ValueError(text)
            found[name] = _OPTIONS[name](text)
        except ValueError:
            raise ConfigurationError(f"the URL's {name} is not acceptable: {text!r:.50}") from None
    return found


def _shown(name: str) -> str:
    """An option's name, or what was behind a question mark in a password."""
    return repr(name) if name.replace("_", "").isalnum() and len(name) < 30 else "that is none"  # noqa: PLR2004
