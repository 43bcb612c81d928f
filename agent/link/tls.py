"""Decides whom a connection believes and as whom it speaks: TLS 1.2 or newer, or plain to this machine alone."""

import ipaddress
import ssl
from pathlib import Path

from agent.errors import BadInput, BadProfile

LOOPBACK_NAME = "localhost"


def client_context(authority: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Checks the other side's name and certificate, by `authority` (PEM) or, if that is empty, by this machine's own list.

    `certificate` and `key` (PEM files; without `key` both stand in one) are shown to a side that asks who this is. They are read
    anew by each call, so that a renewed certificate is used by the next connection. Raises BadInput in one line.
    """
    context = _believing(authority) if authority else ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        _show(context, certificate, key)
    return context


def _believing(authority: str) -> ssl.SSLContext:
    """Nobody but that authority: the machine's own list is not loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise BadInput(f"the authority is no certificate in PEM: {error}", "give the text that begins with -----BEGIN") from error
    return context


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
