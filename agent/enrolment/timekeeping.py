"""Keeps the time where no time server does: asks the backend, which signs it, at the start and every few hours.

A robot without a battery wakes in 1970, when every certificate lies in the future. So the time is asked for first, past the dates of
certificates: the signature over a nonce proves more than they do.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from agent.clock import FLOOR, Settable, seeded
from agent.contract import certificates
from agent.errors import BadInput, NoLink, VoxmeterError
from agent.link.account import server_keys, server_time
from agent.link.retry import Backoff
from agent.ports import LinkSettings
from agent.profile import Profile
from agent.store import trust
from agent.upload import Say, settings_of

AGAIN_S = 6 * 3600.0
"""A cheap oscillator loses two seconds meanwhile."""

SPREAD = 0.25
"""By chance so much sooner or later, so that a fleet that was switched on together doesn't ask together."""

RETRY_MS_MAX = 10 * 60_000
"""Without the time a robot can't date its records, so it asks more often than for other things."""

NONCE_BYTES = 16

ROUND_TRIP_S_MAX = 10.0
"""An answer that took longer was held back by somebody; it is asked again."""

LOST = (NoLink, BadInput)


async def keep_time(profile: Profile, state: Path, clock: Settable, say: Say) -> None:
    """Until cancelled; nothing for a robot that has no backend over HTTPS, or is not registered. What fails is tried again."""
    chance, backoff = seeded(clock.seed()), Backoff(clock, most_ms=RETRY_MS_MAX)
    while profile.sync.https is not None:
        try:
            before = clock.quality()
            if await told_time(profile, state, clock) and before != "signed":
                say(f"the time is {clock.utc().isoformat(timespec='seconds')}, by the backend's word")
            backoff.reset()
            await clock.sleep(AGAIN_S * chance.uniform(1 - SPREAD, 1 + SPREAD))
        except (VoxmeterError, OSError):  # that the backend is away its link says
            await clock.sleep(backoff.next_ms() / 1000)


async def told_time(profile: Profile, state: Path, clock: Settable) -> bool:
    """Whether the backend's time was taken: not where the clock is synchronised, or nobody is known who could tell. Raises NoLink."""
    endpoint, known = profile.sync.https, trust.read(state)
    if clock.quality() == "ntp" or endpoint is None or not known.ack_keys:
        return False
    await _take(settings_of(profile, endpoint, state, known.authority, clock), known.ack_keys, clock)
    return True


async def first_time(settings: LinkSettings, clock: Settable) -> None:
    """Before a robot knows its backend: the time by the keys that a server of the right authority shows.

    What is trusted: whoever holds a key to a certificate of that authority for the backend's name, whatever its dates. So one who has
    an old certificate's key and stands in between may tell an earlier time, in which that certificate is good and what was revoked
    since is not; never one before FLOOR or before the youngest certificate in the authority's file, which was handed over just now.
    From the enrolment on the time is believed only from keys that it brought.

    Where nobody tells, or one that can't be, the robot goes on with its own. `settings`: of the backend over HTTPS.
    """
    if clock.quality() in ("ntp", "signed") or settings.plain:
        return
    try:
        earliest = certificates.begun(settings.authority) or FLOOR
        await _take(settings, await server_keys(settings), clock, max(earliest, FLOOR))
    except LOST:
        return


async def _take(settings: LinkSettings, trusted: Mapping[str, bytes], clock: Settable, earliest: datetime = FLOOR) -> None:
    asked = clock.monotonic()
    moment = await server_time(settings, clock.secret(NONCE_BYTES).hex(), trusted)
    took_s = clock.monotonic() - asked
    if took_s > ROUND_TRIP_S_MAX:
        raise NoLink(f"the time came after {took_s:.0f} s, which is too late", "try again")
    if moment < earliest:
        raise NoLink(f"the time is {moment:%Y-%m-%d}, which is over: it is {earliest:%Y-%m-%d} or later", "tell the backend's operator")
    clock.attest(moment + timedelta(seconds=took_s / 2))
