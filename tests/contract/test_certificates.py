"""A device's certificate is for the key it asked with and the name it has, and nothing else of what it may ask."""

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from agent.contract import certificates
from agent.contract.certificates import Certificate
from agent.errors import BadInput

NOW = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)
OURS = certificates.authority("ours", NOW, 3650)
NAME = "demo/r1"
KEY = certificates.new_key()


def asking(name: str = NAME, key: object = None, *more: x509.NameAttribute[str]) -> bytes:
    """A request as a stranger's tool makes it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), *more])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signer = key or ec.generate_private_key(ec.SECP256R1())
    return made.sign(signer, SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def test_a_request_becomes_a_certificate_for_its_key() -> None:
    made = certificates.issue_from(OURS, certificates.request(NAME, KEY), NAME, NOW, 90)
    shown = certificates.read(made)
    assert (shown.name, shown.not_after) == (NAME, NOW + datetime.timedelta(days=90))
    assert shown.not_before < NOW
    assert certificates.belongs(made, KEY)
    assert not certificates.belongs(made, certificates.new_key())


def test_what_else_a_request_asks_for_is_not_granted() -> None:
    made = x509.load_pem_x509_certificate(certificates.issue_from(OURS, asking(), NAME, NOW, 90))
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"]


def test_no_certificate_outlives_its_authority() -> None:
    short = certificates.authority("short", NOW, 10)
    assert certificates.read(certificates.issue_from(short, asking(), NAME, NOW, 90)).not_after == NOW + datetime.timedelta(days=10)


def altered() -> bytes:
    """Its signature is another's: the name was changed after it was signed."""
    der = x509.load_pem_x509_csr(asking("demo/rX")).public_bytes(Encoding.DER).replace(b"demo/rX", b"demo/r1")
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("csr", "said"),
    [
        (asking("demo/r2"), "is for 'demo/r2', not for demo/r1"),
        (asking("other/r1"), "not for demo/r1"),
        (asking(NAME, None, x509.NameAttribute(NameOID.COMMON_NAME, "demo/r2")), "not for demo/r1"),
        (asking(NAME, None, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")), "not for demo/r1"),
        (altered(), "not signed by its own key"),
        (asking(NAME, rsa.generate_private_key(65537, 2048)), "another kind"),
        (asking(NAME, ec.generate_private_key(ec.SECP384R1())), "another kind"),
        (b"", "can't be read"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "can't be read"),
        (OURS.certificate, "can't be read"),
        (b"\0" * 100_000, "can't be read"),
    ],
)
def test_a_request_that_is_not_that_robot_s_is_refused(csr: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        certificates.issue_from(OURS, csr, NAME, NOW, 90)


def test_a_name_without_room_or_of_an_operator_is_refused() -> None:
    assert certificates.device_name("t" * 31, "r" * 32) == f"{'t' * 31}/{'r' * 32}"
    for tenant, device in (("t" * 32, "r" * 32), ("operator", "r1")):
        with pytest.raises(BadInput):
            certificates.device_name(tenant, device)


def other_key() -> bytes:
    made = rsa.generate_private_key(65537, 2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        (OURS.certificate, KEY),
        (OURS.certificate, other_key()),
        (OURS.certificate, b"x"),
        (b"x", OURS.key),
        (certificates.issue_from(OURS, certificates.request(NAME, KEY), NAME, NOW, 9), KEY),
    ],
    ids=["another key", "rsa", "no key", "no certificate", "no authority"],
)
def test_what_is_no_authority_vouches_for_nobody(certificate: bytes, key: bytes) -> None:
    assert certificates.checked_authority(OURS) == OURS
    with pytest.raises(BadInput):
        certificates.checked_authority(Certificate(certificate, key))


def test_an_authority_that_was_cut_off_is_made_again_for_its_key() -> None:
    again = certificates.authority("ours", NOW, 10, OURS.key)
    assert certificates.belongs(again.certificate, OURS.key)
    made = certificates.issue_from(again, asking(), NAME, NOW, 5)
    x509.load_pem_x509_certificate(made).verify_directly_issued_by(x509.load_pem_x509_certificate(again.certificate))


def test_the_list_names_what_was_revoked_and_openssl_heeds_it(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ours = certificates.authority("ours", now, 30)
    made = {name: certificates.issue(ours, name, now, 10) for name in ("demo/good", "demo/bad")}
    bad = certificates.read(made["demo/bad"].certificate).serial
    listed = certificates.revocations(ours, {bad: now}, now, 30)
    (tmp_path / "ca.pem").write_bytes(ours.certificate + listed)
    assert [one.serial_number for one in x509.load_pem_x509_crl(listed)] == [bad]
    for name, right in (("demo/good", True), ("demo/bad", False)):
        (tmp_path / "one.pem").write_bytes(made[name].certificate)
        words = ["openssl", "verify", "-crl_check", "-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "one.pem")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == right, done.stderr
        assert right or "certificate revoked" in done.stderr
