"""Enrols a robot: one-time token against API key, keys to believe, and a certificate for a key that was made here.

    key --request, with the token--> candidate --tried at the broker--> in use

Each step is on the disk before the next; after a power cut the same command with the same token goes on, within the token's life.
"""

from pathlib import Path
from typing import Any

from agent.clock import Settable
from agent.contract import certificates
from agent.contract.registration import Registered
from agent.enrolment.timekeeping import first_time
from agent.link.probe import Told, tried
from agent.profile import Profile
from agent.store import trust
from agent.store.pair import Pair
from agent.upload import Say, asking, introduced, locked, settings_of, told_of


async def enroll(  # noqa: PLR0917  as the command tells it
    profile: Profile, state: Path, token: str, authority: Path | None, clock: Settable, say: Say
) -> dict[str, Any]:
    """`{tenant, device, account, keys, operators, certificate}`: `certificate` is until when it is valid, empty where there is none.

    `authority`: PEM of whom to believe, else whom this robot believes. Takes the folder: raises LedgerBusy while a service runs,
    BadInput or NoLink in one line.
    """
    name = certificates.device_name(profile.device.tenant, profile.device.id)
    settings = asking(profile, state, authority, clock)
    lock = locked(state)
    try:
        pair = Pair(state)
        csr = certificates.request(name, pair.key()).decode()
        await first_time(settings, clock)
        told = await introduced(settings, state, token, clock, csr)
        if told.certificate is None:
            say("the backend issues no certificates: over MQTT this robot needs one made elsewhere")
            if pair.stage == "key":
                pair.discard()  # else the service would ask for what there is not
        else:
            pair.take(told.certificate.encode(), name)
            await _put_to_use(profile, state, pair, clock, say)
        return _told(told, state, pair)
    finally:
        lock.release()


async def fared(profile: Profile, state: Path, pair: Pair, clock: Settable) -> Told:
    """How the candidate fares at the broker; where there is no broker nothing speaks against it."""
    endpoint = profile.sync.mqtt
    if endpoint is None or endpoint.plain:
        return Told("taken")
    settings = settings_of(profile, endpoint, state, trust.read(state).authority, clock)
    return await tried(settings, pair.candidate)


async def _put_to_use(profile: Profile, state: Path, pair: Pair, clock: Settable, say: Say) -> None:
    """Where one is in use already, only what the broker takes replaces it."""
    told = await fared(profile, state, pair, clock)
    if told.result != "taken":
        say(f"the broker does not take the certificate yet: {told.why}")
    if told.result == "taken" or pair.files() == (None, None):
        pair.promote()


def _told(told: Registered, state: Path, pair: Pair) -> dict[str, Any]:
    shown = pair.shown()
    until = shown.not_after.isoformat(timespec="seconds") if shown else ""
    return told_of(told) | {"operators": sorted(trust.read(state).operator_keys), "certificate": until}
