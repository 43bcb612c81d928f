"""Decides what becomes of a signed command: whether it is run, answered from the book, refused, or dropped.

The order of checks, each of which ends it:

    topic       the id it came under is its own               else dropped: wrong-topic
    audience    this robot, or one of its groups              else dropped: wrong-audience
    retained    the broker kept it: who knows since when      else refused: retained
    allow-list  the robot knows the op and may do it          else refused: unknown-op, not-allowed
    cached      the book has it: the same is answered, what only has its id is refused: forged
    sequence    above all that this key ever sent             else refused: replayed
    freshness   its span, by a clock that can be trusted      else refused or expired: too-long, from-the-future, expired
                issued since the book is whole, or with this
                connection's nonce                            else expired: stale
                this connection's nonce, without such a clock else expired: stale

Who signed is known before this. Nothing but `Run` is ever run.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from agent.clock import ClockQuality
from agent.contract.fleet.command import Command, audience_of, audience_of_group
from agent.ports import Known

TRUSTED_QUALITIES: tuple[ClockQuality, ...] = ("ntp", "signed")
"""Of a clock by which something may expire."""

LEEWAY_S = 30
"""Two clocks that are both kept by NTP differ by less."""

VALID_S_MAX = 14 * 24 * 3600
"""From `iat` to `exp`: as long as a broker keeps what is meant for a robot that is away. Shorter than results are kept."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom commands are for."""

    tenant: str
    device: str
    groups: Collection[str] = ()

    def is_meant(self, audience: str) -> bool:
        """Whether `aud` names this robot or one of its groups."""
        if audience == audience_of(self.tenant, self.device):
            return True
        return any(audience == audience_of_group(self.tenant, group) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as it came, after its signature was found good."""

    command: Command
    key_id: str
    request: bytes
    """The bytes that were signed."""
    topic_id: str
    """What stood behind `cmd/req/`."""
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the robot knows as it decides."""

    addressee: Addressee
    ops: Collection[str]
    """Those there are."""
    allowed: Collection[str]
    """Those this robot may do."""
    known: Known | None
    """What the book has under this id."""
    highest: int
    """The highest seq ever taken of this key."""
    now_s: float
    """Seconds since 1970, as the machine believes."""
    quality: ClockQuality
    nonce: str
    """Of this connection; empty: there is none."""
    floor_s: float = 0.0
    """What was issued before may have been taken, and be forgotten; in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Run:
    """It is new, meant for this robot, allowed and fresh."""

    command: Command


@dataclass(frozen=True, slots=True)
class Cached:
    """It is in the book already: whoever asks again gets what stands there."""

    known: Known


@dataclass(frozen=True, slots=True)
class Reject:
    """It is not run, and whoever sent it is told."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Expire:
    """The same: its time is over, or belongs to a connection that is."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Drop:
    """It is nothing to this robot: counted, and nobody is answered."""

    code: str
    message: str


Decision: TypeAlias = Run | Cached | Reject | Expire | Drop


def decide(asked: Asked, standing: Standing) -> Decision:
    """See the module."""
    return (
        _misdirected(asked, standing.addressee)
        or _barred(asked.command, standing)
        or _known(asked, standing.known)
        or _replayed(asked, standing.highest)
        or _stale(asked.command, standing)
        or Run(asked.command)
    )


def _misdirected(asked: Asked, addressee: Addressee) -> Decision | None:
    command = asked.command
    if asked.topic_id != command.cmd_id:
        return Drop("wrong-topic", f"command {command.cmd_id} came under another id")
    if not addressee.is_meant(command.aud):
        return Drop("wrong-audience", f"command {command.cmd_id} is for {command.aud}")
    if asked.retained:
        return Reject("retained", "it was retained by the broker; publish commands without the retain flag")
    return None


def _barred(command: Command, standing: Standing) -> Decision | None:
    if command.op not in standing.ops:
        return Reject("unknown-op", f"this robot knows no {command.op!r}")
    if command.op not in standing.allowed:
        return Reject("not-allowed", f"this robot's profile does not allow {command.op!r}")
    return None


def _known(asked: Asked, known: Known | None) -> Decision | None:
    """Nobody is given the result of something else."""
    if known is None:
        return None
    same = (known.key_id, known.seq, known.op, known.request) == (asked.key_id, asked.command.seq, asked.command.op, asked.request)
    return Cached(known) if same else Reject("forged", f"another command has the id {known.cmd_id}")


def _replayed(asked: Asked, highest: int) -> Decision | None:
    if asked.command.seq > highest:
        return None
    why = f"seq {asked.command.seq} is not above {highest}, the last of key {asked.key_id}"
    return Reject("replayed", f"{why}; if it was refused for want of room, send it anew with a new seq")


def _stale(command: Command, standing: Standing) -> Decision | None:
    if command.exp - command.iat > VALID_S_MAX:
        return Reject("too-long", f"it is valid for {command.exp - command.iat} s; the most is {VALID_S_MAX}")
    new = bool(standing.nonce) and command.session_nonce == standing.nonce
    if standing.quality not in TRUSTED_QUALITIES:
        why = "this robot has no clock to trust and takes only commands with the nonce of its present connection"
        return None if new else Expire("stale", why)
    if command.iat > standing.now_s + LEEWAY_S:
        return Reject("from-the-future", f"it was issued {command.iat - standing.now_s:.0f} s from now; set the clock of who signs")
    if over := late(command, standing.now_s, standing.quality):
        return over
    if command.iat < standing.floor_s and not new:
        return Expire("stale", "it was issued before this robot's present book of commands began: it may have been done; send it anew")
    return None


def late(command: Command, now_s: float, quality: ClockQuality) -> Expire | None:
    """Whether its time is over, as far as that can be told. One that had to wait is asked again before it is begun."""
    if quality in TRUSTED_QUALITIES and command.exp + LEEWAY_S < now_s:
        return Expire("expired", f"it expired {now_s - command.exp:.0f} s ago")
    return None
