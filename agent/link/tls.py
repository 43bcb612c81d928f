"""Decides whom a connection believes and as whom it speaks: TLS 1.2 or newer, or plain to this machine alone.

OpenSSL judges dates by the machine's clock. Where the robot knows the time better, from the backend's signature, OpenSSL is told to
leave dates alone, and the other side's own certificate is judged here, by that time, when the handshake is over.
"""

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.errors import BadInput, BadProfile
from agent.ports import LinkSettings

LOOPBACK_NAME = "localhost"

NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python doesn't name."""

JUDGED_AT = "judged_at"
"""What one connection's certificate is judged by, on the connection itself: the next one may be judged by another time."""

W = TypeVar("W", ssl.SSLObject, ssl.SSLSocket)

Judge = Callable[[], datetime.datetime | None]


def context_of(settings: LinkSettings, *, dated: bool = True) -> ssl.SSLContext:
    """As a link is set up. Not `dated`: dates of certificates don't count. Raises BadInput in one line."""
    certificate, key = settings.pair() if settings.pair else (settings.certificate, settings.key)
    context = client_context(settings.authority, certificate, key, settings.judge)
    if not dated:
        context.judge = lambda: None
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    return context


class Context(ssl.SSLContext):
    """Has a time of its own to judge by, asked anew for each connection."""

    judge: Judge

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        return self._judging(super().wrap_bio, *given, **named)

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        """Whoever shakes hands later calls `check_dates` then."""
        return self._judging(super().wrap_socket, *given, **named)

    def _judging(self, wrap: Callable[..., W], *given: Any, **named: Any) -> W:
        moment, flags = self.judge(), self.verify_flags
        if moment is not None:
            self.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        try:
            wrapped = wrap(*given, **named)
        finally:
            self.verify_flags = flags
        setattr(wrapped, JUDGED_AT, moment)
        return wrapped


class _Shaken(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        check_dates(self)


def check_dates(wrapped: ssl.SSLObject | ssl.SSLSocket) -> None:
    """After a handshake. Raises SSLCertVerificationError where the certificate isn't valid at the time it is judged by."""
    moment: datetime.datetime | None = getattr(wrapped, JUDGED_AT, None)
    shown = wrapped.getpeercert() if moment else None
    if not moment or not shown:
        return
    seconds = moment.timestamp()
    if seconds > ssl.cert_time_to_seconds(str(shown["notAfter"])):
        raise ssl.SSLCertVerificationError("certificate verify failed: certificate has expired, by the signed time")
    if seconds < ssl.cert_time_to_seconds(str(shown["notBefore"])):
        raise ssl.SSLCertVerificationError("certificate verify failed: certificate is not yet valid, by the signed time")


def client_context(authority: str, certificate: Path | None = None, key: Path | None = None, judge: Judge = lambda: None) -> Context:
    """Checks the other side's name and certificate, by `authority` (PEM) or, if that is empty, by this machine's own list.

    `certificate` and `key` (PEM files; without `key` both stand in one) are shown to a side that asks who this is. They are read
    anew by each call, so that a renewed certificate is used by the next connection. `judge`: see `LinkSettings`. Raises BadInput.
    """
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.judge, context.sslobject_class = judge, _Shaken
    if authority:
        _believe(context, authority)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        _show(context, certificate, key)
    return context


def _believe(context: ssl.SSLContext, authority: str) -> None:
    """Nobody but that authority: the machine's own list is not loaded."""
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise BadInput(f"the authority is no certificate in PEM: {error}", "give the text that begins with -----BEGIN") from error


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        where = f"{certificate}" if key is None else f"{certificate} and {key}"
        raise BadInput(f"{where}: no certificate with its key in PEM: {error.reason or error}", "enrol the robot again") from error
    except OSError as error:
        missing = next((one for one in (certificate, key) if one and not one.is_file()), certificate)
        raise BadInput(f"{missing}: {error.strerror or error}", "name a readable certificate and its key") from error


def _no_password() -> str:
    """Instead of a question on the terminal of a service."""
    return ""


def check_plain(host: str) -> None:
    """Without TLS only this machine may be spoken to. Raises BadProfile for any other host."""
    if host.lower() == LOOPBACK_NAME:
        return
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BadProfile(f"{host}: without TLS only this machine itself is spoken to", "take plain = true out")
