"""The TLS settings of a connection, all of them ours: pika's defaults depend on how they are asked for."""

from __future__ import annotations

import logging
import ssl

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.urls import AmqpUrl

log = logging.getLogger(__name__)


def tls_context(url: AmqpUrl) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, the broker's certificate and name checked; None for a URL without TLS.

    Raises:
        ConfigurationError: a file with certificates or a key cannot be used.
    """
    if not url.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=url.cafile)
        if url.certfile:
            context.load_cert_chain(url.certfile, url.keyfile, _no_password)
    except (OSError, ssl.SSLError) as error:  # the errors of both name no file
        files = ", ".join(name for name in (url.cafile, url.certfile, url.keyfile) if name)
        raise ConfigurationError(f"cannot load the certificates of {files}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if url.insecure:
        log.warning("the certificate of %s is not checked (insecure): anybody on the way can read and write", url)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """Asked for where a key is encrypted: OpenSSL itself would ask at the terminal, and wait."""
    raise ConfigurationError("the keyfile is encrypted: give one that is not, readable by this user only")
