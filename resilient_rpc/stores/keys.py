"""What a record is called in Redis."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.base import RecordKey, check_key

_NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_OTHER = re.compile(r"[^A-Za-z0-9_.-]", re.ASCII)
DIGEST_BYTES = 24
SHOWN = 32
"""Characters of each part that are shown."""


def check_namespace(name: str, namespace: Any) -> None:
    """ConfigurationError unless keys can begin with it."""
    if not isinstance(namespace, str) or _NAMESPACE.fullmatch(namespace) is None:
        raise ConfigurationError(f"{name} must be 1 to 64 letters, digits or any of _.:-, not {namespace!r:.100}")


@functools.lru_cache(maxsize=4096)  # a step of a call follows upon another, and half of its cost was its name
def name_of(namespace: str, key: RecordKey) -> bytes:
    """``rpc:idem:{tenant:service.method:digest}``, whatever a caller has put into the parts, of at most 210 bytes.

    Tenant and method are for those who look into Redis, cut and with other characters replaced. The digest alone tells
    records apart: it is made of all four parts, each with its length before it. All of it but the prefix is what a
    cluster makes the slot of, so that the records of one tenant are spread over all nodes.
    """
    check_key(key)
    tenant, service, method, own = key
    prefix, digest = _of_method(namespace, tenant, service, method)
    digest = digest.copy()
    digest.update(_counted(own))
    return prefix + base64.urlsafe_b64encode(digest.digest()[:DIGEST_BYTES]) + b"}"


@functools.lru_cache(maxsize=1024)
def _of_method(namespace: str, tenant: str, service: str, method: str) -> tuple[bytes, hashlib._Hash]:
    """What all records of a method begin with, and the hash so far."""
    parts = [_counted(part) for part in (tenant, service, method)]
    shown = [_OTHER.sub("_", part[:SHOWN]) for part in (tenant, service, method)]
    return "{}:idem:{{{}:{}.{}:".format(namespace, *shown).encode(), hashlib.sha256(b"".join(parts))


def _counted(part: str) -> bytes:
    data = part.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)
