"""Makes and reads certificates: an authority of one's own, what it vouches for, and what it no longer vouches for.

A server's certificate names where it answers, a device's who it is, `{tenant}/{device}`. A device makes its key itself and sends a
request; the key never leaves it. Keys are ECDSA P-256, which every TLS library takes. All of it travels as PEM.
"""

import datetime
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import BadInput

BACKDATED = datetime.timedelta(days=1)
"""A certificate is valid a little before it was made: the other machine's clock may be slow."""

NAME_LENGTH_MAX = 64
"""X.509 allows no longer common name."""

OPERATORS = "operator"
"""`operator/{name}` is the common name of an operator's desk, which brokers let command robots."""

PEM_BYTES_MAX = 16 * 1024
"""A request has 0.5 KiB, a chain of three certificates under 4."""

Trouble = (ValueError, TypeError, IndexError, UnsupportedAlgorithm)
"""What the vendor raises for bytes that are not what they should be."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def authority(name: str, now: datetime.datetime, days: int, key: bytes = b"") -> Certificate:
    """An authority that signs itself; `key`: the private key (PEM) it has already, else a new one."""
    own = _private(key) if key else ec.generate_private_key(ec.SECP256R1())
    built = _begun(name, _named(name), own.public_key(), now, now + datetime.timedelta(days=days))
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    built = built.add_extension(x509.KeyUsage(**usage, **dict.fromkeys(others, False)), critical=True)
    return Certificate(built.sign(own, SHA256()).public_bytes(Encoding.PEM), _private_pem(own))


def issue(by: Certificate, name: str, now: datetime.datetime, days: float, servers: Sequence[str] = ()) -> Certificate:
    """A certificate of `name` (a device's id, a server's) by that authority; `servers`: host names and addresses it answers at."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(by.certificate)
    built = _begun(name, issuer.subject, key.public_key(), now, now + datetime.timedelta(days=days))
    if servers:
        built = built.add_extension(x509.SubjectAlternativeName([_server(one) for one in servers]), critical=False)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if servers else ExtendedKeyUsageOID.CLIENT_AUTH
    return Certificate(_vouched(built, _private(by.key), purpose).public_bytes(Encoding.PEM), _private_pem(key))


def _vouched(built: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey, purpose: x509.ObjectIdentifier) -> x509.Certificate:
    """Signed, for that purpose alone."""
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return built.add_extension(own, critical=False).sign(signer, SHA256())


def name_of(certificate: bytes, what: str = "the certificate") -> str:
    """Whom it was issued for: the common name of the first one in PEM. Raises BadInput naming `what` it should have been."""
    try:
        return _common_name(x509.load_pem_x509_certificate(certificate))
    except (ValueError, IndexError) as error:
        raise BadInput(f"{what} is no certificate with a name, in PEM", "give the text that begins with -----BEGIN") from error


def device_name(tenant: str, device: str) -> str:
    """The common name of a device. Raises BadInput where it is too long for a certificate, or would pass for an operator's."""
    name = f"{tenant}/{device}"
    if tenant == OPERATORS:
        raise BadInput(f"a tenant can't be called {tenant}: certificates of operators begin like that", "give the tenant another name")
    if len(name) > NAME_LENGTH_MAX:
        raise BadInput(f"{name[:NAME_LENGTH_MAX]}… is too long for a certificate", "give tenant and device shorter names")
    return name


def new_key() -> bytes:
    """A private key, PEM."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def request(name: str, key: bytes) -> bytes:
    """What its holder asks a certificate with (PKCS#10); signed by the key, so that nobody asks with another's. Raises BadInput."""
    return x509.CertificateSigningRequestBuilder().subject_name(_named(name)).sign(_private(key), SHA256()).public_bytes(Encoding.PEM)


def requested(csr: bytes, name: str) -> bytes:
    """The public key (PEM) that `name` asks a certificate for. Raises BadInput for a request that is none, or not that name's."""
    try:
        asked = x509.load_pem_x509_csr(csr[:PEM_BYTES_MAX])
        named, held = _common_name(asked), asked.is_signature_valid
        key = asked.public_key()
    except Trouble as error:
        raise BadInput("the certificate request can't be read", "send a PKCS#10 request in PEM") from error
    if not held:
        raise BadInput("the certificate request is not signed by its own key", "sign it with the key it names")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput("the certificate request is for a key of another kind", "make an ECDSA key on P-256")
    if named != name or len(asked.subject) != 1:
        raise BadInput(f"the certificate request is for {named[:NAME_LENGTH_MAX]!r}, not for {name}", "ask with this robot's own name")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def issue_from(by: Certificate, csr: bytes, name: str, now: datetime.datetime, days: int) -> bytes:
    """A device's certificate for the key that `csr` asks for, and nothing else of what it may ask; PEM. Raises BadInput."""
    key = load_pem_public_key(requested(csr, name))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    issuer = x509.load_pem_x509_certificate(by.certificate)
    until = min(now + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    built = _begun(name, issuer.subject, key, now, until)
    return _vouched(built, _private(by.key), ExtendedKeyUsageOID.CLIENT_AUTH).public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says."""

    name: str
    serial: int
    not_before: datetime.datetime
    not_after: datetime.datetime


def read(chain: bytes) -> Shown:
    """Of the first certificate in PEM. Raises BadInput for what is none."""
    try:
        held = x509.load_pem_x509_certificate(chain)
        return Shown(_common_name(held), held.serial_number, held.not_valid_before_utc, held.not_valid_after_utc)
    except Trouble as error:
        raise BadInput("this is no certificate with a name, in PEM", "give the text that begins with -----BEGIN") from error


def begun(bundle: str) -> datetime.datetime | None:
    """When the youngest of these certificates (PEM) begins; None where there is none."""
    try:
        return max(held.not_valid_before_utc for held in x509.load_pem_x509_certificates(bundle.encode()))
    except Trouble:
        return None


def anchor_of(authority: bytes) -> bytes:
    """32 bytes: what others know an authority (PEM) by, its name and its key, which stay when its certificate is made anew."""
    held = x509.load_pem_x509_certificate(authority)
    key = held.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(held.subject.public_bytes() + key).digest()


def usable(key: bytes) -> bool:
    """Whether that is a private key of the kind used here, PEM."""
    try:
        return bool(_private(key))
    except BadInput:
        return False


def belongs(chain: bytes, key: bytes) -> bool:
    """Whether the first certificate is for that private key. Raises BadInput for what is no key or no certificate."""
    read(chain)
    return x509.load_pem_x509_certificate(chain).public_key() == _private(key).public_key()


def checked_authority(by: Certificate) -> Certificate:
    """Raises BadInput unless it is an authority that holds its own key."""
    if not belongs(by.certificate, by.key):
        raise BadInput("the authority's certificate is not for this key", "give the key that was made with it")
    try:
        may = x509.load_pem_x509_certificate(by.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *Trouble):
        may = False
    if not may:
        raise BadInput("this certificate is not an authority's", "give one that may sign others (CA:TRUE)")
    return by


def revocations(by: Certificate, serials: Mapping[int, datetime.datetime], now: datetime.datetime, days: int) -> bytes:
    """The list (CRL, PEM) of what that authority no longer vouches for: serial -> since when; to be believed for so many days."""
    issuer = x509.load_pem_x509_certificate(by.certificate)
    built = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    built = built.last_update(now - BACKDATED).next_update(now + datetime.timedelta(days=days))
    signer = _private(by.key)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    built = built.add_extension(own, critical=False).add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    for one in _revoked(serials.items()):
        built = built.add_revoked_certificate(one)
    return built.sign(signer, SHA256()).public_bytes(Encoding.PEM)


def _revoked(serials: Iterable[tuple[int, datetime.datetime]]) -> Iterable[x509.RevokedCertificate]:
    for serial, since in serials:
        yield x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()


def _begun(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _common_name(held: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return str(held.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _server(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises BadInput for what is no key, or one of another kind."""
    try:
        key = load_pem_private_key(pem, None)
    except Trouble as error:
        raise BadInput("this is no private key without a password, in PEM", "give the text that begins with -----BEGIN") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput("this private key is of another kind", "make an ECDSA key on P-256")
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
