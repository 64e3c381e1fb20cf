"""TLS to Redis: always with the certificate and the name of the server checked."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from resilient_rpc.errors import ConfigurationError

SCHEME = "rediss://"
_CHECKS = frozenset({"ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"})

CHECKED: Mapping[str, Any] = {
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": True,
    "ssl_min_version": ssl.TLSVersion.TLSv1_2,
}
"""Settings of a connection with TLS, said aloud: redis-py has changed its mind about one of them before."""


def settings_for(name: str, url: str) -> Mapping[str, Any]:
    """What a client that reads `url` by itself is told besides; nothing for one without TLS.

    Raises:
        ConfigurationError: the URL of `name` would switch a check off.
    """
    if not url.startswith(SCHEME):
        return {}
    switched = sorted(_CHECKS & {option for option, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)})
    if switched:
        raise ConfigurationError(
            f"{name} sets {', '.join(switched)}: the certificate is always checked; trust it by ssl_ca_certs"
        )
    return CHECKED
