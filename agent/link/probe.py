"""Shows a certificate at the broker's door, beside whatever connection there is, and tells what the other side said of it.

    TCP -> TLS, no newer than 1.2 -> taken | refused -> goodbye; where 1.2 is not spoken: TLS 1.3 -> a short while of listening -> …

No word of MQTT is said. The name on the certificate may be the client id (docs/broker.md), so a CONNECT would take the session over
in which the broker keeps commands and acks, and leave nothing of it. With TLS 1.2 the other side's verdict on the certificate ends the
handshake; with 1.3 a refusal comes after it, and a broker that agrees need not say anything.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from agent.errors import VoxmeterError
from agent.link.tls import context_of
from agent.ports import LinkSettings

Word = Literal["", "expired", "revoked"]

ALERTS: dict[str, Word] = {"ALERT_CERTIFICATE_EXPIRED": "expired", "ALERT_CERTIFICATE_REVOKED": "revoked"}
"""What OpenSSL calls the other side's words about our certificate. About theirs it says `verify failed`."""

ALERT = "_ALERT_"
"""Any of its words: it spoke TLS, and would not have us."""

HANGS_UP, REFUSES, BUSY = "the broker hangs up", "the broker refuses", "Server"
"""How a link tells that it ended between handshake and welcome, or that the CONNACK was none; some say that the broker is busy, which
tells nothing of us."""

NOT_SPOKEN = ("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER")
"""What is said where 1.2 is too old for the other side."""

TRIES_MAX = 4
"""Where the broker hangs up: its reason may be overtaken on the way by the reset of the connection."""

CONNECT_S = 10
"""For TCP, and again for TLS: three lost packets on a poor mobile link."""

HUNG_UP = "the broker hangs up when it has seen the certificate"

LISTEN_S = 3.0
"""For the refusal of TLS 1.3 to arrive: one round trip, and a lost packet."""

READ_BYTES = 16 * 1024

READS_MAX = 64
"""Of one handshake; certificates with their chains take three."""


class Told(NamedTuple):
    """How it went."""

    result: Literal["taken", "refused", "unreachable"]
    word: Word = ""
    why: str = ""
    """One line; empty when taken."""


class _HungUp(Exception):
    """The connection ended without a word."""


def word_of(problem: str) -> Word:
    """What the other side said of our certificate, found in a link's problem; empty where it said nothing of the kind."""
    return next((word for alert, word in ALERTS.items() if alert in problem), "")


def turned_away(problem: str) -> bool:
    """Whether a link's problem is that the broker doesn't want it, with or without a word."""
    return ALERT in problem or HANGS_UP in problem or (problem.startswith(REFUSES) and BUSY not in problem)


async def tried(settings: LinkSettings, pair: Path) -> Told:
    """Shows the certificate in `pair` (PEM, with its key) to the broker that `settings` name."""
    shown = replace(settings, certificate=pair, key=None, pair=None, steering=None)
    told, version = Told("unreachable"), ssl.TLSVersion.TLSv1_2
    for _ in range(TRIES_MAX):
        told = await _once(shown, version)
        if version is ssl.TLSVersion.TLSv1_2 and any(one in told.why for one in NOT_SPOKEN):
            version = ssl.TLSVersion.TLSv1_3
        elif told.result != "refused" or ALERT in told.why:
            break
    return told


async def _once(settings: LinkSettings, version: ssl.TLSVersion) -> Told:
    try:
        context = context_of(settings)
        context.minimum_version = context.maximum_version = version
        async with asyncio.timeout(CONNECT_S):
            sock = await asyncio.to_thread(socket.create_connection, (settings.host, settings.port), CONNECT_S)
    except (VoxmeterError, OSError, ValueError) as error:  # TimeoutError is an OSError
        return Told("unreachable", "", f"{settings.host}:{settings.port}: {' '.join(str(error).split()) or 'no answer'}")
    with sock:
        sock.setblocking(False)
        door = _Door(sock, context, settings.host)
        try:
            await door.shown(listen=version is not ssl.TLSVersion.TLSv1_2)
        except (_HungUp, OSError) as error:
            return door.told(" ".join(str(error).split()) or "it says nothing")
    return Told("taken")


class _Door:
    """One connection, whose TLS is done here, so that it is known how far it came."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock, self._loop = sock, asyncio.get_running_loop()
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._coming, self._going, server_hostname=host)
        self._flights = 0

    async def shown(self, *, listen: bool) -> None:
        """Returns where nothing speaks against the certificate. Raises _HungUp, TimeoutError, or OSError (SSLError is one)."""
        async with asyncio.timeout(CONNECT_S):
            await self._until(self._tls.do_handshake)
        if listen:
            with suppress(TimeoutError):  # it has nothing against us
                async with asyncio.timeout(LISTEN_S):
                    await self._until(lambda: self._tls.read(1))

    def told(self, problem: str) -> Told:
        """A word, or none, that came before the certificate was shown is not about it; nor is silence."""
        refused = self._flights > 1 and (ALERT in problem or problem == HUNG_UP)
        return Told("refused" if refused else "unreachable", word_of(problem), problem)

    async def _until(self, step: Callable[[], object]) -> None:
        for _ in range(READS_MAX):
            try:
                step()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except ssl.SSLZeroReturnError as error:
                raise _HungUp(HUNG_UP) from error
            else:
                await self._send()
                return
        raise _HungUp(f"no handshake in {READS_MAX} reads")

    async def _send(self) -> None:
        if content := self._going.read():
            self._flights += 1
            with suppress(ConnectionError):  # why it hung up may still be read
                await self._loop.sock_sendall(self._sock, content)

    async def _receive(self) -> None:
        try:
            content = await self._loop.sock_recv(self._sock, READ_BYTES)
        except ConnectionError as error:
            raise _HungUp(HUNG_UP) from error
        if not content:
            raise _HungUp(HUNG_UP)
        self._coming.write(content)
