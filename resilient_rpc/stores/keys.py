"""What a record is called in Redis."""

from __future__ import annotations

import base64
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


def name_of(namespace: str, key: RecordKey) -> bytes:
    """``rpc:idem:{tenant:service.method:digest}``, whatever a caller has put into the parts, of at most 210 bytes.

    Tenant and method are for those who look into Redis, cut and with other characters replaced. The digest alone tells
    records apart: it is made of all four parts, each with its length before it. All of it but the prefix is what a
    cluster makes the slot of, so that the records of one tenant are spread over all nodes.
    """
    check_key(key)
    parts = [part.encode("utf-8", "surrogatepass") for part in key]
    whole = b"".join([b"%d:%b" % (len(part), part) for part in parts])
    digest = base64.urlsafe_b64encode(hashlib.sha256(whole).digest()[:DIGEST_BYTES]).decode()
    tenant, service, method = (_OTHER.sub("_", part[:SHOWN]) for part in key[:3])
    return f"{namespace}:idem:{{{tenant}:{service}.{method}:{digest}}}".encode()
