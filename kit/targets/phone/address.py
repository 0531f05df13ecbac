"""Where the page is served: the address in the local network, and a certificate made for it on the spot."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from boards.errors import UserError

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 30  # that a certificate lasts; browsers refuse very long ones
ANYWHERE = ("192.0.2.1", 9)  # documentation's own network: nothing is sent there


@dataclass(frozen=True)
class Address:
    """A host and port, and whether browsers trust it without a certificate."""

    host: str
    port: int
    family: socket.AddressFamily
    loopback: bool

    @property
    def authority(self) -> str:
        """Return host and port as browsers say them, who leave out the usual port."""
        host = f"[{self.host}]" if ":" in self.host else self.host.lower()
        return host if self.port == (80 if self.loopback else 443) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Return the URL without a path: microphones are for HTTPS, or for the machine itself."""
        return f"{'http' if self.loopback else 'https'}://{self.authority}"


def find(host: str | None, port: int) -> Address:
    """Return the address to serve at; without a host that of this machine in its network.

    Raises:
        UserError: the name leads nowhere, or stands for every address.
    """
    name = host or _own()
    try:
        family, *_, place = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(
            f"--host {name}: no such address: give this machine's own, as phones reach it"
        ) from None
    ip = ipaddress.ip_address(str(place[0]).partition("%")[0])
    if ip.is_unspecified or ip.is_multicast:
        raise UserError(f"--host {name}: phones need one address: leave it out for {_own()}")
    return Address(name, port, family, ip.is_loopback)


def _own() -> str:
    """Return the address that this machine has in its network; the loopback's where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ANYWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def certificate(host: str) -> tuple[ssl.SSLContext, str]:
    """Return TLS with a new key and a certificate for `host`, and the certificate's SHA-256.

    The key is on disk only while TLS reads it, where nobody else can.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "earkit phone")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # phones' clocks differ
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder:  # of mode 0700
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(chain)
    return context, made.fingerprint(hashes.SHA256()).hex(":").upper()


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return x509.DNSName(host)
