"""Whom a connection believes: real handshakes through memory, and each file that is no certificate."""

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.contract import certificates
from agent.errors import BadInput, BadProfile
from agent.link.tls import check_plain, client_context

NOW = SystemClock().utc()
OURS = certificates.authority("ours", NOW, 10)
OTHERS = certificates.authority("others", NOW, 10)
WORDS = OURS.certificate.decode()


def written(folder: Path, made: certificates.Certificate) -> tuple[Path, Path]:
    certificate, key = folder / "own.crt", folder / "own.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key


def shaken(context: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """Both sides of a handshake, in memory; gives the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = context.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    left: list[Callable[[], None]] = [here.do_handshake, there.do_handshake]
    for _ in range(10):
        for step in list(left):
            try:
                step()
                left.remove(step)
            except ssl.SSLWantReadError:
                continue
    assert not left
    return there


def serving(folder: Path, by: certificates.Certificate = OURS, names: tuple[str, ...] = ("localhost",)) -> ssl.SSLContext:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*written(folder, certificates.issue(by, "server", NOW, 10, names)))
    server.load_verify_locations(cadata=WORDS)
    server.verify_mode = ssl.CERT_OPTIONAL
    return server


def test_a_server_of_ones_own_authority_is_believed_and_sees_who_asks(tmp_path: Path) -> None:
    server = serving(tmp_path)
    shown = written(tmp_path, certificates.issue(OURS, "demo/r1", NOW, 10))
    there = shaken(client_context(WORDS, *shown), server)
    assert (there.getpeercert() or {})["subject"] == ((("commonName", "demo/r1"),),)
    assert there.version() in ("TLSv1.2", "TLSv1.3")


def test_key_and_certificate_may_stand_in_one_file(tmp_path: Path) -> None:
    server = serving(tmp_path)
    made = certificates.issue(OURS, "demo/r1", NOW, 10)
    (tmp_path / "both.pem").write_bytes(made.certificate + made.key)
    assert shaken(client_context(WORDS, tmp_path / "both.pem"), server).getpeercert()


@pytest.mark.parametrize(
    ("by", "names", "said"), [(OTHERS, ("localhost",), "unable to get"), (OURS, ("elsewhere",), "Hostname mismatch|not valid for")]
)
def test_anybody_else_is_not(tmp_path: Path, by: certificates.Certificate, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=said):
        shaken(client_context(WORDS), serving(tmp_path, by, names))


def test_a_certificate_of_the_past_is_not(tmp_path: Path) -> None:
    past = certificates.issue(OURS, "server", NOW - datetime.timedelta(days=30), 5, ("localhost",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*written(tmp_path, past))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shaken(client_context(WORDS), server)


def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    for authority in (WORDS, ""):
        assert client_context(authority).minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_an_authority_the_machine_decides() -> None:
    context = client_context("")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("authority", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ü"])
def test_an_authority_that_is_none_is_said(authority: str) -> None:
    with pytest.raises(BadInput, match="no certificate in PEM") as refused:
        client_context(authority)
    assert "\n" not in str(refused.value)


def test_files_that_are_no_certificate_are_said(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, certificates.issue(OURS, "demo/r1", NOW, 10))
    with pytest.raises(BadInput, match=r"gone\.crt: No such file"):
        client_context(WORDS, tmp_path / "gone.crt", key)
    with pytest.raises(BadInput, match=r"gone\.key: No such file"):
        client_context(WORDS, certificate, tmp_path / "gone.key")
    with pytest.raises(BadInput, match="no certificate with its key"):
        client_context(WORDS, key, key)
    key.write_bytes(certificates.issue(OURS, "demo/r2", NOW, 10).key)
    with pytest.raises(BadInput, match="no certificate with its key"):
        client_context(WORDS, certificate, key)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_this_machine_may_be_spoken_to_in_the_clear(host: str) -> None:
    check_plain(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "broker.example", "0.0.0.0", "::", "localhost.example", "127.0.0.1.example", ""])  # noqa: S104  is refused
def test_no_other_may(host: str) -> None:
    with pytest.raises(BadProfile, match="only this machine"):
        check_plain(host)


@pytest.mark.parametrize(
    ("made_days_ago", "judged_days_ago", "said"),
    [
        (30, 28, ""),  # this machine's clock runs ahead
        (30, 10, "has expired, by the signed time"),
        (0, 20, "not yet valid, by the signed time"),
        (0, 0, ""),
    ],
)
def test_where_the_time_is_known_better_certificates_are_judged_by_it(
    tmp_path: Path, made_days_ago: int, judged_days_ago: int, said: str
) -> None:
    made = certificates.issue(OURS, "server", NOW - datetime.timedelta(days=made_days_ago), 5, ("localhost",))
    server = serving(tmp_path)
    server.load_cert_chain(*written(tmp_path, made))
    context = client_context(WORDS, judge=lambda: NOW - datetime.timedelta(days=judged_days_ago))
    if said:
        with pytest.raises(ssl.SSLCertVerificationError, match=said):
            shaken(context, server)
    else:
        shaken(context, server)


def test_the_time_is_asked_for_at_each_connection(tmp_path: Path) -> None:
    past = certificates.issue(OURS, "server", NOW - datetime.timedelta(days=30), 5, ("localhost",))
    server = serving(tmp_path)
    server.load_cert_chain(*written(tmp_path, past))
    known: list[datetime.datetime] = []
    context = client_context(WORDS, judge=lambda: known[0] if known else None)
    with pytest.raises(ssl.SSLCertVerificationError, match="has expired"):
        shaken(context, server)
    known.append(NOW - datetime.timedelta(days=28))
    shaken(context, server)
    known.clear()
    with pytest.raises(ssl.SSLCertVerificationError, match="has expired"):
        shaken(context, server)


def test_a_stranger_is_believed_at_no_time(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shaken(client_context(WORDS, judge=lambda: NOW), serving(tmp_path, OTHERS))
