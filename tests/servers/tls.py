"""Certificates for servers of the tests, in a folder that they read: what is written into it later is what they show.

Made by hand: trustme's say "critical" of an extension that Erlang then does not accept.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers.guard import GUARD

Key = ec.EllipticCurvePrivateKey
RABBITMQ_PLUGINS = "[rabbitmq_auth_mechanism_ssl]."
_BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)


class Certificates:
    """An authority, a server's certificate for ``localhost`` and 127.0.0.1, and those of clients."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rpc-test-tls-"))
        GUARD.remove(str(self.folder))
        self.folder.chmod(0o755)  # a server in a container is another user
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("an authority of the tests")
        self.cafile = str(self.folder / "ca.pem")
        Path(self.cafile).write_bytes(_pem(self._authority()))
        self.show()

    def show(self, *names: str, expired: bool = False) -> None:
        """Have the server's files hold a certificate for these names (none: its own)."""
        alternatives = [_alternative(name) for name in names or ("localhost", "127.0.0.1")]
        made, key = self._issue("server", ExtendedKeyUsageOID.SERVER_AUTH, alternatives, expired=expired)
        (self.folder / "server.pem").write_bytes(_pem(made))
        (self.folder / "server.key").write_bytes(_key_pem(key))

    def client(self, name: str, *, expired: bool = False, password: bytes | None = None) -> str:
        """A file with the certificate of a client of this common name, and its key."""
        made, key = self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName("client")], expired=expired)
        path = Path(tempfile.mkstemp(dir=self.folder, suffix=".pem")[1])
        path.write_bytes(_pem(made) + _key_pem(key, password))
        return str(path)

    def _authority(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self._name, self._key, expired=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())

    def _issue(
        self, name: str, purpose: x509.ObjectIdentifier, alternatives: list[x509.GeneralName], *, expired: bool
    ) -> tuple[x509.Certificate, Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, expired=expired)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256()), key

    def _builder(self, subject: x509.Name, key: Key, *, expired: bool) -> x509.CertificateBuilder:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BEGIN)
            .not_valid_after(_BEGIN + _DAY if expired else dt.datetime.now(dt.UTC) + _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority, critical=False)
        )


def rabbitmq_conf(folder: str, listener: str) -> str:
    """What a RabbitMQ that finds the certificates in `folder` is told: who shows none of the authority's is refused."""
    return f"""\
listeners.ssl.default = {listener}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
"""


def redis_options(folder: str, port: int) -> dict[str, str]:
    """As `rabbitmq_conf`, for Redis: options of its command line."""
    return {
        "tls-port": str(port),
        "tls-ca-cert-file": f"{folder}/ca.pem",
        "tls-cert-file": f"{folder}/server.pem",
        "tls-key-file": f"{folder}/server.key",
        "tls-auth-clients": "yes",
    }


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Key, password: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
