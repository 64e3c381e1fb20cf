"""One URL for each kind of Redis: read, checked, and made into connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from resilient_rpc.errors import ConfigurationError

if TYPE_CHECKING:
    from resilient_rpc.stores.stream import Stream

Kind = Literal["single", "sentinel", "cluster"]
Address = tuple[str, int]
"""Host and port; of a socket in the file system its path, and 0."""

PORT, SENTINEL_PORT = 6379, 26379
_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})


@dataclass(frozen=True, kw_only=True)
class RedisUrl:
    """What a URL says. Its password is in no repr, and in no message of an error."""

    kind: Kind
    addresses: tuple[Address, ...]
    """Of Redis, of the sentinels, or of some nodes of the cluster."""
    service: str = ""
    """What the sentinels call the master."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of connections to Redis."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of connections to sentinels."""

    def open(self, address: Address, *, sentinel: bool = False) -> Stream:
        """A connection, not connected yet; on a loop."""
        from resilient_rpc.stores.stream import Endpoint, Stream, tls_context  # noqa: PLC0415 - see RedisStore

        given = self.sentinel_options if sentinel else self.options
        host, port = address
        files = [given.get(option) for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")]
        tls = tls_context(*files) if given.get("tls") else None
        return Stream(Endpoint(host=host, port=port, tls=tls, greeting=tuple(_greeting(given))))


def _greeting(options: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """What stands before the first command. RESP2: nothing comes on it that nobody has asked for."""
    user, password = options.get("username"), options.get("password")
    if user is not None or password is not None:
        yield ("AUTH", *((user,) if user is not None else ()), password or "")
    if options.get("db"):
        yield "SELECT", str(options["db"])
    if options.get("client_name"):
        yield "CLIENT", "SETNAME", options["client_name"]


def read_url(name: str, url: Any) -> RedisUrl:
    """Read it; ConfigurationError says what is wrong with the URL of `name`, without showing it."""
    if not isinstance(url, str):
        raise ConfigurationError(f"{name} must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        return _read(name, parts)
    except ConfigurationError:
        raise
    except ValueError:  # of a port or of brackets, and its text may hold a piece of a password
        raise ConfigurationError(f"{name} is no URL: percent-encode what stands in user and password") from None


def _read(name: str, parts: SplitResult) -> RedisUrl:
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"{name} must begin with {', '.join(f'{known}://' for known in _SCHEMES)}")
    if parts.fragment:
        raise ConfigurationError(f"{name}: percent-encode a # as %23")
    kind, tls = _SCHEMES[parts.scheme]
    query = _query(name, parts, kind, tls=tls)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options: dict[str, Any] = {option: text for option, text in query.items() if option not in _SENTINEL_OPTIONS}
    secured: dict[str, Any] = {option: text for option, text in query.items() if option in _TLS_OPTIONS}
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    if tls:
        options["tls"] = secured["tls"] = True
    sentinel_options = secured | {
        option.removeprefix("sentinel_"): text for option, text in query.items() if option in _SENTINEL_OPTIONS
    }
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ConfigurationError(f"{name} names no socket: unix:///run/redis.sock")
        addresses: tuple[Address, ...] = ((unquote(parts.path), 0),)
        path = ""
    else:
        addresses = _addresses(name, hosts, SENTINEL_PORT if kind == "sentinel" else PORT)
        path = parts.path.strip("/")
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(f"{name} names no service: redis+sentinel://host:26379/name-of-the-master/0")
    if len(addresses) > 1 and kind == "single":
        raise ConfigurationError(f"{name} names several hosts: use redis+sentinel:// or redis+cluster://")
    database = _database(name, options.pop("db", path) or "0")
    if database and kind == "cluster":
        raise ConfigurationError(f"{name} names database {database}: a cluster has only 0")
    options["db"] = database
    return RedisUrl(
        kind=kind,
        addresses=addresses,
        service=unquote(service),
        options=options,
        sentinel_options=sentinel_options,
    )


def _query(name: str, parts: SplitResult, kind: Kind, *, tls: bool) -> dict[str, str]:
    known = {"db", "client_name"}
    known |= _TLS_OPTIONS if tls else set()
    known |= _SENTINEL_OPTIONS if kind == "sentinel" else set()
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for option in query:
        if option not in known:
            raise ConfigurationError(f"{name} has the option {option!r:.60}; known here: {', '.join(sorted(known))}")
    return query


def _addresses(name: str, hosts: str, port: int) -> tuple[Address, ...]:
    found = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        if parts.hostname is None:
            raise ConfigurationError(f"{name} names no host")
        found.append((unquote(parts.hostname), parts.port or port))
    return tuple(found)


def _database(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):  # noqa: PLR2004 - Redis counts to 16 by default
        raise ConfigurationError(f"{name}: the number of a database is expected, not {text!r:.60}")
    return int(text)
