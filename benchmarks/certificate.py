"""A certificate authority and a certificate for 127.0.0.1, made anew for each run and never kept."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_certificate"]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write ``authority.pem`` and ``server.pem`` (certificate and key).

    Args:
        folder: Where they go; temporary.

    Returns:
        Both paths: what clients trust, and what the server shows. They are two because rustls refuses an authority's
        own certificate as a server's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stepout benchmark authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        base = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        base = base.not_valid_before(now - dt.timedelta(hours=1)).serial_number(x509.random_serial_number())
        return base.not_valid_after(now + dt.timedelta(days=2))

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    ca = ca.add_extension(usage, True)
    ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    leaf = builder(name, key.public_key()).add_extension(x509.SubjectAlternativeName(names), False)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
    signed = [one.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for one in (ca, leaf)]
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority, server = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(signed[0])
    server.write_bytes(signed[1] + secret)
    return authority, server
