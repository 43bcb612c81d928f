"""Tries a certificate at the broker, beside whatever connection there is, and tells what the other side said of it.

TLS, CONNECT under an id nobody else has, welcome or refusal, goodbye; no session is left behind
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from agent.errors import NoLink
from agent.link.mqtt.connection import Connection
from agent.ports import LinkSettings

Word = Literal["", "expired", "revoked"]

ALERTS: dict[str, Word] = {"ALERT_CERTIFICATE_EXPIRED": "expired", "ALERT_CERTIFICATE_REVOKED": "revoked"}
"""What OpenSSL calls the other side's words about our certificate. About theirs it says `verify failed`."""

ALERT = "_ALERT_"
"""Any of its words: it spoke TLS, and would not have us."""

HANGS_UP = "hangs up"
"""How a connection is told that ends between handshake and welcome."""

TRIES_MAX = 4
"""Where the broker hangs up: its reason may be overtaken on the way by the reset of the connection."""

REFUSES, BUSY = "the broker refuses", "Server"
"""How a CONNACK that is no welcome is told; some of them say that the broker is busy, which tells nothing of us."""


class Told(NamedTuple):
    """How it went."""

    result: Literal["taken", "refused", "unreachable"]
    word: Word = ""
    why: str = ""
    """One line; empty when taken."""


def word_of(problem: str) -> Word:
    """What the other side said of our certificate, found in a link's problem; empty where it said nothing of the kind."""
    return next((word for alert, word in ALERTS.items() if alert in problem), "")


async def tried(settings: LinkSettings, pair: Path, nonce: str) -> Told:
    """Connects with certificate and key in `pair` (PEM); `nonce`: up to 32 characters that nobody else has just now."""
    # "~" is in no name of a robot, so this id takes nobody's session.
    shown = replace(settings, certificate=pair, key=None, pair=None, steering=None)
    told = Told("unreachable")
    for _ in range(TRIES_MAX):
        told = await _once(shown, f"{settings.device[:30]}~{nonce}")
        if told.result == "taken" or told.word or HANGS_UP not in told.why:
            break
    return told


async def _once(settings: LinkSettings, client_id: str) -> Told:
    connection = Connection(settings, client_id, lambda _: None, 0)
    try:
        await connection.open([], 1)
    except NoLink as error:
        return _told(str(error))
    finally:
        await connection.close()
    return Told("taken")


def _told(problem: str) -> Told:
    refused = ALERT in problem or HANGS_UP in problem or (problem.startswith(REFUSES) and BUSY not in problem)
    return Told("refused" if refused else "unreachable", word_of(problem), problem)
