"""Makes certificates: an authority of one's own, and what it vouches for, a server by its names or a device by its id.

Keys are ECDSA P-256, which every TLS library takes. All of it travels as PEM.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import BadInput

BACKDATED = datetime.timedelta(days=1)
"""A certificate is valid a little before it was made: the other machine's clock may be slow."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def authority(name: str, now: datetime.datetime, days: int) -> Certificate:
    """An authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    built = _begun(name, name, key, now, days).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    built = built.add_extension(x509.KeyUsage(**usage, **dict.fromkeys(others, False)), critical=True)
    return _pem(built.sign(key, SHA256()), key)


def issue(by: Certificate, name: str, now: datetime.datetime, days: int, servers: Sequence[str] = ()) -> Certificate:
    """A certificate of `name` (a device's id, a server's) by that authority; `servers`: host names and addresses it answers at."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(by.certificate)
    signer = load_pem_private_key(by.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    built = _begun(name, _common_name(issuer), key, now, days).add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if servers else ExtendedKeyUsageOID.CLIENT_AUTH
    built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    built = built.add_extension(own, critical=False)
    if servers:
        built = built.add_extension(x509.SubjectAlternativeName([_server(one) for one in servers]), critical=False)
    return _pem(built.sign(signer, SHA256()), key)


def name_of(certificate: bytes, what: str = "the certificate") -> str:
    """Whom it was issued for: the common name of the first one in PEM. Raises BadInput naming `what` it should have been."""
    try:
        return _common_name(x509.load_pem_x509_certificate(certificate))
    except (ValueError, IndexError) as error:
        raise BadInput(f"{what} is no certificate with a name, in PEM", "give the text that begins with -----BEGIN") from error


def _begun(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _server(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificate(certificate.public_bytes(Encoding.PEM), secret)
